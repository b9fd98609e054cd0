"""In from other programs: what was drawn in ImageJ, QuPath, Aperio ImageScope or napari ->
scribbles and instances.

What is left out, and how names were understood, is handed back as findings: nothing is dropped
without a word.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from s2l_core.config import IGNORE, S2LError
from s2l_images import aperio
from s2l_images.faults import Fault, Finding, listed
from s2l_images.filling import TimeLimit, around_others, inside, pixels
from s2l_images.items import INSTANCE, Item, reading
from s2l_images.parsers import items
from s2l_images.pictures import LABELS, read_labels
from s2l_images.strokes import Stroke, areas, covered, pieces

WIDTH = 3.0  # pixels: of lines and points where the file gives no width
_FOREGROUND = ("foreground", "fg", "nucleus", "nuclei", "cell", "cells", "positive", "1")
_BACKGROUND = ("background", "bg", "negative", "0", "2")
# Names of the classes, in lower case.
WORDS = dict.fromkeys(_FOREGROUND, 1) | dict.fromkeys(_BACKGROUND, 0)
# Scribbles in a labels layer: 0 is not drawn, 1 foreground, 2 background.
NAPARI = {0: IGNORE, 1: 1, 2: 0}

_SIDES = ("background", "foreground")
_STAINS = {"negative", "positive", "1+", "2+", "3+"}  # how QuPath grades an object by intensity
_OBJECTS = ("detection", "cell", "nucleus")  # what QuPath found, in contrast to what was drawn
_AXES = {"slice": "slice", "c": "channel", "z": "z", "t": "frame"}
# A brush is moved by so little of a pixel down and to the right that centres on its lower and right
# edge belong to it, and those on its upper and left edge do not: a line of width 2 covers two rows,
# as ImageJ's `Line to Area`.
_NUDGE = 2.0**-20

Plane = int | Mapping[str, int] | None
Found = list[Finding] | None


def read_scribbles(
    path: Path,
    shape: tuple[int, int],
    *,
    words: Mapping[str, int] = WORDS,
    width: float = WIDTH,
    values: Mapping[int, int] | None = None,
    plane: Plane = None,
    found: Found = None,
) -> np.ndarray:
    """Scribbles (H, W) uint8 of 0, 1 and IGNORE from ImageJ, QuPath, Aperio or a label image; later
    items win.

    A line is drawn with its own width, or else `width`; a point is a disc; an area is filled, see
    `filling.inside`. The class is what the names of item, group, classification, layer or attribute
    say: one of `words` in any case, a number may follow ("Nucleus 12"). Bare numbers count as
    group, classification and layer only. QuPath's cells, and what it graded by intensity ("Tumor:
    Negative"), are nuclei. What leaves the image is cut. Without items all is IGNORE.

    Args:
        path: .roi or .zip (ImageJ), .geojson or .json (QuPath), .xml (Aperio), .tif, .png, .npy or
            .npz (labels).
        shape: Of the image.
        words: Class of each word, in lower case.
        width: Pixels.
        values: Class, or IGNORE, of each value of a label image, as `NAPARI`; nothing in such a
            file tells them.
        plane: Which plane of a stack the image is, counted from 1, such as 3 or {"c": 1, "z": 3}.
            Items of other planes are left out. None: the file must hold items of one plane only.
        found: What was left out is appended.

    Raises:
        S2LError: damaged, beyond the limits, of a program that is not read, of several planes, of
            which nothing is left, a class that cannot be told, or an item outside the image.
    """
    path, found = Path(path), [] if found is None else found
    with reading(path):
        if path.suffix.lower() in LABELS:
            return _recode(read_labels(path, shape), values)
        drawn = _strokes(path, _chosen(path, plane, found), words, found)
        _refuse_nothing(path, drawn, found)
        drawn = _inside(drawn, shape)
        classes = [class_of(item, words) for item in drawn]
        scribbles, limit = np.full(shape[0] * shape[1], IGNORE, np.uint8), TimeLimit(shape)
        for item, label in zip(drawn, classes, strict=True):
            for where in _covered(item, width, shape, limit.spend):
                scribbles[where] = label
        return scribbles.reshape(shape)


def count_classes(
    path: Path, words: Mapping[str, int] = WORDS, plane: Plane = None
) -> Counter[tuple[str, int]]:
    """How many items of a file of scribbles bear which name, and the class it was taken for; see
    `read_scribbles`.
    """
    path = Path(path)
    with reading(path):
        drawn = _strokes(path, _chosen(path, plane, []), words, [])
        return Counter((_title(item), class_of(item, words)) for item in drawn)


def understood(counts: Mapping[tuple[str, int], int]) -> str:
    """`count_classes` for people, the most frequent first; the counts of several files may be
    added.
    """
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return listed(
        [f"{name!r} = {_SIDES[label]} ({counts[name, label]:,})" for name, label in names], 8
    )


def read_instances(
    path: Path, shape: tuple[int, int], *, plane: Plane = None, found: Found = None
) -> np.ndarray:
    """Instances (H, W) int32 from areas or a label image; 0 is background, and where areas overlap
    the first wins.

    An ROI, a GeoJSON feature or an Aperio region is one instance, in however many pieces. Labels
    are those in the names where all are called "cell k", as by our writers, else 1, 2, ... in the
    file's order (Aperio: always). Without items all is 0. Some areas are no nuclei and are
    left out: tiles, cores, and classes with a star (`Region*`); what is called background; where
    QuPath exported detections or cells, its annotations, which only group them, of cells those
    without a nucleus if others have one, and detections beside cells; and what lies around at least
    two others, see `filling.around_others`.

    Args:
        path: See `read_scribbles`.
        shape: Of the image.
        plane: See `read_scribbles`.
        found: What was left out, and nuclei that got no pixel, are appended.

    Raises:
        S2LError: damaged, beyond the limits, of a program that is not read, of several planes, of
            which nothing is left, a line or point, an item outside the image, or a wrong shape.
    """
    path, found = Path(path), [] if found is None else found
    with reading(path):
        if path.suffix.lower() in LABELS:
            return read_labels(path, shape)
        nuclei = _nuclei(path, _chosen(path, plane, found), found)
        _refuse_nothing(path, nuclei, found)
        nuclei = _inside(nuclei, shape)
        for item in nuclei:
            if not item.area:
                raise S2LError(
                    f"{item.name} is a line or point; expected areas. Delete it, or read it as a "
                    "scribble."
                )
        limit = TimeLimit(shape)
        runs = [
            np.concatenate([_runs(part, shape, limit.spend) for part in item.parts])
            for item in nuclei
        ]
        around, nested = around_others(runs, shape[0] * shape[1])
        if around:
            names = listed([nuclei[k].name for k in around], 3)
            found.append(_left_out(path, f"{len(around)} areas around several nuclei ({names})"))
        if nested:
            names = listed([nuclei[k].name for k in nested], 3)
            text = f"{len(nested)} areas around one other that is small beside them ({names})"
            found.append(Finding("areas-nested", path, text))
        keep = [k for k in range(len(nuclei)) if k not in set(around)]
        nuclei, runs = [nuclei[k] for k in keep], [runs[k] for k in keep]

        if path.suffix.lower() == ".xml":  # the rule of MoNuSeg, also for what lies on an edge
            instances = aperio.fill([item.points for item in nuclei], shape)
            numbers: Sequence[int] = range(1, len(nuclei) + 1)
        else:
            numbers = _numbers([item.name for item in nuclei])
            instances = _painted(runs, numbers, shape)
        _note_hidden(path, instances, nuclei, numbers, found)
        return instances


def _painted(
    runs: Sequence[np.ndarray], numbers: Sequence[int], shape: tuple[int, int]
) -> np.ndarray:
    """Instances (H, W) int32; the first wins."""
    flat = np.zeros(shape[0] * shape[1], np.int32)
    for where, number in zip(runs, numbers, strict=True):
        own = pixels(where)
        flat[own[flat[own] == 0]] = number
    return flat.reshape(shape)


def _note_hidden(
    path: Path,
    instances: np.ndarray,
    nuclei: Sequence[Item],
    numbers: Sequence[int],
    found: list[Finding],
) -> None:
    """Nuclei without a pixel are gone, which is said."""
    seen = set(np.unique(instances).tolist())
    hidden = [item.name for item, number in zip(nuclei, numbers, strict=True) if number not in seen]
    if hidden:
        names = listed(hidden, 3)
        text = f"{len(hidden)} of {len(nuclei)} nuclei have no pixel of their own ({names})"
        found.append(Finding("nuclei-hidden", path, text))


def _chosen(path: Path, plane: Plane, found: list[Finding]) -> list[Item]:
    """The items of a file that have a geometry and lie on the image's plane."""
    drawn = items(path)
    placed = [item for item in drawn if item.parts]
    if len(placed) < len(drawn):
        found.append(_left_out(path, f"{len(drawn) - len(placed)} features without a geometry"))

    # What lies on no plane in particular lies on all of them.
    planes = Counter(tuple(item.plane.items()) for item in placed if item.plane)
    if len(planes) < 2:
        return placed
    shown = listed([f"{_plane_name(dict(key))} ({n} items)" for key, n in sorted(planes.items())])
    varying = _varying(planes)
    if plane is None:
        example = "plane = 3"
        if len(varying) > 1:
            example = f"plane = {{{', '.join(f'{axis} = 1' for axis in varying)}}}"
        raise Fault("several-planes", path, f"items on {shown}; such as `{example}`")
    wanted = plane if isinstance(plane, Mapping) else dict.fromkeys(varying, plane)
    if not isinstance(plane, Mapping) and len(varying) > 1:
        raise Fault(
            "several-planes", path, f"items on {shown}, of which plane = {plane} names no one"
        )
    kept = [
        item
        for item in placed
        if all(item.plane.get(axis, number) == number for axis, number in wanted.items())
    ]
    if not any(item.plane for item in kept):
        raise Fault("several-planes", path, f"no item on {_plane_name(wanted)}, but on {shown}")
    if len(kept) < len(placed):
        text = f"{len(placed) - len(kept)} of {len(placed)} items on other planes ({shown})"
        found.append(_left_out(path, text))
    return kept


