"""Scribbles: a simulated annotator, S2L's skeleton rule, exact rendering, checks and stroke files (D16)."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours
from skimage.morphology import skeletonize

from s2l_core.config import IGNORE, S2LError, Stroke, seed_for

UNIT = 0.25  # strokes are drawn and stored on a grid of quarter pixels, where rendering is free of rounding
CLEAR = 2.0  # a background stroke's pixels lie this far from nuclear pixels: at least one free pixel between
EIGHT = np.ones((3, 3), int)  # eight-connected


def render(strokes: Sequence[Stroke], shape: tuple[int, int]) -> np.ndarray:
    """Draws strokes into a label map `(H, W)` uint8 of 0, 1 and IGNORE.

    A pixel is covered iff its centre lies within width / 2 of the polyline (round ends; a stroke of one point is a
    disc). On coordinates and widths that are multiples of 1/4 the rule is evaluated without rounding. Where strokes
    overlap the later one wins, as with a brush. Parts outside the image are cut; no strokes: IGNORE everywhere.
    """
    labels = np.full(shape, IGNORE, np.uint8)
    for stroke in strokes:
        labels[_covered(stroke, shape)] = stroke.label
    return labels


def _covered(stroke: Stroke, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels under a stroke; a pixel at a joint appears once per segment."""
    points, radius = np.asarray(stroke.points, float), stroke.width / 2
    start, end = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    along = end - start
    top, bottom = np.minimum(start, end)[:, 0] - radius, np.maximum(start, end)[:, 0] + radius
    segment, row = _ranges(np.ceil(top), np.floor(bottom), shape[0])
    # in each row only the columns near the part of the segment that lies within a radius of the row
    (y0, x0), (dy, dx) = start[segment].T, along[segment].T
    slope = np.where(dy == 0, 1.0, dy)
    reach = np.stack([(row - radius - y0) / slope, (row + radius - y0) / slope])
    reach = np.where(dy == 0, [[0.0], [1.0]], reach.clip(0, 1)) * dx + x0
    entry, column = _ranges(np.floor(reach.min(0) - radius), np.ceil(reach.max(0) + radius), shape[1])
    row, y, x = row[entry], row[entry] - y0[entry], column - x0[entry]
    dy, dx = dy[entry], dx[entry]
    dot, square = y * dy + x * dx, dy * dy + dx * dx
    beside = (dot > 0) & (dot < square) & ((y * dx - x * dy) ** 2 <= radius**2 * square)
    ends = np.minimum(y * y + x * x, (y - dy) ** 2 + (x - dx) ** 2) <= radius**2
    inside = beside | ends
    return row[inside], column[inside]


