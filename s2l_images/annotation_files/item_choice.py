"""Which items of a file are read: those of the image's plane, and of these what may be a nucleus
or a scribble.

Whatever is left out becomes a finding: nothing is dropped without a word.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from s2l_core.config import S2LError
from s2l_images.annotation_files.item_classes import OBJECTS, classes_of
from s2l_images.annotation_files.items import Item
from s2l_images.annotation_files.parsers import items
from s2l_images.faults import Fault, Finding, listed

_AXES = {"slice": "slice", "c": "channel", "z": "z", "t": "frame"}

# What a person says of the plane: its number, or numbers of several axes.
Plane = int | Mapping[str, int] | None


def on_plane(path: Path, plane: Plane, found: list[Finding]) -> list[Item]:
    """The items of a file that have a geometry and lie on the image's plane.

    Args:
        path: of the file.
        plane: which one the image is; None: the file must hold items of one plane only.
        found: what was left out is appended.

    Raises:
        Fault: items of several planes, and nobody says which one, or none lies on it.
    """
    drawn = items(path)
    placed = [item for item in drawn if item.parts]
    if len(placed) < len(drawn):
        found.append(left_out(path, f"{len(drawn) - len(placed)} features without a geometry"))

    # What lies on no plane in particular lies on all of them.
    planes = Counter(tuple(item.plane.items()) for item in placed if item.plane)
    if len(planes) < 2:
        return placed
    shown = listed([f"{_plane_name(dict(key))} ({n} items)" for key, n in sorted(planes.items())])
    wanted = _wanted_plane(path, plane, _varying(planes), shown)

    kept = [
        item
        for item in placed
        if all(item.plane.get(axis, number) == number for axis, number in wanted.items())
    ]
    if not any(item.plane for item in kept):
        raise Fault("several-planes", path, f"no item on {_plane_name(wanted)}, but on {shown}")
    if len(kept) < len(placed):
        text = f"{len(placed) - len(kept)} of {len(placed)} items on other planes ({shown})"
        found.append(left_out(path, text))
    return kept


def _wanted_plane(path: Path, plane: Plane, varying: list[str], shown: str) -> Mapping[str, int]:
    """The plane as a number for each axis along which items of the file differ."""
    if isinstance(plane, Mapping):
        return plane
    if plane is None:
        example = "plane = 3"
        if len(varying) > 1:
            example = f"plane = {{{', '.join(f'{axis} = 1' for axis in varying)}}}"
        raise Fault("several-planes", path, f"items on {shown}; such as `{example}`")
    if len(varying) > 1:
        what = f"items on {shown}, of which plane = {plane} does not choose one"
        raise Fault("several-planes", path, what)
    return dict.fromkeys(varying, plane)


def _varying(planes: Mapping[tuple, int]) -> list[str]:
    """The axes along which items lie on different planes."""
    numbers: dict[str, set[int]] = {}
    for key in planes:
        for axis, number in key:
            numbers.setdefault(axis, set()).add(number)
    return [axis for axis, found in numbers.items() if len(found) > 1]


def _plane_name(plane: Mapping[str, int]) -> str:
    """A plane in words, such as `channel 1 z 3`."""
    return " ".join(f"{_AXES.get(axis, axis)} {number}" for axis, number in plane.items())


def nuclei_of(path: Path, drawn: Sequence[Item], found: list[Finding]) -> list[Item]:
    """The items that may be nuclei, by what QuPath calls them."""
    drawn = _without(path, drawn, _is_frame, "tiles, cores or regions (a class with *)", found)
    drawn = _without(path, drawn, _is_ground, "areas called background", found)
    kinds = {item.kind for item in drawn}
    if kinds & {"cell", "nucleus"}:
        what = "detections beside cells"
        drawn = _without(path, drawn, lambda item: item.kind == "detection", what, found)
    if kinds & {*OBJECTS}:
        what = "annotations around what was detected"
        drawn = _without(path, drawn, lambda item: item.kind == "annotation", what, found)
    return _cells(path, drawn, found)


def strokes_of(
    path: Path, drawn: Sequence[Item], words: Mapping[str, int], found: list[Finding]
) -> list[Item]:
    """The items that may be scribbles: all but frames, and outlines without a class around what was
    detected.
    """

    def unwanted(item: Item) -> bool:
        return item.area and item.kind == "annotation" and not classes_of(item, words)

    def frame(item: Item) -> bool:
        return _is_frame(item) and not classes_of(item, words)

    drawn = _without(path, drawn, frame, "tiles, cores or regions (a class with *)", found)
    if any(item.kind in OBJECTS for item in drawn):
        drawn = _without(path, drawn, unwanted, "annotations without a class", found)
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


def _without(
    path: Path, drawn: Sequence[Item], unwanted: Callable[[Item], bool], what: str, found: list
) -> list[Item]:
    """The items that are wanted; how many others there are is noted."""
    kept = [item for item in drawn if not unwanted(item)]
    if len(kept) < len(drawn):
        found.append(left_out(path, f"{len(drawn) - len(kept)} {what}"))
    return kept


def left_out(path: Path, what: str) -> Finding:
    """The finding that some items of a file are not read."""
    return Finding("items-left-out", path, what)


def _is_frame(item: Item) -> bool:
    """Whether an item is a tile or a region for QuPath, which ends the names of classes to be
    ignored with a star.
    """
    return item.kind in ("tile", "tma core") or any(text.endswith("*") for text in item.texts)


def _is_ground(item: Item) -> bool:
    """Whether an item says in words that it is background; a grade such as Negative does not."""
    names = [re.sub(r"[\W\d_]+$", "", text.split(":")[0].strip().casefold()) for text in item.texts]
    return bool({"background", "bg"} & {*names})


def refuse_nothing(path: Path, kept: Sequence[Item], found: Sequence[Finding]) -> None:
    """A file of which nothing is left is not the same as an empty one, which shows no nucleus."""
    others = [one.found for one in found if one.code == "items-left-out" and one.file == path]
    if others and not kept:
        raise Fault("nothing-left", path, f"holds nothing but {' and '.join(others)}")


def within(drawn: list[Item], shape: tuple[int, int]) -> list[Item]:
    """The items, none of which lies wholly outside the image."""
    for item in drawn:
        margin = 0.5 if item.area else 0.5 + (item.width or 0) / 2
        low, high = item.points.min(0), item.points.max(0)
        if (high < -margin).any() or (low > np.array(shape) - 1 + margin).any():
            raise S2LError(
                f"{item.name} lies wholly outside the image of {shape}: is it of another image, "
                "or scaled? Export it again for this image, or delete it."
            )
    return drawn
