"""Strokes: exact rendering, checks of scribbles, and the one way in which strokes are written as
numbers.

Rows of whole numbers hold strokes wherever they leave Python: in files of strokes, and in what the
drawing widget and the browser tell each other.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from s2l_core.config import IGNORE, S2LError
from s2l_images.faults import plainly
from s2l_images.files import write_text

WORK_AT_ONCE = 500_000  # pixels looked at in one go
MAX_STROKE_WORK = 10**8  # and by the strokes of an image
MAX_STROKE_BYTES = 2**26  # of a file of strokes
UNIT = (
    0.25  # pixels: strokes are drawn and stored on this grid, where rendering is free of rounding
)


@dataclass(frozen=True)
class Stroke:
    """One drawn line.

    Attributes:
        label: 0 (background) or 1.
        width: of the brush, in pixels.
        points: (row, column) from the centre of the first pixel.
    """

    label: int
    width: float
    points: tuple[tuple[float, float], ...]


def render(strokes: Sequence[Stroke], shape: tuple[int, int]) -> np.ndarray:
    """Draws strokes into a label map `(H, W)` uint8 of 0, 1 and IGNORE.

    A pixel is covered iff its centre lies within width / 2 of the polyline (round ends; one point:
    a disc). For coordinates and widths that are multiples of 1/4 this is evaluated without
    rounding. Where strokes overlap the later one wins, as with a brush; what leaves the image is
    cut; without strokes all is IGNORE.

    Raises:
        S2LError: strokes that cover the image so many times over that drawing them would take
            minutes.
    """
    labels, work = np.full(shape, IGNORE, np.uint8), 0.0
    for stroke in strokes:
        work += areas(stroke.points, stroke.width, shape).sum()
        if work > MAX_STROKE_WORK:
            raise S2LError(
                "the strokes cover the image too many times over. Draw fewer, or with fewer points."
            )
        for piece in pieces(stroke, shape):
            labels[covered(piece, shape)] = stroke.label
    return labels


def areas(line: Sequence, width: float, shape: tuple[int, int]) -> np.ndarray:
    """About how many pixels `covered` looks at for each segment of a line (N, 2); the last of the N
    is its end.

    A segment that falls dy rows and runs dx columns takes dy + width rows. In each it passes the
    columns that it runs through within the width of the brush, a share width / dy of dx, and a
    brush to either side::

            rows      .##.....       a steep segment: few columns a row
             dy       ..##....
           + width    ...##...       a flat one: all of dx in every row
    """
    line = np.asarray(line, float)
    dy, dx = np.abs(np.diff(line, axis=0, append=line[-1:])).T  # (N,) each
    reach = width + 2  # the brush, and a pixel to either side
    rows = np.minimum(dy + reach, shape[0])
    share = np.minimum(1, reach / np.maximum(dy, 1e-9))
    columns = np.minimum(dx * share + reach, shape[1])
    return rows * columns


def pieces(stroke: Stroke, shape: tuple[int, int]) -> Iterator[Stroke]:
    """A stroke in pieces that overlap in a point; to draw one of them takes little memory."""
    work = np.cumsum(areas(stroke.points, stroke.width, shape))
    cuts = np.flatnonzero(np.diff(work // WORK_AT_ONCE)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(stroke.points) - 1]):
        yield replace(stroke, points=stroke.points[first : last + 1])


def covered(stroke: Stroke, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels under a stroke; a pixel near a joint appears once per segment.

    Each segment covers the points within a radius of it, beside it or around one of its ends::

          .  -----------------  .
         (  A ================= B  )     beside: the foot of the perpendicular lies between A and B
          .  -----------------  .        around: the distance to A or to B is at most the radius

    For a pixel at (y, x) from A, and B at (dy, dx) from A, the foot lies between them iff 0 < y dy
    + x dx < dy² + dx², and the squared distance to the line is (y dx - x dy)² / (dy² + dx²): no
    root, so nothing is rounded on the grid.
    """
    points, radius = np.asarray(stroke.points, float), stroke.width / 2
    start, end = points[:-1], points[1:]  # (S, 2): segments
    if len(points) == 1:
        start = end = points

    # The rows within a radius of each segment: one entry for each, with the segment it belongs to.
    low, high = np.minimum(start, end)[:, 0] - radius, np.maximum(start, end)[:, 0] + radius
    segment, row = _ranges(np.ceil(low), np.floor(high), shape[0])

    # In each row, the columns near the part of the segment that lies within a radius of the row.
    (y0, x0), (dy, dx) = start[segment].T, (end - start)[segment].T
    slope = np.where(dy == 0, 1.0, dy)
    part = np.clip([(row - radius - y0) / slope, (row + radius - y0) / slope], 0, 1)  # from, to
    part = np.where(dy == 0, [[0.0], [1.0]], part)  # a level segment: all of it
    columns = part * dx + x0
    left, right = columns.min(0) - radius, columns.max(0) + radius
    entry, column = _ranges(np.floor(left), np.ceil(right), shape[1])

    # One entry for each pixel looked at: is its centre beside the segment, or around one of its
    # ends?
    row, y, x = row[entry], row[entry] - y0[entry], column - x0[entry]
    dy, dx = dy[entry], dx[entry]
    along, length = y * dy + x * dx, dy * dy + dx * dx
    near = (y * dx - x * dy) ** 2 <= radius**2 * length
    beside = (along > 0) & (along < length) & near
    around = np.minimum(y * y + x * x, (y - dy) ** 2 + (x - dx) ** 2) <= radius**2
    inside = beside | around
    return row[inside], column[inside]