def _ranges(low: np.ndarray, high: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All integers of the ranges [low, high], cut to [0, size), with the index of the range each belongs to."""
    low, high = np.maximum(low, 0).astype(int), np.minimum(high, size - 1).astype(int)
    count = np.maximum(high - low + 1, 0)
    owner = np.repeat(np.arange(len(low)), count)
    return owner, np.arange(len(owner)) - (np.cumsum(count) - count - low)[owner]


class SimulatedAnnotator:
    """Draws as a person would: one stroke in each chosen nucleus and one through the background beside it (D16).

    The nuclei are put into a random order that depends on seed and image only; `budget` takes the first
    ceil(budget * nuclei) of them, at least one, so budgets are nested. The k-th nucleus brings its foreground stroke
    (along most of its long axis, to 1-2 px from its ends; a dot where there is no room for more) and the k-th
    background stroke: 0 wanders in from the image border; then in turn an arc along part of the nucleus's outline,
    a stroke through the gap to a neighbour, another arc, a long wandering stroke. A kind that has no room gives way to
    the next; if none fits the background stroke is passed over. An image without nuclei gets one background stroke.

    No pixel of a foreground stroke leaves its nucleus; pixels of background strokes are at least 2 px (centre to
    centre) from any nucleus. Each seed is a person: brush, shakiness and reach differ.
    """

    def __init__(self, seed: int, budget: float = 0.3):
        if not 0 < budget <= 1:
            raise S2LError(f"budget = {budget!r}: expected a share of nuclei above 0 and at most 1. Change budget.")
        self.seed, self.budget = seed, budget
        style = self._rng("style")
        self.brush, self.shake, self.tip = style.uniform(0.09, 0.13), style.uniform(0.3, 0.6), style.uniform(0.8, 1.4)

    def _rng(self, *purpose) -> np.random.Generator:
        return np.random.default_rng(seed_for(self.seed, "scribbles", *purpose))

    def draw(self, instances: np.ndarray, key: str = "") -> np.ndarray:
        """`strokes` rendered to `(H, W)` uint8 of 0, 1 and IGNORE."""
        return render(self.strokes(instances, key), instances.shape)

    def strokes(self, instances: np.ndarray, key: str = "") -> list[Stroke]:
        """Strokes for `instances (H, W)` integer, 0 = background; `key` names the image. In order of drawing."""
        labels, areas = _nuclei(instances)
        boxes = ndimage.find_objects(instances)
        clear = _distance(instances == 0)
        width = self.brush * np.sqrt(np.median(areas)) if len(areas) else 2.0
        width = float(np.clip(np.round(2 * width) / 2, 1, 3))
        order = self._rng(key, "order").permutation(labels)
        strokes = [] if len(labels) else [self._wander(clear, width, self._rng(key, 0), True)]
        for k, label in enumerate(order[: _share(self.budget, len(order))]):
            strokes.append(self._inside(instances, label, boxes[label - 1], width, self._rng(key, k)))
            strokes.append(self._outside(k, instances, label, boxes[label - 1], clear, width, self._rng(key, k, 0)))
        return [stroke for stroke in strokes if stroke is not None]

    def _inside(self, instances, label, box, width, rng) -> Stroke:
        """A stroke along the nucleus's long axis."""
        crop, corner = _grow(box, 1, instances.shape)
        depth = _distance(instances[crop] == label)
        tip = self.tip + rng.uniform(0, 0.8)
        for width in (width, 1.0):  # noqa: B020 (thinner where the usual brush has no room)
            free = max(depth.max() - width / 2 - tip, 0.0)
            path = _long_axis(np.argwhere(depth), depth[depth > 0] ** 2, self.shake * free * _smooth(rng, 64, 14))
            stroke = _fit(1, width, path, depth, tip, corner)
            if stroke is not None and free > 0:
                return stroke
        deepest = np.unravel_index(depth.argmax(), depth.shape)
        return _fit(1, 1.0, path, depth, 1.0, corner) or _stroke(1, 1.0, [deepest], corner)

    def _outside(self, k, instances, label, box, clear, width, rng) -> Stroke | None:
        """The k-th background stroke."""
        kinds = [("arc", "gap", "arc", "wander")[(k - 1) % 4], "arc", "wander"] if k else ["wander"]
        for kind in kinds:
            for brush in (width, 1.0):
                if kind == "wander":
                    stroke = self._wander(clear, brush, rng, border=k == 0 or rng.random() < 0.5)
                else:
                    stroke = getattr(self, f"_{kind}")(instances, label, box, clear, brush, rng)
                if stroke is not None:
                    return stroke
        return None

    def _arc(self, instances, label, box, clear, width, rng) -> Stroke | None:
        """A stroke along part of the nucleus's outline, some 1.5-3 px outside it."""
        crop, corner = _grow(box, 8, instances.shape)
        own, near = _distance(instances[crop] != label), clear[crop]
        level = CLEAR + width / 2 + rng.uniform(0.2, 1.2)
        lines = [_longest(line, _at(own, line) < level + 1) for line in find_contours(near, level)]
        line = max(lines, key=len, default=[])
        if len(line) < 5:
            return None
        line = ndimage.gaussian_filter1d(line, 1.5, axis=0, mode="nearest")
        count = int(len(line) * rng.uniform(0.4, 0.9))
        first = rng.integers(len(line) - count + 1)
        line = line[first : first + count]
        return _fit(0, width, line + self.shake * 0.5 * _smooth(rng, (len(line), 2), 5), near, CLEAR, corner, 6)

    def _gap(self, instances, label, box, clear, width, rng) -> Stroke | None:
        """A short stroke between the nucleus and a neighbour, where the two are less than 20 px apart."""
        crop, corner = _grow(box, 12, instances.shape)
        near, around = clear[crop], instances[crop]
        rows, columns = ndimage.distance_transform_edt(around == 0, return_distances=False, return_indices=True)
        owner = around[rows, columns]
        other = np.where(owner == label, ndimage.maximum_filter(owner, 3), owner)
        other = np.where(other == label, ndimage.minimum_filter(owner, 3), other)
        middle = (other != label) & ndimage.binary_dilation(owner == label) & (near > CLEAR) & (near < 10)
        neighbours, sizes = np.unique(other[middle], return_counts=True)
        neighbours = neighbours[sizes >= 6]
        if not len(neighbours):
            return None
        pixels = np.argwhere(middle & (other == rng.choice(neighbours)))
        path = _long_axis(pixels, np.ones(len(pixels)), self.shake * _smooth(rng, 64, 14))
        return _fit(0, width, path, near, CLEAR, corner, 4)

    def _wander(self, clear, width, rng, border: bool) -> Stroke | None:
        """A long stroke through open background; with `border`, it comes in from there."""
        height, wide = clear.shape
        room = width / 2 + CLEAR + 0.5
        candidates = rng.integers(0, clear.shape, (12, 2))
        if border:
            edge = np.zeros(clear.shape, bool)
            edge[[0, -1]] = edge[:, [0, -1]] = True
            candidates = np.argwhere(edge & (clear >= room))
            candidates = candidates[rng.integers(0, len(candidates), 4)] if len(candidates) else candidates
        if not len(candidates):
            return None
        row, column = map(float, candidates[np.argmax(clear[tuple(candidates.T)])])
        heading = math.atan2(wide / 2 - column, height / 2 - row) + rng.uniform(-1, 1)
        if not border:
            heading = rng.uniform(0, 2 * math.pi)
        path = _walk(clear, (row, column), heading, room, rng.uniform(0.2, 0.6) * (height + wide) / 2, rng)
        return _fit(0, width, path, clear, CLEAR, (0, 0), 10)


def _walk(clear, start, heading, room, length, rng, step=4.0) -> np.ndarray:
    """Walks with momentum, turning away from nuclei, for `length` px or until it leaves the image or is stuck."""
    height, width = clear.shape
    lookup, path, drift = memoryview(clear), [start], 0.0
    for noise in rng.normal(0, 0.12, int(length / step)):
        drift, best = 0.8 * drift + noise, -math.inf
        for turn in (0.0, -0.35, 0.35, -0.7, 0.7, -1.1, 1.1):
            angle = heading + drift + turn
            open_ = math.inf
            for ahead in (step, 2.5 * step):
                row, column = path[-1][0] + ahead * math.cos(angle), path[-1][1] + ahead * math.sin(angle)
                if 0 <= row <= height - 1 and 0 <= column <= width - 1:
                    open_ = min(open_, lookup[round(row), round(column)] + (ahead - step) * 0.2)
            score = min(open_, 12.0) - 6 * abs(turn)
            if open_ >= room and score > best:
                best, chosen = score, angle
        if best == -math.inf:
            break
        heading = chosen
        row, column = path[-1][0] + step * math.cos(heading), path[-1][1] + step * math.sin(heading)
        path.append((min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)))
        if path[-1] != (row, column):
            break
    path = np.array(path)
    path[1:-1] = ndimage.gaussian_filter1d(path, 1.0, axis=0, mode="nearest")[1:-1]  # the ends stay: at the border
    fine = np.linspace(0, len(path) - 1, 4 * len(path) - 3)
    return np.stack([np.interp(fine, np.arange(len(path)), axis) for axis in path.T], 1)


