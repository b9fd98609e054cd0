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
    total = sum(map(Counter, counts.values()), Counter())
    classes = {value: chosen.get(value, IGNORE) for value in total} if chosen else _guess(total)
    if isinstance(classes, str):
        for path, values in counts.items():
            if isinstance(code := _guess(values), str):
                raise Fault(code, path, f"holds {_values(values)}{_black(values)}")
        (path, first), *others = counts.items()
        other, values = next(pair for pair in others if {*pair[1]} != {*first})
        raise Fault(
            "scribble-mixed", other, f"holds {_values(values)}, but {path.name} {_values(first)}"
        )
    return Encoding(classes, WORDS | words, _values(total, classes))


def _guess(counts: Mapping[int, int]) -> dict[int, int] | str:
    """Class of each value where only one reading makes sense; else the code of what is wrong."""
    values, grey = set(counts), {127, 128} & set(counts)
    if len(values) < 2:
        return dict.fromkeys(values, IGNORE)
    if colours := {value for value in values if value >= COLOUR}:
        paints, ground = {value: _paint(value) for value in colours}, values - colours
        clear = None not in paints.values() and len({*paints.values()} - {"red"}) < 2
        if clear and len(ground) < 2 and ground <= {0, 255, TRANSPARENT}:
            return {value: int(paint == "red") for value, paint in paints.items()} | dict.fromkeys(
                ground, IGNORE
            )
        return "scribble-colours"
    if {1, 255} <= values <= {0, 1, 255}:
        return {0: 0, 1: 1, 255: IGNORE}
    if len(grey) == 1 and values <= {0, 255} | grey and max(counts, key=counts.__getitem__) in grey:
        return {0: 0, 255: 1} | dict.fromkeys(grey, IGNORE)
    if values in ({0, 1}, {0, 255}):
        return "scribble-binary"
    return "scribble-ambiguous" if len(values) <= 20 else "scribble-values"


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
        name = (
            "transparent"
            if value == TRANSPARENT
            else f"#{value - COLOUR:06x}"
            if value >= COLOUR
            else str(value)
        )
        names.append(
            f"{name}{f' = {MEANINGS[classes[value]]}' if classes else ''} ({counts[value]:,} px)"
        )
    return listed(names, 8)


def _black(values: Mapping[int, int]) -> str:
    return "; numbers so small look black in most viewers" if max(values) <= 20 else ""


def _chosen(path: Path) -> tuple[dict[str, int], dict[int, int]]:
    """Class of each name, and of each number or colour, in `scribbles.json`; both empty where there
    is none.
    """
    content, words, values = read_json(path, "bad-encoding"), {}, {}
    if content and set(content) != {"foreground", "background"}:
        raise Fault("bad-encoding", path, f"holds {listed(list(content))}")
    for side, entries in content.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            known, value = values, entry
            if isinstance(entry, str):
                try:
                    red, green, blue, *_ = ImageColor.getrgb(entry)
                    value = (
                        red if red == green == blue else COLOUR + (red << 16) + (green << 8) + blue
                    )
                except ValueError:
                    known, value = words, entry.strip().casefold()
            elif type(entry) is not int:
                raise Fault("bad-encoding", path, f"{side} holds {entry!r}")
            if known.setdefault(value, int(side == "foreground")) != int(side == "foreground"):
                raise Fault("bad-encoding", path, f"{entry!r} is both foreground and background")
    return words, values


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
