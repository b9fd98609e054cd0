"""Who draws the scribbles (D16): a simulated annotator, or S2L's skeleton rule."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import skimage  # whose parts are loaded when they are used
from scipy import ndimage
from skimage.measure import find_contours

from s2l_core.config import IGNORE, RunConfig, S2LError, seed_for
from s2l_core.profiles import REAL
from s2l_images.strokes import UNIT, Stroke, covered, read_strokes, render
from s2l_paper import paths
from s2l_paper.look_alikes import lines_through, look_alikes

SHIPPED_BUDGET = 0.3
# Which of eight background strokes an attentive annotator draws through a look-alike. A blind one draws border, arc,
# gap, arc, wander, arc, gap, arc: what goes is every second arc, and the stroke that wanders, mostly over empty glass.
LOOK_ALIKE_TURNS = (1, 4, 5)
CLEAR = 2.0  # distance between the pixels of a background stroke and nuclear pixels: one free pixel or more
JUMP = 8  # pixels between the nearest nuclear pixels of two neighbours on the background skeleton
EIGHT = np.ones((3, 3), np.uint8)  # a pixel and its eight neighbours
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
TURNS = np.array(
    [0.0, -0.35, 0.35, -0.7, 0.7, -1.1, 1.1]
)  # radians a wandering stroke may turn in a step


def skeleton_scribbles(instances: np.ndarray, share: float, seed: int) -> np.ndarray:
    """`skeleton_strokes` rendered to `(H, W)` uint8 of 0, 1 and IGNORE."""
    return render(skeleton_strokes(instances, share, seed), instances.shape)


def skeleton_strokes(instances: np.ndarray, share: float, seed: int) -> list[Stroke]:
    """S2L's rule (Lee and Jeong 2020): skeletons of foreground and background, one pixel wide (D16, `skeleton`).

    The background skeleton is cut at its junctions; ceil(share * pieces) random pieces of the foreground are kept, and
    as many of the background (or all). Shares are nested; no nuclei: no strokes. A branched piece is one stroke that
    goes back along its branches; rendering gives the very pixels of the skeleton.
    """
    strokes, count = [], 0
    foreground = skimage.morphology.skeletonize(_checked(instances) > 0)
    for label, skeleton in ((1, foreground), (0, background_skeleton(instances))):
        pieces, number = ndimage.label(skeleton, EIGHT)
        boxes = ndimage.find_objects(pieces)
        count = _share(share, number) if label else count
        order = np.random.default_rng(seed_for(seed, "skeleton", label)).permutation(number)[:count]
        strokes += [
            _trace(pieces[boxes[k]] == k + 1, label, [s.start for s in boxes[k]]) for k in order
        ]
    return strokes


def background_skeleton(instances: np.ndarray) -> np.ndarray:
    """Medial axis of the background of the mask mirrored past the border, without its junctions.

    Neighbours lie on it if their nearest nuclear pixels lie JUMP apart (thinning would take 1-4 s here). A mirrored
    nucleus is never nearer than its original, so that mirroring adds just the border, where pixels meet their mirror
    images: without it a few percent of the outermost pixels would be on a skeleton, with it most are (notebook 02).
    """
    background = instances == 0
    if background.all():
        return ~background
    nearest = ndimage.distance_transform_edt(
        background, return_distances=False, return_indices=True
    )
    axis = np.zeros(background.shape, bool)
    axis[:-1] |= (np.diff(nearest, axis=1) ** 2).sum(0) >= JUMP**2
    axis[:, :-1] |= (np.diff(nearest, axis=2) ** 2).sum(0) >= JUMP**2
    for view, (rows, _) in ((axis, nearest), (axis.T, nearest[::-1].transpose(0, 2, 1))):
        view[0] |= 2 * rows[0] >= JUMP
        view[-1] |= 2 * (len(view) - 1 - rows[-1]) >= JUMP
    axis = skimage.morphology.skeletonize(axis & background)
    return axis & (ndimage.convolve(axis.astype(np.uint8), EIGHT, mode="constant") <= 3)


def _trace(piece: np.ndarray, label: int, corner) -> Stroke:
    """One stroke of width 1 over all pixels of a connected piece; it goes back along branches."""
    ends = ndimage.convolve(piece.astype(np.uint8), EIGHT, mode="constant") + 9 * ~piece
    way = [np.unravel_index(ends.argmin(), piece.shape)]
    path, left = way[:], set(map(tuple, np.argwhere(piece).tolist())) - {way[0]}
    while left:
        row, column = way[-1]
        ahead = next((pixel for y, x in STEPS if (pixel := (row + y, column + x)) in left), None)
        if ahead:
            way.append(ahead)
        else:
            way.pop()
        left.discard(way[-1])
        path.append(way[-1])
    bends = (np.diff(path, 2, axis=0) != 0).any(1)
    return _stroke(label, 1.0, np.array(path)[np.r_[True, bends, True][-len(path) :]], corner)


class SimulatedAnnotator:
    """Draws as a person would: a stroke in each chosen nucleus, and as many through the background (D16).

    Nuclei are put into a random order that depends on seed and image alone; `budget` takes the first
    ceil(budget * nuclei), at least one, so that budgets are nested. The k-th nucleus brings a foreground stroke (along
    its long axis, until 1-2 px from its outline; a dot where there is no room) and the k-th background stroke: the
    first comes in from the image border; then in turn an arc along the nucleus's outline, a stroke in the gap to a
    neighbour, another arc, a long one (every second from the border). Where a kind has no room the next is tried; where
    none fits, the background stroke is passed over. An image without nuclei gets one background stroke.

    No pixel of a foreground stroke leaves its nucleus; those of background strokes are at least 2 px (centre to centre)
    from every nucleus. Each seed is another person: brush, shakiness and reach differ.

    A blind annotator (the default) places background strokes by the mask alone. An `attentive` one looks at the image:
    the same strokes in the same number, but three of eight background strokes (`LOOK_ALIKE_TURNS`) run through what
    could be taken for a nucleus, largest areas first. Where an image has no more of these the blind stroke stays.
    """

    def __init__(self, seed: int, budget: float = 0.3, attentive: bool = False):
        if not 0 < budget <= 1:
            raise S2LError(
                f"budget = {budget!r}: expected a share of nuclei above 0, at most 1. Change budget."
            )
        self.seed, self.budget, self.attentive = int(seed), budget, attentive
        self.brush, self.shake, self.tip = self._rng("style").uniform(
            (0.09, 0.3, 0.8), (0.13, 0.6, 1.4)
        )

    def _rng(self, *purpose) -> np.random.Generator:
        return np.random.default_rng(seed_for(self.seed, "scribbles", *purpose))

    def draw(
        self, instances: np.ndarray, key: str = "", image: np.ndarray | None = None
    ) -> np.ndarray:
        """`strokes` rendered to `(H, W)` uint8 of 0, 1 and IGNORE."""
        return render(self.strokes(instances, key, image), instances.shape)

    def strokes(
        self, instances: np.ndarray, key: str = "", image: np.ndarray | None = None
    ) -> list[Stroke]:
        """Strokes of one image in order of drawing.

        Args:
            instances: (H, W) integer, 0 = background.
            key: names the image; another name, another draw.
            image: (H, W, 3) uint8, which only an attentive annotator looks at.

        Raises:
            S2LError: instances of another kind, or an attentive annotator without an image.
        """
        areas = np.bincount(_checked(instances).ravel(), minlength=1)
        if self.attentive:
            _check_image(image, instances)
        labels, clear = np.flatnonzero(areas[1:]) + 1, _distance(instances == 0)
        boxes = ndimage.find_objects(instances) or [
            tuple(slice(0, size) for size in instances.shape)
        ]
        size = math.sqrt(np.median(areas[labels])) if len(labels) else 20
        width = min(max(round(2 * self.brush * size) / 2, 1.0), 3.0)

        # Those chosen at a smaller budget come first, and are the same at a larger one.
        order = self._rng(key, "order").permutation(labels)[: _share(self.budget, len(labels))]
        if not len(order):
            stroke = self._wander(boxes[0], clear, width, self._rng(key, 0, 0), True)
            return [stroke] if stroke else []

        noticed = self._noticed(image, instances, clear, width, key)
        strokes = []
        for k, label in enumerate(order):
            box = boxes[label - 1]
            strokes.append(self._inside(instances, label, box, width, self._rng(key, k, 1)))
            rng = self._rng(key, k, 0)
            outside = self._outside(k, instances, label, box, clear, width, rng)

            # An attentive annotator draws neither more nor fewer strokes than a blind one.
            if outside and k % 8 in LOOK_ALIKE_TURNS:
                outside = next(noticed, outside)
            if outside:
                strokes.append(outside)
        return strokes

    def _noticed(self, image, instances, clear, width, key) -> Iterator[Stroke]:
        """Strokes through what could be taken for a nucleus, the first worth most; a blind annotator sees none."""
        if not self.attentive:
            return
        room = clear >= CLEAR + width / 2 + 0.5
        for number, line in enumerate(lines_through(look_alikes(image, instances) & room)):
            # A hand follows the middle of a dark fold, not each turn of its skeleton.
            path = ndimage.gaussian_filter1d(line.astype(float), 3, axis=0, mode="nearest")
            path += self.shake * _smooth(self._rng(key, "look-alike", number), path.shape, 5)
            if stroke := _fit(0, width, path, clear, CLEAR, 6):
                yield stroke

    def _inside(self, instances, label, box, width, rng) -> Stroke:
        """A stroke through the nucleus along its long axis, thinner or a dot in small ones."""
        crop, corner = _grow(box, 1, instances.shape)
        depth = _distance(instances[crop] == label)
        tip = self.tip + rng.uniform(0, 0.8)
        for brush, limit in ((width, tip), (1.0, tip), (1.0, 1.0)):
            path = _long_axis(depth, rng, self.shake * max(depth.max() - brush / 2 - limit, 0))
            if stroke := _fit(1, brush, path, depth, limit, corner=corner):
                return stroke
        return _stroke(1, 1.0, [np.unravel_index(depth.argmax(), depth.shape)], corner)

    def _outside(self, k, instances, label, box, clear, width, rng) -> Stroke | None:
        """The k-th background stroke."""
        for kind in (
            ("arc", "gap", "arc", "wander")[(k - 1) % 4] if k else "border",
            "arc",
            "wander",
        ):
            for brush in (width, 1.0):
                if kind in ("arc", "gap"):
                    stroke = getattr(self, f"_{kind}")(instances, label, box, clear, brush, rng)
                else:
                    stroke = self._wander(box, clear, brush, rng, border=k % 8 == 0)
                if stroke:
                    return stroke
        return None

    def _arc(self, instances, label, box, clear, width, rng) -> Stroke | None:
        """A stroke along part of the nucleus's outline, about 1.5-3 px outside it."""
        crop, corner = _grow(box, 8, instances.shape)
        own, level = _distance(instances[crop] != label), CLEAR + width / 2 + rng.uniform(0.2, 1.2)
        lines = [
            _longest(line, _at(own, line) < level + 1) for line in find_contours(clear[crop], level)
        ]
        line = max(lines, key=len, default=())
        if len(line) < 5:
            return None
        count = int(len(line) * rng.uniform(0.4, 0.9))
        first = rng.integers(len(line) - count + 1)
        line = ndimage.gaussian_filter1d(line, 1.5, axis=0, mode="nearest")[first : first + count]
        return _fit(
            0,
            width,
            line + 0.5 * self.shake * _smooth(rng, (count, 2), 5) + corner,
            clear,
            CLEAR,
            6,
        )

    def _gap(self, instances, label, box, clear, width, rng) -> Stroke | None:
        """A short stroke that separates the nucleus from the nearest neighbour with room between, if within 20 px."""
        crop, corner = _grow(box, 20, instances.shape)
        own, nearest = ndimage.distance_transform_edt(instances[crop] != label, return_indices=True)
        far = np.where((instances[crop] > 0) & (own >= 2 * CLEAR + width), own, np.inf)
        there = np.unravel_index(far.argmin(), far.shape)
        if far[there] > 20:
            return None
        here = nearest[:, *there]
        length = rng.uniform(0.25, 0.5) * np.hypot(*(s.stop - s.start for s in box))
        along = (
            np.linspace(-length, length, 32)[:, None] / far[there] * (here - there)[::-1] * (1, -1)
        )
        path = (here + np.array(there)) / 2 + along + self.shake * _smooth(rng, (32, 2), 8)
        return _fit(0, width, path + corner, clear, CLEAR, 4)

    def _wander(self, box, clear, width, rng, border: bool) -> Stroke | None:
        """A long stroke, from the image border towards the nucleus or from beside the nucleus to anywhere."""
        crop, corner = _grow(box, max(clear.shape) if border else 24, clear.shape)
        room, field = width / 2 + CLEAR + 0.5, clear[crop].copy()
        field[1:-1, 1:-1] *= not border
        starts = np.argwhere(field >= room) + corner
        for start in starts[rng.integers(len(starts), size=8)] if len(starts) else ():
            towards = np.array([(s.start + s.stop) / 2 for s in box]) - start
            heading = (
                math.atan2(towards[1], towards[0])
                + rng.uniform(-0.6, 0.6)
                + (0 if border else math.pi)
            )
            path = _walk(clear, start, heading, room, rng.uniform(0.1, 0.3) * sum(clear.shape), rng)
            if stroke := _fit(0, width, path, clear, CLEAR, 10, anchored=border):
                return stroke
        return None