def _varying(planes: Mapping[tuple, int]) -> list[str]:
    """The axes along which items lie on different planes."""
    numbers: dict[str, set[int]] = {}
    for key in planes:
        for axis, number in key:
            numbers.setdefault(axis, set()).add(number)
    return [axis for axis, found in numbers.items() if len(found) > 1]


def _plane_name(plane: Mapping[str, int]) -> str:
    return " ".join(f"{_AXES.get(axis, axis)} {number}" for axis, number in plane.items())


def _left_out(path: Path, what: str) -> Finding:
    return Finding("items-left-out", path, what)


def _without(
    path: Path, drawn: Sequence[Item], unwanted: Callable[[Item], bool], what: str, found: list
) -> list[Item]:
    """The items that are wanted; how many others there are is noted."""
    kept = [item for item in drawn if not unwanted(item)]
    if len(kept) < len(drawn):
        found.append(_left_out(path, f"{len(drawn) - len(kept)} {what}"))
    return kept


def _refuse_nothing(path: Path, kept: Sequence[Item], found: Sequence[Finding]) -> None:
    """A file of which nothing is left is not the same as an empty one, which shows no nucleus."""
    left_out = [one.found for one in found if one.code == "items-left-out" and one.file == path]
    if left_out and not kept:
        raise Fault("nothing-left", path, f"holds nothing but {' and '.join(left_out)}")