def _long_axis(pixels: np.ndarray, weights: np.ndarray, sway: np.ndarray) -> np.ndarray:
    """A path along the long axis of a set of pixels, through their weighted middle, moved sideways by `sway`."""
    weights = weights / weights.sum()
    centre = weights @ pixels
    rows, columns = (pixels - centre).T
    angle = 0.5 * math.atan2(2 * np.mean(rows * columns), np.mean(rows**2) - np.mean(columns**2))
    axis = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    along, side = axis @ (pixels - centre).T
    count = max(int(np.ptp(along) / 2), 1)
    index = np.minimum(((along - along.min()) / (np.ptp(along) + 1e-9) * count).astype(int), count - 1)
    total = np.bincount(index, weights, count) + 1e-12
    middle = ndimage.gaussian_filter1d(np.bincount(index, weights * side, count) / total, 1.5, mode="nearest")
    t = np.linspace(along.min(), along.max(), 2 * count + 3)
    side = np.interp(t, along.min() + np.ptp(along) * (np.arange(count) + 0.5) / count, middle)
    side += np.interp(np.linspace(0, 1, len(t)), np.linspace(0, 1, len(sway)), sway)
    return centre + np.stack([t, side], 1) @ axis


def _fit(label, width, path, field, limit, corner, shortest=0.0) -> Stroke | None:
    """The longest piece of a path whose stroke covers only pixels of `field` >= `limit`; None if there is none.

    `field` is a distance map with its first pixel at `corner`; a piece under `shortest` px is given up.
    """
    keep = _at(field, path) >= limit + width / 2 if len(path) else np.zeros(0, bool)
    for _ in range(6):
        path = _longest(path, keep)
        if len(path) < 2 or np.hypot(*np.diff(path, axis=0).T).sum() < shortest:
            return None
        stroke = _stroke(label, width, approximate_polygon(path, 0.3), (0, 0))
        rows, columns = _covered(stroke, field.shape)
        wrong = field[rows, columns] < limit
        if not wrong.any():
            return _stroke(label, width, stroke.points, corner)
        gaps = path[:, None] - np.stack([rows[wrong], columns[wrong]], 1)
        keep = (gaps**2).sum(2).min(1) > (width / 2 + 0.5) ** 2
    return None