def _walk(clear, start, heading, room, length, rng, step=4.0) -> np.ndarray:
    """Walks with momentum, turning away from nuclei, for `length` px or until it leaves the image or is stuck."""
    path, drift, first, last = [start], 0.0, heading, np.array(clear.shape) - 1
    for noise in rng.normal(0, 0.1, int(length / step)):
        drift = 0.7 * drift + noise
        angles = heading + drift + TURNS
        ahead = step * np.stack([np.cos(angles), np.sin(angles)], 1)
        seen = np.rint(path[-1] + np.stack([ahead, 2.5 * ahead])).clip(0, last).astype(int)
        free = clear[seen[..., 0], seen[..., 1]].min(0)
        score = np.minimum(free, 8) - 6 * np.abs(TURNS)
        score[
            (free < room) | (np.abs(angles - first) > 2.2)
        ] = -np.inf  # a limit on turning: no loops
        best = score.argmax()
        if score[best] == -np.inf:
            break
        heading = heading + TURNS[best] + drift
        path.append((path[-1] + ahead[best]).clip(0, last))
        if (path[-1] != path[-2] + ahead[best]).any():
            break
    path = np.array(path, float)
    path[1:-1] = ndimage.gaussian_filter1d(path, 1.0, axis=0, mode="nearest")[
        1:-1
    ]  # ends at the border stay there
    return ndimage.zoom(path, (2 - 1 / len(path), 1), order=1)


