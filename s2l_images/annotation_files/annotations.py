"""Reads what was drawn in other programs: ImageJ, QuPath or Aperio ImageScope -> scribbles and
instances.

What is left out, and how names were understood, is handed back as findings: nothing is dropped
without a word.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from s2l_core.config import IGNORE, S2LError
from s2l_images.annotation_files import aperio
from s2l_images.annotation_files.item_choice import (
    Plane,
    left_out,
    nuclei_of,
    on_plane,
    refuse_nothing,
    strokes_of,
    within,
)
from s2l_images.annotation_files.item_classes import WORDS, class_of, title
from s2l_images.annotation_files.items import INSTANCE, Item, errors_named
from s2l_images.faults import Finding, listed
from s2l_images.filling import TimeLimit, around_others, inside, pixels
from s2l_images.strokes import Stroke, areas, covered, pieces

WIDTH = 3.0  # pixels: of lines and points where the file gives no width

# A brush is moved by so little of a pixel down and to the right that centres on its lower and right
# edge belong to it, and those on its upper and left edge do not: a line of width 2 covers two rows,
# as ImageJ's `Line to Area`.
_NUDGE = 2.0**-20

Found = list[Finding] | None


def read_scribbles(
    path: Path,
    shape: tuple[int, int],
    *,
    words: Mapping[str, int] = WORDS,
    plane: Plane = None,
    found: Found = None,
) -> np.ndarray:
    """Scribbles (H, W) uint8 of 0, 1 and IGNORE from ImageJ, QuPath or Aperio; later items win.

    A line is drawn with its own width, or else `WIDTH`; a point is a disc; an area is filled, see
    `filling.inside`. The class is what the names of item, group, classification, layer or attribute
    say: one of `words` in any case, a number may follow ("Nucleus 12"). Bare numbers count as
    group, classification and layer only. QuPath's cells, and what it graded by intensity ("Tumor:
    Negative"), are nuclei. What leaves the image is cut. Without items all is IGNORE.

    Args:
        path: .roi or .zip (ImageJ), .geojson or .json (QuPath), .xml (Aperio).
        shape: Of the image.
        words: Class of each word, in lower case.
        plane: Which plane of a stack the image is, counted from 1, such as 3 or {"c": 1, "z": 3}.
            Items of other planes are left out. None: the file must hold items of one plane only.
        found: What was left out is appended.

    Raises:
        S2LError: the file is damaged, exceeds the limits, comes from a program that is not read,
            holds items of several planes, or none that counts; the class of an item cannot be
            told, or it lies outside the image.
    """
    path, found = Path(path), [] if found is None else found
    with errors_named(path):
        drawn = strokes_of(path, on_plane(path, plane, found), words, found)
        refuse_nothing(path, drawn, found)
        drawn = within(drawn, shape)
        classes = [class_of(item, words) for item in drawn]

        scribbles = np.full(shape[0] * shape[1], IGNORE, np.uint8)  # (H * W,)
        limit = TimeLimit(shape)
        for item, label in zip(drawn, classes, strict=True):
            for where in _covered(item, shape, limit.spend):
                scribbles[where] = label
        return scribbles.reshape(shape)


def count_classes(
    path: Path, words: Mapping[str, int] = WORDS, plane: Plane = None
) -> Counter[tuple[str, int]]:
    """How many items of a file of scribbles bear which name, and the class it was taken for; see
    `read_scribbles`.
    """
    path = Path(path)
    with errors_named(path):
        drawn = strokes_of(path, on_plane(path, plane, []), words, [])
        return Counter((title(item), class_of(item, words)) for item in drawn)


def read_instances(
    path: Path, shape: tuple[int, int], *, plane: Plane = None, found: Found = None
) -> np.ndarray:
    """Instances (H, W) int32 from areas; 0 is background, and where areas overlap the first wins.

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
        S2LError: the file is damaged, exceeds the limits, comes from a program that is not read,
            holds items of several planes, or none that counts; an item is a line or point, lies
            outside the image or has a wrong shape.
    """
    path, found = Path(path), [] if found is None else found
    with errors_named(path):
        nuclei = nuclei_of(path, on_plane(path, plane, found), found)
        refuse_nothing(path, nuclei, found)
        nuclei = within(nuclei, shape)
        for item in nuclei:
            if not item.area:
                raise S2LError(
                    f"{item.name} is a line or point; expected areas. Delete it, or read it as a "
                    "scribble."
                )

        # The pixels of each, (R, 2) runs.
        limit = TimeLimit(shape)
        runs = [
            np.concatenate([_runs(part, shape, limit.spend) for part in item.parts])
            for item in nuclei
        ]
        around = _surrounding(path, nuclei, runs, shape, found)
        keep = [k for k in range(len(nuclei)) if k not in around]
        nuclei, runs = [nuclei[k] for k in keep], [runs[k] for k in keep]

        if path.suffix.lower() == ".xml":  # the rule of MoNuSeg, also for what lies on an edge
            instances = aperio.fill([item.points for item in nuclei], shape)
            numbers: Sequence[int] = range(1, len(nuclei) + 1)
        else:
            numbers = _numbers([item.name for item in nuclei])
            instances = _painted(runs, numbers, shape)
        _note_hidden(path, instances, nuclei, numbers, found)
        return instances


def _surrounding(
    path: Path,
    nuclei: Sequence[Item],
    runs: Sequence[np.ndarray],
    shape: tuple[int, int],
    found: list[Finding],
) -> set[int]:
    """The numbers of areas that lie around several nuclei and so are none, which is noted."""
    around, nested = around_others(runs, shape[0] * shape[1])
    if around:
        names = listed([nuclei[k].name for k in around], 3)
        found.append(left_out(path, f"{len(around)} areas around several nuclei ({names})"))
    if nested:
        names = listed([nuclei[k].name for k in nested], 3)
        text = f"{len(nested)} areas around another one that is much smaller ({names})"
        found.append(Finding("areas-nested", path, text))
    return set(around)


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
    """Says which nuclei are lost because others cover each of their pixels."""
    seen = set(np.unique(instances).tolist())
    hidden = [item.name for item, number in zip(nuclei, numbers, strict=True) if number not in seen]
    if hidden:
        names = listed(hidden, 3)
        text = f"{len(hidden)} of {len(nuclei)} nuclei have no pixel of their own ({names})"
        found.append(Finding("nuclei-hidden", path, text))


def _numbers(names: Sequence[str]) -> Sequence[int]:
    """Labels of instances: the numbers in their names where all have one of their own, else 1, 2,
    ...
    """
    matches = [re.fullmatch(INSTANCE.format(r"(\d{1,10})"), name) for name in names]
    found = {int(match[1]): None for match in matches if match and 0 < int(match[1]) < 2**31}
    return list(found) if len(found) == len(names) else range(1, len(names) + 1)


def _covered(
    item: Item, shape: tuple[int, int], spend: Callable[[float], None]
) -> Iterator[np.ndarray]:
    """The pixels of an item in the flattened image, a bounded number of them at a time."""
    for part in item.parts:
        if item.area:
            yield pixels(_runs(part, shape, spend))
            continue
        line, brush = part[0] + _NUDGE, item.width or WIDTH
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
