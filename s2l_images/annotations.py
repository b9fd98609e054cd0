"""In from other programs: what was drawn in ImageJ, QuPath, Aperio ImageScope or napari -> scribbles and instances."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import starmap
from pathlib import Path

import numpy as np

from s2l_core.config import IGNORE, S2LError
from s2l_images.aperio import rasterise
from s2l_images.parsers import INSTANCE, Item, items, reading
from s2l_images.pictures import LABELS, read_labels
from s2l_images.strokes import Stroke, areas, covered, pieces

WIDTH = 3.0  # pixels: of lines and points where the file gives no width
_FOREGROUND = ("foreground", "fg", "nucleus", "nuclei", "cell", "cells", "positive", "1")
_BACKGROUND = ("background", "bg", "negative", "0", "2")
WORDS = dict.fromkeys(_FOREGROUND, 1) | dict.fromkeys(
    _BACKGROUND, 0
)  # names of the classes, in lower case
NAPARI = {
    0: IGNORE,
    1: 1,
    2: 0,
}  # scribbles in a labels layer: 0 is not drawn, 1 foreground, 2 background
SECONDS = 3  # about what drawing may take
MAX_CROSSINGS = 2_000_000  # rows that one outline crosses


def read_scribbles(
    path: Path,
    shape: tuple[int, int],
    *,
    words: Mapping[str, int] = WORDS,
    width: float = WIDTH,
    values: Mapping[int, int] | None = None,
) -> np.ndarray:
    """Scribbles (H, W) uint8 of 0, 1 and IGNORE from ImageJ, QuPath, Aperio or a label image; later items win.

    A line is drawn with its own width, or else `width`; a point is a disc; an area is filled: a pixel belongs to it iff
    its centre does. The class is what the names of item, group, classification, layer or attribute say: one of `words`
    in any case, a number may follow ("Nucleus 12"). Bare numbers count as group, classification and layer only. What
    leaves the image is cut. Without items all is IGNORE.

    Args:
        path: .roi or .zip (ImageJ), .geojson or .json (QuPath), .xml (Aperio), .tif, .png, .npy or .npz (labels).
        shape: Of the image.
        words: Class of each word, in lower case.
        width: Pixels.
        values: Class, or IGNORE, of each value of a label image, as `NAPARI`; nothing in such a file tells them.

    Raises:
        S2LError: damaged, beyond the limits, a class that cannot be told, or an item outside the image.
    """
    path = Path(path)
    with reading(path):
        if path.suffix.lower() in LABELS:
            return _recode(read_labels(path, shape), values)
        drawn, flat = _inside(items(path), shape), np.full(shape[0] * shape[1], IGNORE, np.uint8)
        classes = [_class(item, words) for item in drawn]
        for k, pixels in _pixels(drawn, shape, width):
            flat[pixels] = classes[k]
        return flat.reshape(shape)


def read_strokes_from(
    path: Path, shape: tuple[int, int], *, words: Mapping[str, int] = WORDS, width: float = WIDTH
) -> list[Stroke]:
    """The lines and points of a file as vectors, which `render` draws as `read_scribbles` does; S2LError: an area."""
    strokes, path = [], Path(path)
    with reading(path):
        for item in _inside(items(path), shape):
            if item.area:
                raise S2LError(
                    f"{item.name} is an area; expected lines and points. read_scribbles fills areas."
                )
            label = _class(item, words)
            strokes += [
                Stroke(label, item.width or width, tuple(map(tuple, line.tolist())))
                for (line,) in item.parts
            ]
    return strokes


def read_instances(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Instances (H, W) int32 from areas or a label image; 0 is background, and where areas overlap the first wins.

    An ROI, a GeoJSON feature or an Aperio region is one instance, in however many pieces. Labels are those in the names
    where all are called "cell k", as by our writers, else 1, 2, ... in the file's order (Aperio: always). Where QuPath
    exported detections or cells, its annotations only group them and are left out. Without items all is 0.

    Raises:
        S2LError: damaged, beyond the limits, a line or point, an item outside the image, or a wrong shape.
    """
    path = Path(path)
    with reading(path):
        if path.suffix.lower() in LABELS:
            return read_labels(path, shape)
        found = _inside(items(path), shape)
        areas = [item for item in found if item.detected] or found
        if lines := [item.name for item in areas if not item.area]:
            raise S2LError(
                f"{lines[0]} is a line or point; expected areas. Delete it, or read it as a scribble."
            )
        if path.suffix.lower() == ".xml":  # the rule of MoNuSeg, also for what lies on an edge
            return rasterise(path.read_bytes(), shape)
        flat, numbers = (
            np.zeros(shape[0] * shape[1], np.int32),
            _numbers([item.name for item in areas]),
        )
        for k, pixels in _pixels(areas, shape, WIDTH):
            run = flat[pixels]
            run[run == 0] = numbers[k]
        return flat.reshape(shape)


