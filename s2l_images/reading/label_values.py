"""What scribbles of other programs mean: the values of label images, the names of drawn items
-> 0, 1 and IGNORE.

Nothing is guessed silently: the meaning follows from the values of all label images of a folder
together or from its `scribbles.json`, is said with counts, and is refused where two readings are
possible.
"""

import functools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ImageColor

from s2l_core.config import CLASSES, IGNORE
from s2l_images.annotation_files.item_classes import WORDS
from s2l_images.faults import Fault, listed
from s2l_images.places import own_encoding
from s2l_images.reading.label_images import COLOUR, TRANSPARENT, read_values
from s2l_images.reading.unreadable import reading

MEANINGS = dict(enumerate(CLASSES)) | {IGNORE: "not drawn"}


@dataclass(frozen=True)
class Encoding:
    """What the values of label images in scribbles/, and the names of drawn items, stand for."""

    classes: Mapping[int, int]  # value -> 0, 1 or IGNORE
    words: Mapping[str, int]  # name in lower case -> 0 or 1
    said: str  # the classes for people, with counts; empty without label images


def count_values(path: Path) -> Mapping[int, int]:
    """Pixels of each value of a label image, kept until the file changes."""
    with reading(path):
        stat = path.stat()
    return _counted(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _counted(path: Path, *_) -> Mapping[int, int]:
    values, counts = np.unique(read_values(path), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def encoding_of(folder: Path, counts: Mapping[Path, Mapping[int, int]]) -> Encoding:
    """What scribbles mean, by `scribbles.json` or by the values of all label images together.

    Args:
        folder: one's own.
        counts: of each label image, by `count_values`.

    Raises:
        Fault: a `scribbles.json` that cannot be followed, or values that can be read in two ways.
    """
    words, chosen = _chosen(own_encoding(folder))
    total: Counter[int] = Counter()
    for values in counts.values():
        total.update(values)

    # What the owner wrote down decides, else the values of all label images together.
    if chosen:
        classes = {value: chosen.get(value, IGNORE) for value in total}
    else:
        classes, fault = _guess(total)
        if fault:
            raise _unclear(counts)
    return Encoding(classes, WORDS | words, _values(total, classes))


def _unclear(counts: Mapping[Path, Mapping[int, int]]) -> Fault:
    """Why label images cannot be read: the first that cannot be read alone, or two that differ."""
    for path, values in counts.items():
        _, fault = _guess(values)
        if fault:
            return Fault(fault, path, f"holds {_values(values)}{_black(values)}")

    # Each file makes sense by itself, so there are two with different values.
    (path, first), *others = counts.items()
    other, values = next(pair for pair in others if set(pair[1]) != set(first))
    found = f"holds {_values(values)}, but {path.name} {_values(first)}"
    return Fault("scribble-mixed", other, found)


def _guess(counts: Mapping[int, int]) -> tuple[dict[int, int], str]:
    """Class of each value where only one reading makes sense; else no class, and the fault's code.

    Args:
        counts: value -> pixels.
    """
    values = set(counts)
    if len(values) < 2:
        return dict.fromkeys(values, IGNORE), ""
    colours = {value for value in values if value >= COLOUR}
    if colours:
        return _guess_colours(colours, values - colours)
    if {1, 255} <= values <= {0, 1, 255}:
        return {0: 0, 1: 1, 255: IGNORE}, ""

    # Black and white on one grey, which is the ground if most pixels have it.
    grey = values & {127, 128}
    if len(grey) == 1 and values <= {0, 255} | grey:
        (ground,) = grey
        if max(counts, key=counts.__getitem__) == ground:
            return {0: 0, 255: 1, ground: IGNORE}, ""

    if values in ({0, 1}, {0, 255}):
        return {}, "scribble-binary"
    if len(values) <= 20:
        return {}, "scribble-ambiguous"
    return {}, "scribble-values"


def _guess_colours(colours: set[int], ground: set[int]) -> tuple[dict[int, int], str]:
    """As `_guess`, of painted images: red is foreground, one other colour is background."""
    paints = {value: _paint(value) for value in colours}
    others = set(paints.values()) - {"red"}
    one_other_colour = None not in others and len(others) < 2
    one_ground = len(ground) < 2 and ground <= {0, 255, TRANSPARENT}
    if not (one_other_colour and one_ground):
        return {}, "scribble-colours"
    classes = {value: int(paint == "red") for value, paint in paints.items()}
    return classes | dict.fromkeys(ground, IGNORE), ""


def _paint(value: int) -> str | None:
    """`red`, `green` or `blue`, where one of them is at least half on and more than twice each
    other.
    """
    shares = {"red": value >> 16 & 255, "green": value >> 8 & 255, "blue": value & 255}
    _, second, most = sorted(shares, key=shares.__getitem__)
    return most if shares[most] > 127 and shares[second] <= 0.45 * shares[most] else None


def _values(counts: Mapping[int, int], classes: Mapping[int, int] | None = None) -> str:
    """Values with their pixels, the most frequent first, and with their classes where they are
    known.
    """
    names = []
    for value in sorted(counts, key=counts.__getitem__, reverse=True):
        meaning = f" = {MEANINGS[classes[value]]}" if classes else ""
        names.append(f"{_value_name(value)}{meaning} ({counts[value]:,} px)")
    return listed(names, 8)


def _value_name(value: int) -> str:
    """A value in words: a number as it is, a colour as in HTML."""
    if value == TRANSPARENT:
        return "transparent"
    if value >= COLOUR:
        return f"#{value - COLOUR:06x}"
    return str(value)


def _black(values: Mapping[int, int]) -> str:
    return "; numbers so small look black in most viewers" if max(values) <= 20 else ""


def _chosen(path: Path) -> tuple[dict[str, int], dict[int, int]]:
    """Class of each name, and of each number or colour, in `scribbles.json`; both empty where there
    is none.
    """
    content = read_json(path, "bad-encoding")
    if content and set(content) != {"foreground", "background"}:
        raise Fault("bad-encoding", path, f"holds {listed(list(content))}")

    words: dict[str, int] = {}
    values: dict[int, int] = {}
    for side, entries in content.items():
        label = int(side == "foreground")
        entries = entries if isinstance(entries, list) else [entries]
        for entry in entries:
            value = _entry(path, side, entry)
            known = words if isinstance(value, str) else values
            if known.setdefault(value, label) != label:
                raise Fault("bad-encoding", path, f"{entry!r} is both foreground and background")
    return words, values


def _entry(path: Path, side: str, entry: object) -> int | str:
    """A number as it is, a colour as `read_values` codes it, or else a name in lower case."""
    if type(entry) is int:
        return entry
    if not isinstance(entry, str):
        raise Fault("bad-encoding", path, f"{side} holds {entry!r}")
    try:
        red, green, blue, *_ = ImageColor.getrgb(entry)
    except ValueError:
        return entry.strip().casefold()
    if red == green == blue:
        return red
    return COLOUR + (red << 16) + (green << 8) + blue


def read_json(path: Path, code: str) -> dict:
    """Content of a JSON file written by hand, {} where there is none; a Fault of `code` where it is
    damaged.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise Fault(code, path, f"cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise Fault(code, path, f"holds {content!r:.50}")
    return content