def _stroke(label: int, width: float, points, corner) -> Stroke:
    """A stroke on the quarter-pixel grid, moved by `corner`; repeated points are dropped."""
    points = np.round((np.asarray(points, float) + corner) / UNIT) * UNIT
    points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(1)]]
    return Stroke(label, width, tuple(map(tuple, points.tolist())))


def _longest(path: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The longest run of points marked in `keep`."""
    edges = np.flatnonzero(np.diff(np.r_[0, keep, 0]))
    if not len(edges):
        return path[:0]
    starts, ends = edges[::2], edges[1::2]
    best = np.argmax(ends - starts)
    return path[starts[best] : ends[best]]


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values of a field at (row, column) points."""
    return ndimage.map_coordinates(field, points.T, order=1, mode="nearest")


def _smooth(rng, shape, sigma: float) -> np.ndarray:
    """Smooth noise along the first axis, of unit size."""
    noise = ndimage.gaussian_filter1d(rng.normal(size=shape), sigma, axis=0, mode="wrap")
    return noise / (np.abs(noise).max() + 1e-9)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of a mask to the nearest pixel outside it, which the image's edge is not."""
    if mask.all():
        return np.full(mask.shape, float(sum(mask.shape)))
    return ndimage.distance_transform_edt(mask)


def _grow(box, margin: int, shape) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """A box grown by a margin inside the image, and its first pixel."""
    grown = tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(box, shape, strict=True))
    return grown, (grown[0].start, grown[1].start)


def _share(share: float, count: int) -> int:
    """ceil(share * count), at least one of those there are; free of the rounding that makes 0.1 * 30 exceed 3."""
    return min(count, max(1, math.ceil(share * count - 1e-9)))


def _nuclei(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels present, ascending, and their areas."""
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        raise S2LError(f"instances: {instances.dtype} {instances.shape}; expected (H, W) integers, 0 = background.")
    areas = np.bincount(instances.ravel())
    areas[:1] = 0
    return np.flatnonzero(areas), areas[areas > 0]
