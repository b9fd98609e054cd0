"""Scribbles on every real training image: do they keep what they promise? Needs `S2L_DATA`.

`python -m torture.strokes [every]` prints the section; `every` looks at each so-many-th image only.
"""

import functools
import itertools
import json
import math
import multiprocessing
import os
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from conftest import script
from s2l_core.config import digest
from s2l_core.profiles import REAL
from s2l_images.strokes import Stroke, covered, read_strokes, render
from s2l_paper import paths

maker = script("data/make_scribbles.py")
TITLES = {
    "shipped": "shipped = drawn anew",
    "side": "no pixel on the wrong side",
    "border": "background at the border (annotators)",
    "budget": "budget met",
    "nested": "nested",
    "exact": "rendered exactly",
}


def exactly(stroke: Stroke, shape: tuple[int, int]) -> set[tuple[int, int]]:
    """Pixels whose centre lies within half a width of a stroke,
    in whole numbers of eighths of a pixel alone.
    """
    points, found = np.rint(np.array(stroke.points) * 8).astype(np.int64), set()
    radius = round(stroke.width * 4)
    assert np.array_equal(points, np.array(stroke.points) * 8) and radius == stroke.width * 4
    for start, end in zip(points, points[1:] if len(points) > 1 else points, strict=False):
        low = np.maximum((np.minimum(start, end) - radius) // 8, 0)
        high = np.minimum((np.maximum(start, end) + radius) // 8 + 2, shape)
        if (high <= low).any():
            continue
        y, x = np.mgrid[low[0] : high[0], low[1] : high[1]]
        (py, px), (dy, dx) = (8 * y - start[0], 8 * x - start[1]), end - start
        dot, square = py * dy + px * dx, dy * dy + dx * dx
        near = np.where(dot <= 0, py**2 + px**2, (py - dy) ** 2 + (px - dx) ** 2) <= radius**2
        beside = (dot > 0) & (dot < square) & ((py * dx - px * dy) ** 2 <= radius**2 * square)
        inside = np.where((dot > 0) & (dot < square), beside, near)
        found |= set(zip(y[inside].tolist(), x[inside].tolist(), strict=True))
    return found


@functools.cache
def _images(dataset: str) -> dict:
    return {cell.id: cell for cell in maker.images_of(dataset)}


@functools.cache
def _shipped(dataset: str, annotator: int | str) -> dict[str, list[Stroke]]:
    return read_strokes(paths.scribble_file(dataset, annotator))


def kept(
    dataset: str, annotator: int | str, image: str, *, exact: bool
) -> tuple[dict[str, bool], int, list[str]]:
    """Which promises one annotator keeps on one image, by the keys of `TITLES`; pixels drawn on;
    a hash a budget.
    """
    instances = np.array(_images(dataset)[image].instances)
    sets = {budget: maker.draw(instances, image, annotator, budget) for budget in maker.BUDGETS}
    shipped, everything = _shipped(dataset, annotator)[image], sets[maker.BUDGETS[-1]]
    labels = render(everything, instances.shape)
    foreground, background = ([s for s in everything if s.label == label] for label in (1, 0))
    if annotator == "skeleton":
        total, owners = (
            ndimage.label(skeletonize(instances > 0), np.ones((3, 3)))[1],
            range(len(foreground)),
        )
    else:
        found = [np.unique(instances[covered(stroke, instances.shape)]) for stroke in foreground]
        owners = [nuclei[0] if len(nuclei) == 1 else 0 for nuclei in found]
        total = len(np.unique(instances[instances > 0]))
    apart = all(not instances[covered(stroke, instances.shape)].any() for stroke in background)
    facts = {"shipped": sets[maker.BUDGET] == shipped}
    facts["side"] = bool(
        (instances[labels == 1] > 0).all()
        and apart
        and (annotator == "skeleton" or 0 not in owners)
    )
    facts["budget"] = len(set(owners)) == len(foreground)
    facts |= {} if annotator == "skeleton" else {"border": True}
    for budget, strokes in sets.items():
        facts["budget"] &= sum(stroke.label for stroke in strokes) == math.ceil(
            Fraction(str(budget)) * total
        )
        if "border" in facts:
            ground = (
                render([stroke for stroke in strokes if not stroke.label], instances.shape) == 0
            )
            facts["border"] &= bool(
                np.concatenate([ground[0], ground[-1], ground[:, 0], ground[:, -1]]).any()
            )
    facts["nested"] = all(
        [x for x in sets[large] if x.label == side][: len(few)] == few
        for small, large in itertools.pairwise(maker.BUDGETS)
        for side in (0, 1)
        if (few := [x for x in sets[small] if x.label == side])
    )
    if exact:
        pixels = (
            {*zip(*(axis.tolist() for axis in covered(s, labels.shape)), strict=True)}
            for s in shipped
        )
        facts["exact"] = all(
            exactly(s, labels.shape) == drawn for s, drawn in zip(shipped, pixels, strict=True)
        )
    hashes = [maker.stroke_hash(image, strokes) for strokes in sets.values()]
    return facts, int((render(shipped, labels.shape) < 2).sum()), hashes


def _examined(job: tuple[str, int, str]) -> list[tuple[int | str, dict[str, bool], int, list[str]]]:
    """All annotators on one image; one of the four in turn is rendered exactly."""
    dataset, number, image = job
    exact = maker.ANNOTATORS[number % 4]
    return [(who, *kept(dataset, who, image, exact=who == exact)) for who in maker.ANNOTATORS]


def same_hashes(dataset: str, drawn: dict[str, list[str]]) -> str:
    """How many of a data set's committed hashes are those of what was drawn on all of its
    images.
    """
    committed = json.loads(maker.HASHES.read_text())["all"]
    same = {
        name: digest(found) == committed[name]
        for name, found in drawn.items()
        if name.startswith(f"{dataset} ")
    }
    for name in (name for name, true in same.items() if not true):
        print(f"another hash than committed: {name}", flush=True)
    return f"{sum(same.values())} of {len(same)}"


def report(every: int = 1) -> str:
    """Section of `docs/faults.md`: what was examined on each data set,
    and how often a promise was kept.
    """
    jobs = []
    for dataset in REAL:
        split = json.loads(paths.split_file(dataset).read_text())
        ids = sorted({image for part in split["parts"] for image in part})
        assert ids == sorted(_shipped(dataset, 0)), dataset
        jobs += [(dataset, number, image) for number, image in enumerate(ids[::every])]
    counts, drawn = {dataset: Counter() for dataset in REAL}, defaultdict(list)
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=multiprocessing.get_context("forkserver")
    ) as pool:
        for found, (dataset, _, image) in zip(
            pool.map(_examined, jobs, chunksize=8), jobs, strict=True
        ):
            counts[dataset]["images"] += 1
            for annotator, facts, pixels, hashes in found:
                counts[dataset].update({"sets": len(hashes), "pixels": pixels})
                for budget, value in zip(maker.BUDGETS, hashes, strict=True):
                    drawn[f"{dataset} {annotator} {budget}"].append(value)
                for fact, true in facts.items():
                    counts[dataset].update({f"{fact} tried": 1, fact: true})
                    if not true:
                        print(
                            f"not {TITLES[fact]}: {dataset}, {image}, annotator {annotator}",
                            flush=True,
                        )
    head = [
        "data",
        "images",
        "sets of strokes",
        "pixels drawn on",
        *TITLES.values(),
        "hash as committed",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for dataset, count in counts.items():
        cells = [count["images"], count["sets"], count["pixels"]]
        cells += [f"{count[fact]} of {count[f'{fact} tried']}" for fact in TITLES]
        cells += [same_hashes(dataset, drawn) if every == 1 else "not all drawn"]
        lines.append(f"| {dataset} | {' | '.join(map(str, cells))} |")
    return f"""## Scribbles on every real training image

Three simulated annotators and the skeleton rule, each drawn anew on 10, 30, 50 and 100 % of the nuclei: a promise is
kept on an image if it is at all four. Wrong side is a pixel of a foreground stroke outside of its nucleus, or of a
background stroke on any. The border is a promise of the annotators alone, and only theirs are counted there: the
skeleton rule picks some pieces of its background at random, and none of them may lie at the border. One set
of each image is rendered again, in whole numbers. A hash covers one annotator and budget on all images of a data set;
the committed ones are in `data/scribbles/hashes.json`. Pixels are those of the shipped strokes, 30 %.

{chr(10).join(lines)}
"""


if __name__ == "__main__":
    print(report(*map(int, sys.argv[1:2])))
