"""S2L's rule for scribbles (D16, `skeleton`): pieces of skeletons of foreground and background."""

import numpy as np
import skimage  # whose parts are loaded when they are used
from scipy import ndimage

from s2l_core.config import seed_for
from s2l_core.metrics import EIGHT
from s2l_images.strokes import Stroke, render
from s2l_paper.scribbles.brush import checked, on_grid
from s2l_paper.scribbles.shipped import share_of

JUMP = 8  # pixels between the nearest nuclear pixels of two neighbours on the background skeleton
NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))


def skeleton_scribbles(instances: np.ndarray, share: float, seed: int) -> np.ndarray:
    """`skeleton_strokes` rendered to `(H, W)` uint8 of 0, 1 and IGNORE."""
    return render(skeleton_strokes(instances, share, seed), instances.shape)


def skeleton_strokes(instances: np.ndarray, share: float, seed: int) -> list[Stroke]:
    """Skeletons of foreground and background, one pixel wide (Lee and Jeong 2020).

    The background skeleton is cut at its junctions. ceil(share * pieces) random pieces of the
    foreground are kept, and as many of the background (or all). Shares are nested; an image
    without nuclei has no strokes. A branched piece is one stroke that goes back along its branches;
    rendering gives the very pixels of the skeleton.
    """
    strokes, count = [], 0
    foreground = skimage.morphology.skeletonize(checked(instances) > 0)
    for label, skeleton in ((1, foreground), (0, background_skeleton(instances))):
        pieces, number = ndimage.label(skeleton, EIGHT)
        boxes = ndimage.find_objects(pieces)
        if label == 1:
            count = share_of(share, number)

        order = np.random.default_rng(seed_for(seed, "skeleton", label)).permutation(number)
        for k in order[:count]:
            corner = [side.start for side in boxes[k]]
            strokes.append(_trace(pieces[boxes[k]] == k + 1, label, corner))
    return strokes


def background_skeleton(instances: np.ndarray) -> np.ndarray:
    """Medial axis of the background of the mask mirrored past the border, without its junctions.

    Neighbours lie on it if their nearest nuclear pixels lie JUMP apart (thinning would take 1-4 s
    here). A mirrored nucleus is never nearer than its original, so that mirroring adds just the
    border, where pixels meet their mirror images: without it a few percent of the outermost pixels
    would be on a skeleton, with it most are (notebook 02).
    """
    background = instances == 0
    if background.all():
        return ~background
    nearest = ndimage.distance_transform_edt(
        background, return_distances=False, return_indices=True
    )  # (2, H, W)
    axis = np.zeros(background.shape, bool)
    axis[:-1] |= (np.diff(nearest, axis=1) ** 2).sum(0) >= JUMP**2
    axis[:, :-1] |= (np.diff(nearest, axis=2) ** 2).sum(0) >= JUMP**2

    # A pixel of the border meets its mirror image across twice its distance to the border.
    for view, (rows, _) in ((axis, nearest), (axis.T, nearest[::-1].transpose(0, 2, 1))):
        view[0] |= 2 * rows[0] >= JUMP
        view[-1] |= 2 * (len(view) - 1 - rows[-1]) >= JUMP

    axis = skimage.morphology.skeletonize(axis & background)
    neighbours = ndimage.convolve(axis.astype(np.uint8), EIGHT, mode="constant")  # with itself
    return axis & (neighbours <= 3)


def _trace(piece: np.ndarray, label: int, corner) -> Stroke:
    """One stroke of width 1 over all pixels of a connected piece; it goes back along branches."""
    # It begins at a pixel with the fewest neighbours: an end, where there is one.
    ends = ndimage.convolve(piece.astype(np.uint8), EIGHT, mode="constant") + 9 * ~piece
    way = [np.unravel_index(ends.argmin(), piece.shape)]
    path, left = way[:], set(map(tuple, np.argwhere(piece).tolist())) - {way[0]}
    while left:
        row, column = way[-1]
        around = [(row + down, column + right) for down, right in NEIGHBOURS]
        ahead = next((pixel for pixel in around if pixel in left), None)
        if ahead:
            way.append(ahead)
        else:
            way.pop()
        left.discard(way[-1])
        path.append(way[-1])

    # Points on a straight line say nothing: the ends stay, and where the way turns.
    points = np.array(path)  # (N, 2)
    stays = np.ones(len(points), bool)
    stays[1:-1] = (np.diff(points, 2, axis=0) != 0).any(axis=1)
    return on_grid(label, 1.0, points[stays], corner)
