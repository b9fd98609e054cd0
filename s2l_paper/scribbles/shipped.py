"""Strokes that come with the project: of every training image of the real data sets, at any budget.

Budgets are nested, so that the strokes on all nuclei hold those of every smaller budget. For each
data set there are:

- `annotator0.json` and the like: strokes at the default budget, a stroke a line;
- `annotator0_rest.json.bz2`: what budget 1 adds to them;
- `attentive-0.json.bz2`: strokes in which the attentive annotator 0 differs from the blind one.
"""

import bz2
import json
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from s2l_core.config import S2LError
from s2l_core.profiles import REAL
from s2l_images.files import write_atomically
from s2l_images.strokes import UNIT, Stroke, decode, encode, read_strokes
from s2l_paper import paths

Strokes = dict[str, list[Stroke]]


def share_of(share: float, count: int) -> int:
    """ceil(share * count), at least one of those there are.

    Free of the rounding that makes 0.1 * 30 exceed 3.
    """
    return min(count, max(1, math.ceil(share * count - 1e-9)))


def shipped_strokes(dataset: str, annotator: int | str, budget: float) -> Strokes:
    """Shipped strokes of one annotator, by image; none where none are shipped.

    Args:
        dataset: a data set.
        annotator: as `RunConfig.annotator`.
        budget: share of nuclei that get a stroke.

    Raises:
        S2LError: a file that is missing or damaged.
    """
    if dataset not in REAL or not paths.scribble_file(dataset, annotator).exists():
        return {}
    blind = blind_of(annotator)
    few = read_strokes(paths.scribble_file(dataset, blind))
    rest = read_table(paths.rest_file(dataset, blind))[0]
    strokes = {image: joined(few[image], rest[image], annotator) for image in few}
    if blind != annotator:
        looked, turns = read_table(paths.scribble_file(dataset, annotator))
        for image, changed in looked.items():
            for turn, stroke in zip(turns[image], changed, strict=True):
                strokes[image][turn] = stroke
    return {image: within(drawn, budget, annotator) for image, drawn in strokes.items()}


def blind_of(annotator: int | str) -> int | str:
    """The annotator whose strokes an attentive one starts from; any other is its own."""
    if str(annotator).startswith("attentive-"):
        return int(annotator.removeprefix("attentive-"))
    return annotator


def joined(few: list[Stroke], rest: list[Stroke], annotator: int | str) -> list[Stroke]:
    """Strokes of a small budget, and the others, in the order in which all of them are drawn."""
    if annotator == "skeleton":  # which draws all foreground first
        return sorted(few + rest, key=lambda stroke: -stroke.label)
    return few + rest


def within(strokes: list[Stroke], budget: float, annotator: int | str) -> list[Stroke]:
    """Of the strokes on all nuclei, those that a smaller budget has, too."""
    foreground = [turn for turn, stroke in enumerate(strokes) if stroke.label == 1]
    count = share_of(budget, len(foreground))
    if annotator == "skeleton":
        background = len(foreground)
        return strokes[:count] + strokes[background : background + count]
    return strokes[: foreground[count]] if count < len(foreground) else strokes


def write_table(
    file: Path, strokes: Mapping[str, Sequence[Stroke]], meta: Mapping, turns: Mapping | None = None
) -> None:
    """Writes strokes column by column, which takes a third less room than stroke by stroke.

    Args:
        file: where to; a compressed JSON file.
        strokes: strokes of each image, on the grid of quarter pixels.
        meta: what else is to be known of them.
        turns: for each image the places at which its strokes stand in another list.
    """
    lines = [encode(stroke) for drawn in strokes.values() for stroke in drawn]
    table = {
        "meta": dict(meta),
        "unit": UNIT,
        "images": list(strokes),
        "strokes": [len(drawn) for drawn in strokes.values()],
        "widths": [line[0] for line in lines],
        "points": [len(line) // 2 for line in lines],
        "rows": [line[1] for line in lines],
        "columns": [line[2] for line in lines],
        "steps": [step for line in lines for step in line[3:]],
    }
    if turns is not None:
        table["turns"] = [turn for image in strokes for turn in turns[image]]
    text = json.dumps(table, separators=(",", ":")) + "\n"
    write_atomically(file, lambda part: part.write_bytes(bz2.compress(text.encode())))


def read_table(file: Path) -> tuple[Strokes, dict[str, list[int]]]:
    """Strokes of each image as `write_table` left them, and their turns.

    Raises:
        S2LError: a file that is missing or damaged.
    """
    try:
        table = json.loads(bz2.decompress(file.read_bytes()))
        # A line of n points has n - 1 steps of two numbers each.
        ends = list(accumulate((2 * (count - 1) for count in table["points"]), initial=0))
        if ends[-1] != len(table["steps"]) or sum(table["strokes"]) != len(table["widths"]):
            raise ValueError("columns of different lengths")
        heads = zip(table["widths"], table["rows"], table["columns"], strict=True)
        lines = []
        for head, (first, last) in zip(heads, pairwise(ends), strict=True):
            lines.append(decode([*head, *table["steps"][first:last]], table["unit"]))

        turns = table.get("turns", [])
        strokes, places = {}, {}
        bounds = pairwise(accumulate(table["strokes"], initial=0))
        for image, (first, last) in zip(table["images"], bounds, strict=True):
            strokes[image] = lines[first:last]
            places[image] = turns[first:last]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise S2LError(
            f"{file}: expected a table of strokes, found {error!r}. Restore it from the repository."
        ) from error
    return strokes, places