def _long_axis(depth: np.ndarray, rng, sway: float) -> np.ndarray:
    """A path along the long axis of a nucleus, through its middle weighted by depth, swaying sideways."""
    pixels, weights = np.argwhere(depth), depth[depth > 0] ** 2
    centre = pixels.mean(0)
    rows, columns = (pixels - centre).T
    angle = 0.5 * math.atan2(2 * np.mean(rows * columns), np.mean(rows**2) - np.mean(columns**2))
    axis = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    along, side = axis @ (pixels - centre).T
    index = (along - along.min()).astype(int)
    sums = ndimage.gaussian_filter1d(
        [np.bincount(index, weights), np.bincount(index, weights * side)], 2, axis=1
    )
    count = sums.shape[1]
    side = sums[1] / (sums[0] + 1e-9) + sway * _smooth(rng, count, max(count / 5, 3))
    return centre + np.stack([along.min() + 0.5 + np.arange(count), side], 1) @ axis


def _fit(
    label, width, path, field, limit, shortest=0.0, anchored=False, corner=(0, 0)
) -> Stroke | None:
    """The longest piece of a path (`anchored`: that at its start) whose pixels all have `field` >= `limit`.

    `field` is a distance map whose first pixel is the image's `corner`. None: no piece of `shortest` px fits.
    """
    keep = _at(field, path) >= limit + width / 2
    for _ in range(6):
        path = _longest(path, np.logical_and.accumulate(keep) if anchored else keep)
        if len(path) < 2 or np.hypot(*np.diff(path, axis=0).T).sum() < shortest:
            return None
        stroke = _stroke(label, width, _simplify(path), (0, 0))
        pixels = np.stack(covered(stroke, field.shape), 1)
        wrong = pixels[field[tuple(pixels.T)] < limit]
        if not len(wrong):
            return _stroke(label, width, stroke.points, corner) if len(pixels) else None
        keep = ((path[:, None] - wrong) ** 2).sum(2).min(1) > (width / 2 + 0.5) ** 2
    return None


