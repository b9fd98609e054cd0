"""Strokes on pixels and on disk: exact rendering, checks of scribbles, and the files that hold strokes."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from s2l_core.config import IGNORE, S2LError

CHUNK, MAX_WORK, MAX_BYTES = (
    500_000,
    10**8,
    2**26,
)  # pixels looked at in one go, and by an image; of a file of strokes
UNIT = 0.25  # strokes are drawn and stored on a grid of quarter pixels, where rendering is free of rounding


@dataclass(frozen=True)
class Stroke:
    """One drawn line: `label` 0 or 1, brush `width` in pixels, `points` as (row, column) in pixel centres."""

    label: int
    width: float
    points: tuple[tuple[float, float], ...]


def render(strokes: Sequence[Stroke], shape: tuple[int, int]) -> np.ndarray:
    """Draws strokes into a label map `(H, W)` uint8 of 0, 1 and IGNORE.

    A pixel is covered iff its centre lies within width / 2 of the polyline (round ends; one point: a disc). For
    coordinates and widths that are multiples of 1/4 this is evaluated without rounding. Where strokes overlap the later
    one wins, as with a brush; what leaves the image is cut; without strokes all is IGNORE.

    Raises:
        S2LError: strokes that cover the image so many times over that drawing them would take minutes.
    """
    labels, work = np.full(shape, IGNORE, np.uint8), 0.0
    for stroke in strokes:
        work += areas(stroke.points, stroke.width, shape).sum()
        if work > MAX_WORK:
            raise S2LError(
                "the strokes cover the image too many times over. Draw fewer, or with fewer points."
            )
        for piece in pieces(stroke, shape):
            labels[covered(piece, shape)] = stroke.label
    return labels


def areas(line: Sequence, width: float, shape: tuple[int, int]) -> np.ndarray:
    """About how many pixels drawing each segment of a line (N, 2) looks at; the last of the N is its end."""
    line = np.asarray(line, float)
    dy, dx = np.abs(np.diff(line, axis=0, append=line[-1:])).T
    reach = width + 2
    across = np.minimum(dx * np.minimum(1, reach / np.maximum(dy, 1e-9)) + reach, shape[1])
    return np.minimum(dy + reach, shape[0]) * across


def pieces(stroke: Stroke, shape: tuple[int, int]) -> Iterator[Stroke]:
    """A stroke in pieces that overlap in a point; to draw one of them takes little memory."""
    cuts = (
        np.flatnonzero(np.diff(np.cumsum(areas(stroke.points, stroke.width, shape)) // CHUNK)) + 1
    )
    for first, last in pairwise([0, *cuts.tolist(), len(stroke.points) - 1]):
        yield replace(stroke, points=stroke.points[first : last + 1])


def covered(stroke: Stroke, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels under a stroke; a pixel near a joint appears once per segment."""
    points, radius = np.asarray(stroke.points, float), stroke.width / 2
    start, end = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    low, high = np.minimum(start, end)[:, 0] - radius, np.maximum(start, end)[:, 0] + radius
    segment, row = _ranges(np.ceil(low), np.floor(high), shape[0])
    # in each row only the columns near the part of the segment that lies within a radius of the row
    (y0, x0), (dy, dx) = start[segment].T, (end - start)[segment].T
    slope = np.where(dy == 0, 1.0, dy)
    part = np.clip([(row - radius - y0) / slope, (row + radius - y0) / slope], 0, 1)
    columns = np.where(dy == 0, [[0.0], [1.0]], part) * dx + x0
    entry, column = _ranges(
        np.floor(columns.min(0) - radius), np.ceil(columns.max(0) + radius), shape[1]
    )
    row, y, x, dy, dx = row[entry], row[entry] - y0[entry], column - x0[entry], dy[entry], dx[entry]
    dot, square = y * dy + x * dx, dy * dy + dx * dx
    beside = (dot > 0) & (dot < square) & ((y * dx - x * dy) ** 2 <= radius**2 * square)
    inside = beside | (np.minimum(y * y + x * x, (y - dy) ** 2 + (x - dx) ** 2) <= radius**2)
    return row[inside], column[inside]


