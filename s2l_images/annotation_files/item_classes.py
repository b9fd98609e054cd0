"""What the names of drawn items mean: which class an item is of, in which words."""

import re
from collections.abc import Mapping

from s2l_core.config import S2LError
from s2l_images.annotation_files.items import Item
from s2l_images.faults import listed

_FOREGROUND = ("foreground", "fg", "nucleus", "nuclei", "cell", "cells", "positive", "1")
_BACKGROUND = ("background", "bg", "negative", "0", "2")
# Names of the classes, in lower case.
WORDS = dict.fromkeys(_FOREGROUND, 1) | dict.fromkeys(_BACKGROUND, 0)
OBJECTS = ("detection", "cell", "nucleus")  # what QuPath found, in contrast to what was drawn

_SIDES = ("background", "foreground")
_STAINS = {"negative", "positive", "1+", "2+", "3+"}  # how QuPath grades an object by intensity


def class_of(item: Item, words: Mapping[str, int] = WORDS) -> int:
    """0 or 1, where all that is said of an item agrees.

    Raises:
        S2LError: it names no class, or both.
    """
    found = classes_of(item, words)
    if len(found) != 1:
        fault = "names both classes" if found else "names no class"
        raise S2LError(
            f"{item.name} {fault} ({', '.join(item.texts)!r:.80}). Name it one of: "
            f"{', '.join(words)}."
        )
    return found.pop()


def classes_of(item: Item, words: Mapping[str, int]) -> set[int]:
    """The classes that are said of an item; empty where none is."""
    said, graded = set(), False
    for text in item.texts:
        text = text.strip().casefold()
        if text in words and item.kind not in OBJECTS:
            said.add(words[text])
            continue

        # An object's grade, such as Negative, says how it is stained: it is a nucleus either way.
        base, *grades = (part.strip() for part in text.split(":"))
        if item.kind in OBJECTS and base in _STAINS:
            base, grades = "", [base]
        graded |= bool(_STAINS & {*grades})

        # The words themselves, and those that a running number follows.
        parts = [base] + [grade for grade in grades if grade not in _STAINS]
        bare = [re.fullmatch(r"([^\W\d_]+)[\W_]*\d*[\W_]*", part) for part in parts]
        said |= {words[part] for part in parts if part in words}
        said |= {words[match[1]] for match in bare if match and match[1] in words}
    if not said and (graded or item.kind in ("cell", "nucleus")):
        return {1}
    return said


def title(item: Item) -> str:
    """What an item is called, without running numbers."""
    texts = [re.sub(r"[\W_]*\d+$", "", text.strip()) or text.strip() for text in item.texts]
    return ", ".join(dict.fromkeys(filter(None, texts))) or item.kind


def understood(counts: Mapping[tuple[str, int], int]) -> str:
    """`annotations.count_classes` for people, the most frequent first; the counts of several files
    may be added.
    """
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return listed(
        [f"{name!r} = {_SIDES[label]} ({counts[name, label]:,})" for name, label in names], 8
    )