def _nuclei(path: Path, drawn: Sequence[Item], found: list[Finding]) -> list[Item]:
    """The items that may be nuclei, by what QuPath calls them."""
    drawn = _without(path, drawn, _is_frame, "tiles, cores or regions (a class with *)", found)
    drawn = _without(path, drawn, _is_ground, "areas called background", found)
    kinds = {item.kind for item in drawn}
    if kinds & {"cell", "nucleus"}:
        what = "detections beside cells"
        drawn = _without(path, drawn, lambda item: item.kind == "detection", what, found)
    if kinds & {*_OBJECTS}:
        what = "annotations around what was detected"
        drawn = _without(path, drawn, lambda item: item.kind == "annotation", what, found)
    return _cells(path, drawn, found)


def _cells(path: Path, drawn: Sequence[Item], found: list[Finding]) -> list[Item]:
    """The items, without cells that lack a nucleus where others have one; whole cells are taken,
    which is noted, where none has.
    """
    whole = [item for item in drawn if item.kind == "cell"]
    if whole and len(whole) < sum(item.kind in ("cell", "nucleus") for item in drawn):
        what = "cells without a nucleus"
        return _without(path, drawn, lambda item: item.kind == "cell", what, found)
    if whole:
        found.append(
            Finding("cells-whole", path, f"{len(whole)} cells of QuPath without their nuclei")
        )
    return list(drawn)


def _strokes(
    path: Path, drawn: Sequence[Item], words: Mapping[str, int], found: list[Finding]
) -> list[Item]:
    """The items that may be scribbles: all but frames, and outlines without a class around what was
    detected.
    """

    def unwanted(item: Item) -> bool:
        return item.area and item.kind == "annotation" and not _classes(item, words)

    def frame(item: Item) -> bool:
        return _is_frame(item) and not _classes(item, words)

    drawn = _without(path, drawn, frame, "tiles, cores or regions (a class with *)", found)
    if any(item.kind in _OBJECTS for item in drawn):
        drawn = _without(path, drawn, unwanted, "annotations without a class", found)
    return _cells(path, drawn, found)


def _is_frame(item: Item) -> bool:
    """Whether an item is a tile or a region for QuPath, which ends the names of classes to be
    ignored with a star.
    """
    return item.kind in ("tile", "tma core") or any(text.endswith("*") for text in item.texts)


