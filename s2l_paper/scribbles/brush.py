"""A line as a hand with a brush draws it: smooth, shaky, along a nucleus or past all of them, and
cut to where there is room.
"""

import math

import numpy as np
from scipy import ndimage

from s2l_core.config import S2LError
from s2l_images.strokes import UNIT, Stroke, covered

WAYS_AHEAD = np.array([0.0, -0.35, 0.35, -0.7, 0.7, -1.1, 1.1])  # radians a walk may turn in a step


def fit(
    label: int,
    width: float,
    path: np.ndarray,
    field: np.ndarray,
    limit: float,
    *,
    shortest: float = 0.0,
    anchored: bool = False,
    corner: tuple[int, int] = (0, 0),
) -> Stroke | None:
    """The longest piece of a path whose pixels all have `field` >= `limit`, as a stroke.

    Args:
        label: 0 or 1.
        width: of the brush, in pixels.
        path: (N, 2) rows and columns.
        field: (H, W) distances, whose first pixel is the image's `corner`.
        limit: the distance that every pixel of the stroke keeps.
        shortest: pixels; None is returned where no piece is as long.
        anchored: take the piece at the start of the path, however short.
        corner: moves the stroke.
    """
    keep = at(field, path) >= limit + width / 2
    for _ in range(6):
        if anchored:
            keep = np.logical_and.accumulate(keep)
        path = longest(path, keep)
        if len(path) < 2 or np.hypot(*np.diff(path, axis=0).T).sum() < shortest:
            return None

        stroke = on_grid(label, width, _simplified(path), (0, 0))
        pixels = np.stack(covered(stroke, field.shape), 1)  # (P, 2)
        wrong = pixels[field[tuple(pixels.T)] < limit]
        if not len(wrong):
            return on_grid(label, width, stroke.points, corner) if len(pixels) else None
        # A bend left out brought the brush too near: go on without the points around there.
        keep = ((path[:, None] - wrong) ** 2).sum(2).min(1) > (width / 2 + 0.5) ** 2
    return None


def on_grid(label: int, width: float, points, corner=(0, 0)) -> Stroke:
    """A stroke on the quarter-pixel grid, moved by `corner`; repeated points are dropped."""
    points = np.rint((np.asarray(points, float) + corner) / UNIT) * UNIT
    points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(1)]]
    return Stroke(label, width, tuple(map(tuple, points.tolist())))


def _simplified(path: np.ndarray, bend: float = 0.3) -> np.ndarray:
    """Keeps the ends of a path (N, 2) and one point for each `bend` radians that it turns."""
    down, right = np.diff(path, axis=0).T  # (N - 1,) each
    heading = np.unwrap(np.arctan2(down, right))
    turned = ndimage.gaussian_filter1d(heading, 1.5) / bend
    bends = 1 + np.flatnonzero(np.diff(np.floor(turned)))
    return path[np.r_[0, bends, len(path) - 1]]


def longest(path: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The longest run of points marked in `keep`."""
    edges = np.flatnonzero(np.diff(np.r_[0, keep, 0]))
    if not len(edges):
        return path[:0]
    first = 2 * int(np.argmax(edges[1::2] - edges[::2]))
    return path[edges[first] : edges[first + 1]]


def at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values of a field at (row, column) points."""
    return ndimage.map_coordinates(field, points.T, order=1, mode="nearest")


def smooth(rng: np.random.Generator, shape, sigma: float) -> np.ndarray:
    """Smooth noise along the first axis, between -1 and 1."""
    noise = ndimage.gaussian_filter1d(rng.normal(size=shape), sigma, axis=0, mode="wrap")
    return noise / (np.abs(noise).max() + 1e-9)


def distance(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of a mask to the nearest pixel outside of it.

    The image border does not count as outside.
    """
    if mask.all():
        return np.full(mask.shape, float(sum(mask.shape)))
    return ndimage.distance_transform_edt(mask)


def grow(box, margin: int, shape) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """A box grown by a margin inside the image, and its first pixel."""
    sides = []
    for side, size in zip(box, shape, strict=True):
        sides.append(slice(max(side.start - margin, 0), min(side.stop + margin, size)))
    return tuple(sides), (sides[0].start, sides[1].start)


def checked(instances: np.ndarray) -> np.ndarray:
    """The instances.

    Raises:
        S2LError: they are no (H, W) integers from 0.
    """
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        found = f"{instances.dtype} {instances.shape}"
        raise S2LError(f"instances: {found}; expected (H, W) integers, 0 = background.")
    return instances


def walk(
    clear: np.ndarray,
    start: np.ndarray,
    heading: float,
    room: float,
    length: float,
    rng: np.random.Generator,
    step: float = 4.0,
) -> np.ndarray:
    """A path (N, 2) that walks with momentum, turning away from nuclei.

    It ends after `length` px, or where the image ends, or where there is no room ahead.

    Args:
        clear: (H, W), distance from the nearest nucleus.
        start: row and column.
        heading: radians; 0 is down the rows.
        room: distance from nuclei that every step keeps.
        length: pixels.
        rng: decides how it sways.
        step: pixels.
    """
    path, drift, first, last = [start], 0.0, heading, np.array(clear.shape) - 1
    for noise in rng.normal(0, 0.1, int(length / step)):
        drift = 0.7 * drift + noise
        angles = heading + drift + WAYS_AHEAD
        ahead = step * np.stack([np.cos(angles), np.sin(angles)], 1)  # (7, 2)

        # How free each way is one step ahead, and two and a half.
        seen = np.rint(path[-1] + np.stack([ahead, 2.5 * ahead])).clip(0, last).astype(int)
        free = clear[seen[..., 0], seen[..., 1]].min(0)
        score = np.minimum(free, 8) - 6 * np.abs(WAYS_AHEAD)
        turned = np.abs(angles - first) > 2.2  # no loops
        score[(free < room) | turned] = -np.inf
        best = score.argmax()
        if score[best] == -np.inf:
            break

        heading = heading + WAYS_AHEAD[best] + drift
        path.append((path[-1] + ahead[best]).clip(0, last))
        if (path[-1] != path[-2] + ahead[best]).any():
            break

    # Smooth, but for the ends: what begins or ends at the border stays there.
    path = np.array(path, float)
    path[1:-1] = ndimage.gaussian_filter1d(path, 1.0, axis=0, mode="nearest")[1:-1]
    return ndimage.zoom(path, (2 - 1 / len(path), 1), order=1)


def long_axis(depth: np.ndarray, rng: np.random.Generator, sway: float) -> np.ndarray:
    """A path (N, 2) along a nucleus's long axis through its middle, swaying sideways.

    Args:
        depth: (H, W), distance of the nucleus's pixels from its outline, by which the middle is
            weighted; 0 elsewhere.
        rng: decides how it sways.
        sway: pixels.
    """
    pixels, weights = np.argwhere(depth), depth[depth > 0] ** 2
    centre = pixels.mean(0)
    rows, columns = (pixels - centre).T
    angle = 0.5 * math.atan2(2 * np.mean(rows * columns), np.mean(rows**2) - np.mean(columns**2))
    axis = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    along, side = axis @ (pixels - centre).T

    # The mean sideways place at each pixel along the axis.
    index = (along - along.min()).astype(int)
    sums = ndimage.gaussian_filter1d(
        [np.bincount(index, weights), np.bincount(index, weights * side)], 2, axis=1
    )
    count = sums.shape[1]
    side = sums[1] / (sums[0] + 1e-9) + sway * smooth(rng, count, max(count / 5, 3))
    return centre + np.stack([along.min() + 0.5 + np.arange(count), side], 1) @ axis