def _stroke(label: int, width: float, points, corner) -> Stroke:
    """A stroke on the quarter-pixel grid, moved by `corner`; repeated points are dropped."""
    points = np.rint((np.asarray(points, float) + corner) / UNIT) * UNIT
    points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(1)]]
    return Stroke(label, width, tuple(map(tuple, points.tolist())))


def _simplify(path: np.ndarray, bend: float = 0.3) -> np.ndarray:
    """Keeps the ends of a path and one point for each `bend` radians that it turns."""
    heading = ndimage.gaussian_filter1d(np.unwrap(np.arctan2(*np.diff(path, axis=0).T)), 1.5) / bend
    return path[np.r_[0, 1 + np.flatnonzero(np.diff(np.floor(heading))), len(path) - 1]]


def _longest(path: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The longest run of points marked in `keep`."""
    edges = np.flatnonzero(np.diff(np.r_[0, keep, 0]))
    first = 2 * int(np.argmax(edges[1::2] - edges[::2])) if len(edges) else None
    return path[:0] if first is None else path[edges[first] : edges[first + 1]]


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values of a field at (row, column) points."""
    return ndimage.map_coordinates(field, points.T, order=1, mode="nearest")


def _smooth(rng, shape, sigma: float) -> np.ndarray:
    """Smooth noise along the first axis, between -1 and 1."""
    noise = ndimage.gaussian_filter1d(rng.normal(size=shape), sigma, axis=0, mode="wrap")
    return noise / (np.abs(noise).max() + 1e-9)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of a mask to the nearest pixel outside it; the image border does not count as outside."""
    return (
        np.full(mask.shape, float(sum(mask.shape)))
        if mask.all()
        else ndimage.distance_transform_edt(mask)
    )


def _grow(box, margin: int, shape) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """A box grown by a margin inside the image, and its first pixel."""
    grown = tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n))
        for s, n in zip(box, shape, strict=True)
    )
    return grown, (grown[0].start, grown[1].start)


def _share(share: float, count: int) -> int:
    """ceil(share * count), at least one of those there are; free of the rounding that makes 0.1 * 30 exceed 3."""
    return min(count, max(1, math.ceil(share * count - 1e-9)))


def _checked(instances: np.ndarray) -> np.ndarray:
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        raise S2LError(
            f"instances: {instances.dtype} {instances.shape}; expected (H, W) integers, 0 = background."
        )
    return instances


def _check_image(image: np.ndarray | None, instances: np.ndarray) -> None:
    expected = (*instances.shape, 3)
    if image is None:
        raise S2LError(
            f"image: none given, and an attentive annotator looks at it. Pass {expected}."
        )
    if image.shape != expected or image.dtype != np.uint8:
        raise S2LError(f"image: {image.dtype} {image.shape}; expected uint8 {expected}.")


def strokes_of(
    annotator: int | str, budget: float, key: str, image: np.ndarray, instances: np.ndarray
) -> list[Stroke]:
    """Strokes of one image by an annotator as configurations name them: a number, `attentive-1`, or `skeleton`.

    Args:
        annotator: `RunConfig.annotator`.
        budget: share of nuclei that get a stroke.
        key: names the image.
        image: (H, W, 3) uint8.
        instances: (H, W) integer, 0 = background.
    """
    if annotator == "skeleton":  # another seed of training draws no other strokes
        return skeleton_strokes(instances, budget, seed_for(0, "skeleton", key))
    kind, _, number = str(annotator).rpartition("-")
    person = SimulatedAnnotator(int(number), budget, attentive=kind == "attentive")
    return person.strokes(instances, key, image)


def scribbles_of(config: RunConfig, images: Sequence) -> dict[str, np.ndarray]:
    """Scribbles (H, W) uint8 {0, 1, IGNORE} of every image: its own, the shipped strokes, or simulated ones.

    Args:
        config: dataset, annotator and budget count.
        images: CellImages; those that bring `scribbles` keep them.

    Raises:
        S2LError: an image has no scribble at all, or lacks both scribbles and the masks to simulate them from.
    """
    file = paths.scribble_file(config.dataset, config.annotator)
    use_shipped = config.dataset in REAL and config.budget == SHIPPED_BUDGET and file.exists()
    shipped = read_strokes(file) if use_shipped else {}
    drawn = {}
    for image in images:
        if image.scribbles is not None:
            drawn[image.id] = image.scribbles
        elif image.instances is None:
            raise S2LError(
                f"{image.id}: neither scribbles nor masks to draw them from. Draw some, or leave it out."
            )
        elif image.id in shipped:
            drawn[image.id] = render(shipped[image.id], image.image.shape[:2])
        else:
            strokes = strokes_of(
                config.annotator, config.budget, image.id, image.image, image.instances
            )
            drawn[image.id] = render(strokes, image.instances.shape)
        if (drawn[image.id] == IGNORE).all():
            raise S2LError(
                f"{image.id}: no pixel carries a scribble. Draw at least one stroke, or leave it out."
            )
    return drawn