def _is_ground(item: Item) -> bool:
    """Whether an item says in words that it is background; a grade such as Negative does not."""
    names = [re.sub(r"[\W\d_]+$", "", text.split(":")[0].strip().casefold()) for text in item.texts]
    return bool({"background", "bg"} & {*names})


def _inside(drawn: list[Item], shape: tuple[int, int]) -> list[Item]:
    """The items, none of which lies wholly outside the image."""
    for item in drawn:
        margin = 0.5 if item.area else 0.5 + (item.width or 0) / 2
        low, high = item.points.min(0), item.points.max(0)
        if (high < -margin).any() or (low > np.array(shape) - 1 + margin).any():
            raise S2LError(
                f"{item.name} lies wholly outside the image of {shape}. Is it of another image, "
                "or scaled?"
            )
    return drawn


def class_of(item: Item, words: Mapping[str, int] = WORDS) -> int:
    """0 or 1, where all that is said of an item agrees.

    Raises:
        S2LError: it names no class, or both.
    """
    found = _classes(item, words)
    if len(found) != 1:
        fault = "names both classes" if found else "names no class"
        raise S2LError(
            f"{item.name} {fault} ({', '.join(item.texts)!r:.80}). Name it one of: "
            f"{', '.join(words)}."
        )
    return found.pop()


def _classes(item: Item, words: Mapping[str, int]) -> set[int]:
    """The classes that are said of an item."""
    said, graded = set(), False
    for text in item.texts:
        text = text.strip().casefold()
        if text in words and item.kind not in _OBJECTS:
            said.add(words[text])
            continue
        # An object's grade, such as Negative, says how it is stained: it is a nucleus either way.
        base, *grades = (part.strip() for part in text.split(":"))
        if item.kind in _OBJECTS and base in _STAINS:
            base, grades = "", [base]
        graded |= bool(_STAINS & {*grades})
        parts = [base] + [grade for grade in grades if grade not in _STAINS]
        bare = [re.fullmatch(r"([^\W\d_]+)[\W_]*\d*[\W_]*", part) for part in parts]
        said |= {words[part] for part in parts if part in words}
        said |= {words[match[1]] for match in bare if match and match[1] in words}
    if not said and (graded or item.kind in ("cell", "nucleus")):
        return {1}
    return said


def _title(item: Item) -> str:
    """What an item is called, without running numbers."""
    texts = [re.sub(r"[\W_]*\d+$", "", text.strip()) or text.strip() for text in item.texts]
    return ", ".join(dict.fromkeys(filter(None, texts))) or item.kind


def _numbers(names: Sequence[str]) -> Sequence[int]:
    """Labels of instances: the numbers in their names where all have one of their own, else 1, 2,
    ...
    """
    matches = [re.fullmatch(INSTANCE.format(r"(\d{1,10})"), name) for name in names]
    found = {int(match[1]): None for match in matches if match and 0 < int(match[1]) < 2**31}
    return list(found) if len(found) == len(names) else range(1, len(names) + 1)


def _covered(
    item: Item, width: float, shape: tuple[int, int], spend: Callable[[float], None]
) -> Iterator[np.ndarray]:
    """The pixels of an item in the flattened image, a bounded number of them at a time."""
    for part in item.parts:
        if item.area:
            yield pixels(_runs(part, shape, spend))
            continue
        line, brush = part[0] + _NUDGE, item.width or width
        spend(0.06 * areas(line, brush, shape).sum())
        for piece in pieces(Stroke(1, brush, line), shape):
            rows, columns = covered(piece, shape)
            yield rows * shape[1] + columns


def _runs(
    rings: Sequence[np.ndarray], shape: tuple[int, int], spend: Callable[[float], None]
) -> np.ndarray:
    """Runs of pixels within a polygon, see `filling.inside`; their number is charged."""
    runs = inside(rings, shape, spend)
    spend(0.03 * (runs[:, 1] - runs[:, 0]).sum())
    return runs


def _recode(plane: np.ndarray, values: Mapping[int, int] | None) -> np.ndarray:
    """Scribbles (H, W) uint8 from a label image whose values were explained."""
    found = np.unique(plane).tolist()
    unknown = sorted(set(found) - set(values or ()))
    if unknown:
        raise S2LError(
            f"nothing tells the class of the values {unknown[:5]}. Give `values`: 0, 1 or {IGNORE} "
            f"(not drawn) for each, such as {NAPARI} for a layer of napari."
        )
    return np.array([values[value] for value in found], np.uint8)[np.searchsorted(found, plane)]