def _inside(found: list[Item], shape: tuple[int, int]) -> list[Item]:
    """The items, none of which lies wholly outside the image."""
    for item in found:
        margin = 0.5 if item.area else 0.5 + (item.width or 0) / 2
        low, high = item.points.min(0), item.points.max(0)
        if (high < -margin).any() or (low > np.array(shape) - 1 + margin).any():
            raise S2LError(
                f"{item.name} lies wholly outside the image of {shape}. Is it of another image, or scaled?"
            )
    return found


def _class(item: Item, words: Mapping[str, int]) -> int:
    """0 or 1, where all that is said of an item agrees."""
    said = [part.strip().casefold() for text in item.texts for part in text.split(":")]
    bare = [
        match[1] for text in said if (match := re.fullmatch(r"([^\W\d_]+)[\W_]*\d*[\W_]*", text))
    ]
    found = {words[text] for text in said + bare if text in words}
    if len(found) != 1:
        fault = "names both classes" if found else "names no class"
        raise S2LError(
            f"{item.name} {fault} ({', '.join(item.texts)!r:.80}). Name it one of: {', '.join(words)}."
        )
    return found.pop()


def _numbers(names: Sequence[str]) -> Sequence[int]:
    """Labels of instances: the numbers in their names where all have one of their own, else 1, 2, ..."""
    matches = [re.fullmatch(INSTANCE.format(r"(\d{1,10})"), name) for name in names]
    found = {int(match[1]): None for match in matches if match and 0 < int(match[1]) < 2**31}
    return list(found) if len(found) == len(names) else range(1, len(names) + 1)


def _pixels(
    drawn: Sequence[Item], shape: tuple[int, int], width: float
) -> Iterator[tuple[int, slice | np.ndarray]]:
    """Which item, and where it lies in the flattened image, piece by piece; what would take too long is refused."""
    left = SECONDS * 1e6

    def spend(microseconds: float) -> None:
        nonlocal left
        left -= microseconds
        if left < 0:
            raise S2LError(
                "it covers the image too many times over. Export fewer items, or with fewer points."
            )

    for k, item in enumerate(drawn):
        for part in item.parts:
            filled = starmap(slice, _filled(part, shape, spend)) if item.area else None
            for pixels in filled or _brushed(part[0], item.width or width, shape, spend):
                yield k, pixels


def _filled(
    rings: Sequence[np.ndarray], shape: tuple[int, int], spend: Callable
) -> list[list[int]]:
    """Runs of pixels with their centre inside the rings, even-odd; of centres on an edge, those at the left and top."""
    start, end = (
        np.concatenate(rings),
        np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]),
    )
    low, high = np.clip(np.ceil(np.sort([start[:, 0], end[:, 0]], axis=0)), 0, shape[0]).astype(int)
    count = high - low
    spend(count.sum() if count.sum() <= MAX_CROSSINGS else np.inf)
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - (np.cumsum(count) - count - low)[edge]
    (y, x), (dy, dx) = start[edge].T, (end - start)[edge].T
    column = np.clip(np.ceil(x + (row - y) * (dx / dy)), 0, shape[1]).astype(int)
    # closed rings cross a row an even number of times: sorted, every two crossings bound a run
    runs = np.sort(row * (shape[1] + 1) + column).reshape(-1, 2)
    spend(0.002 * (runs[:, 1] - runs[:, 0]).sum())
    return (runs - runs[:, :1] // (shape[1] + 1)).tolist()


def _brushed(line: np.ndarray, width: float, shape: tuple[int, int], spend: Callable) -> Iterator:
    """Pixels under a line, a bounded number of them at a time."""
    spend(0.06 * areas(line, width, shape).sum())
    for piece in pieces(Stroke(1, width, line), shape):
        rows, columns = covered(piece, shape)
        yield rows * shape[1] + columns


def _recode(plane: np.ndarray, values: Mapping[int, int] | None) -> np.ndarray:
    """Scribbles (H, W) uint8 from a label image whose values were explained."""
    found = np.unique(plane).tolist()
    if unknown := sorted(set(found) - set(values or ())):
        hint = f"Give `values`: 0, 1 or {IGNORE} (not drawn) for each, such as {NAPARI} for a layer of napari"
        raise S2LError(f"nothing tells the class of the values {unknown[:5]}. {hint}.")
    return np.array([values[value] for value in found], np.uint8)[np.searchsorted(found, plane)]