def _ranges(low: np.ndarray, high: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All integers of the ranges [low, high], cut to [0, size), after the index of the range each belongs to."""
    low, high = np.maximum(low, 0).astype(int), np.minimum(high, size - 1).astype(int)
    count = np.maximum(high - low + 1, 0)
    owner = np.repeat(np.arange(len(low)), count)
    return owner, np.arange(len(owner)) - (np.cumsum(count) - count - low)[owner]


def check_scribbles(
    scribbles: np.ndarray, image_shape: Sequence[int], name: str = "scribbles"
) -> None:
    """Raises S2LError unless `scribbles` fits the image, holds 0, 1 and IGNORE only, and both classes are drawn."""
    found, fault = set(np.unique(scribbles).tolist()), None
    if scribbles.shape != (shape := tuple(image_shape[:2])):
        fault = f"shape {scribbles.shape}; expected {shape} like the image. Save them at its size, with one channel"
    elif unknown := sorted(found - {0, 1, IGNORE}):
        shown = ", ".join(map(str, unknown[:5]))
        fault = f"values {shown} found; expected 0, 1 and {IGNORE} (not drawn). Recode them"
    elif missing := sorted({0, 1} - found):
        kinds = " and no ".join(("background", "foreground")[label] for label in missing)
        fault = f"no {kinds} scribble found; expected both classes (0 and 1). Draw strokes of each"
    if fault:
        raise S2LError(f"{name}: {fault}.")


def write_strokes(path: Path, strokes: Mapping[str, Sequence[Stroke]], meta: Mapping) -> None:
    """Writes the strokes of many images as JSON, a stroke a line, whole or not at all.

    A stroke is [width, row, column, row step, column step, ...], its width negative for background: whole numbers in
    the file's `unit`, which is 1 px where all strokes allow it, else 1/4 px (rounded to it).
    """
    drawn = [
        np.append(np.ravel(stroke.points), stroke.width)
        for image in strokes.values()
        for stroke in image
    ]
    unit = 1 if not (np.concatenate([*drawn, [0]]) % 1).any() else UNIT
    images = []
    for image, lines in strokes.items():
        rows = []
        for stroke in lines:
            points = np.rint(np.array(stroke.points) / unit).astype(int)
            steps = np.diff(points, axis=0, prepend=points[:1] * 0).ravel().tolist()
            width = max(round(stroke.width / unit), 1) * (1 if stroke.label else -1)
            rows.append(json.dumps([width, *steps], separators=(",", ":")))
        images.append(f"{json.dumps(image)}: [\n" + ",\n".join(rows) + "]")
    text = (
        f'{{"meta": {json.dumps(dict(meta))},\n"unit": {unit},\n"strokes": {{\n'
        + ",\n".join(images)
        + "}}\n"
    )
    part = Path(path).with_suffix(".tmp")
    part.write_text(text)
    os.replace(part, path)


def read_strokes(path: Path) -> dict[str, list[Stroke]]:
    """Strokes of each image, as `write_strokes` left them; S2LError names what is wrong with a damaged file."""
    where, strokes = "", {}
    try:
        if (size := Path(path).stat().st_size) > MAX_BYTES:
            raise ValueError(f"{size} bytes, of {MAX_BYTES} at most")
        content = json.loads(Path(path).read_text())
        unit = content["unit"]
        for image, rows in content["strokes"].items():
            strokes[image] = []
            for number, row in enumerate(rows, 1):
                where = f", image {image}, stroke {number}"
                width, *steps = row
                if not width or not steps or any(type(value) is not int for value in row):
                    raise ValueError("not a width and steps, all whole numbers")
                points = np.cumsum(np.reshape(steps, (-1, 2)), axis=0) * float(unit)
                strokes[image].append(
                    Stroke(
                        int(width > 0), abs(width) * float(unit), tuple(map(tuple, points.tolist()))
                    )
                )
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        hint = "Restore it from the repository, or save the strokes again"
        raise S2LError(
            f"{path}{where}: expected a file of strokes, found {error!r}. {hint}."
        ) from error
    return strokes