def _ranges(low: np.ndarray, high: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All integers of the ranges [low, high], cut to [0, size), after the index of the range each
    belongs to.
    """
    low, high = np.maximum(low, 0).astype(int), np.minimum(high, size - 1).astype(int)
    count = np.maximum(high - low + 1, 0)
    owner = np.repeat(np.arange(len(low)), count)
    return owner, np.arange(len(owner)) - (np.cumsum(count) - count - low)[owner]


def encode(stroke: Stroke, unit: float = UNIT) -> list[int]:
    """A stroke as [width, row, column, row step, column step, ...] in whole units, its width
    negative for background.

    What lies between two units is rounded.
    """
    width = max(round(stroke.width / unit), 1)
    points = np.rint(np.array(stroke.points) / unit).astype(int)  # (N, 2)
    steps = np.diff(points, axis=0, prepend=points[:1] * 0)  # the first step leads from (0, 0)
    return [width if stroke.label else -width, *steps.ravel().tolist()]


def decode(row: Sequence[int], unit: float = UNIT) -> Stroke:
    """The stroke of `encode`.

    Raises:
        ValueError: not a width and pairs of steps, all whole numbers.
    """
    whole = all(type(value) is int for value in row)
    if not whole or len(row) < 3 or len(row) % 2 == 0 or not row[0]:
        raise ValueError("not a width and pairs of steps, all whole numbers")
    width, *steps = row
    points = np.cumsum(np.reshape(steps, (-1, 2)), axis=0) * float(unit)
    return Stroke(int(width > 0), abs(width) * float(unit), tuple(map(tuple, points.tolist())))


def write_strokes(path: Path, strokes: Mapping[str, Sequence[Stroke]], meta: Mapping) -> None:
    """Writes the strokes of many images as JSON, a stroke a line as in `encode`, whole or not at
    all.

    The file's `unit` is 1 px where all strokes allow it, else 1/4 px.

    Raises:
        S2LError: the file cannot be written.
    """
    drawn = [
        np.append(np.ravel(stroke.points), stroke.width)
        for image in strokes.values()
        for stroke in image
    ]
    whole = not (np.concatenate([*drawn, [0]]) % 1).any()
    unit = 1 if whole else UNIT
    images = []
    for image, lines in strokes.items():
        rows = [json.dumps(encode(stroke, unit), separators=(",", ":")) for stroke in lines]
        images.append(f"{json.dumps(image)}: [\n" + ",\n".join(rows) + "]")
    head = f'{{"meta": {json.dumps(dict(meta))},\n"unit": {unit},\n"strokes": {{\n'
    write_text(Path(path), head + ",\n".join(images) + "}}\n")


def read_strokes(path: Path) -> dict[str, list[Stroke]]:
    """Strokes of each image, as `write_strokes` left them.

    Raises:
        S2LError: a damaged file; it says what is wrong, and with which stroke.
    """
    where, strokes = "", {}
    try:
        size = Path(path).stat().st_size
        if size > MAX_STROKE_BYTES:
            raise ValueError(f"{size} bytes, of {MAX_STROKE_BYTES} at most")
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        unit = content["unit"]
        if type(unit) not in (int, float) or not 0 < unit <= 1000:
            raise ValueError(f"unit = {unit!r:.50}: expected pixels, more than 0")
        for image, rows in content["strokes"].items():
            strokes[image] = []
            for number, row in enumerate(rows, 1):
                where = f", image {image}, stroke {number}"
                strokes[image].append(decode(row, unit))
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
            f"{path}{where}: expected a file of strokes, found: {plainly(error)}. {hint}."
        ) from error
    return strokes
