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
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from s2l_core import paths
from s2l_core.config import REAL, Stroke, seed_for
from s2l_core.datasets import load_dataset
from s2l_core.scribbles import SimulatedAnnotator, skeleton_strokes
from s2l_core.strokes import covered, read_strokes, render

ANNOTATORS = (0, 1, 2, "skeleton")
BUDGETS = (0.1, 0.3, 0.5, 1.0)
SHIPPED = 0.3
TITLES = {
    "shipped": "shipped = drawn anew",
    "side": "no pixel on the wrong side",
    "border": "background at the border",
    "budget": "budget met",
    "nested": "nested",
    "exact": "rendered exactly",
}


def exactly(stroke: Stroke, shape: tuple[int, int]) -> set[tuple[int, int]]:
    """Pixels whose centre lies within half a width of a stroke, in whole numbers of eighths of a pixel alone."""
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
    return {cell.id: cell for cell in load_dataset("monuseg-train" if dataset == "monuseg" else dataset)}


@functools.cache
def _shipped(dataset: str, annotator: int | str) -> dict[str, list[Stroke]]:
    return read_strokes(paths.scribble_file(dataset, annotator))


def _drawn(annotator: int | str, budget: float, instances: np.ndarray, image: str) -> list[Stroke]:
    if annotator == "skeleton":
        return skeleton_strokes(instances, budget, seed_for(0, "skeleton", image))
    return SimulatedAnnotator(annotator, budget).strokes(instances, image)


def kept(dataset: str, annotator: int | str, image: str, *, budgets, exact: bool) -> tuple[dict[str, bool], int]:
    """Which promises the strokes of one annotator on one image keep, by the keys of `TITLES`; and their pixels."""
    instances = np.array(_images(dataset)[image].instances)
    sets = {budget: _drawn(annotator, budget, instances, image) for budget in budgets}
    shipped, everything = _shipped(dataset, annotator)[image], sets[budgets[-1]]
    labels = render(everything, instances.shape)
    foreground, background = ([s for s in everything if s.label == label] for label in (1, 0))
    if annotator == "skeleton":
        total, owners = ndimage.label(skeletonize(instances > 0), np.ones((3, 3)))[1], range(len(foreground))
    else:
        found = [np.unique(instances[covered(stroke, instances.shape)]) for stroke in foreground]
        owners = [nuclei[0] if len(nuclei) == 1 else 0 for nuclei in found]
        total = len(np.unique(instances[instances > 0]))
    apart = all(not instances[covered(stroke, instances.shape)].any() for stroke in background)
    facts = {"shipped": sets[SHIPPED] == shipped}
    facts["side"] = bool((instances[labels == 1] > 0).all() and apart and (annotator == "skeleton" or 0 not in owners))
    facts["budget"], facts["border"] = len(set(owners)) == len(foreground), True
    for budget, strokes in sets.items():
        ground = render([stroke for stroke in strokes if not stroke.label], instances.shape) == 0
        at_border = np.concatenate([ground[0], ground[-1], ground[:, 0], ground[:, -1]]).any()
        by_lot = annotator == "skeleton" and 2 * sum(stroke.label for stroke in strokes) == len(strokes)
        facts["border"] &= bool(at_border) or by_lot
        facts["budget"] &= sum(stroke.label for stroke in strokes) == math.ceil(Fraction(str(budget)) * total)
    if len(budgets) > 1:
        facts["nested"] = all(
            [x for x in sets[large] if x.label == side][: len(few)] == few
            for small, large in itertools.pairwise(budgets)
            for side in (0, 1)
            if (few := [x for x in sets[small] if x.label == side])
        )
    if exact:
        pixels = ({*zip(*(axis.tolist() for axis in covered(s, labels.shape)), strict=True)} for s in shipped)
        facts["exact"] = all(exactly(s, labels.shape) == drawn for s, drawn in zip(shipped, pixels, strict=True))
    return facts, int((render(shipped, labels.shape) < 2).sum())


def _examined(job: tuple[str, int, str]) -> tuple[str, list[tuple[int | str, dict[str, bool], int]]]:
    """All annotators on one image; the rule and one other in turn at all budgets, one of the four rendered exactly."""
    dataset, number, image = job
    whole = {ANNOTATORS[number % 3], "skeleton"}
    budgets = {who: BUDGETS if who in whole else (SHIPPED,) for who in ANNOTATORS}
    exact = ANNOTATORS[number % 4]
    return dataset, [(who, *kept(dataset, who, image, budgets=budgets[who], exact=who == exact)) for who in ANNOTATORS]


def report(every: int = 1) -> str:
    """Section of `docs/faults.md`: what was examined on each data set, and how often a promise was kept."""
    jobs = []
    for dataset in REAL:
        split = json.loads(paths.split_file(dataset).read_text())
        ids = sorted({image for part in split["parts"] for image in part})
        assert ids == sorted(_shipped(dataset, 0)), dataset
        jobs += [(dataset, number, image) for number, image in enumerate(ids[::every])]
    counts, context = {dataset: Counter() for dataset in REAL}, multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for (dataset, found), (_, _, image) in zip(pool.map(_examined, jobs, chunksize=8), jobs, strict=True):
            counts[dataset]["images"] += 1
            for annotator, facts, pixels in found:
                counts[dataset].update({"sets": 1, "pixels": pixels})
                for fact, true in facts.items():
                    counts[dataset].update({f"{fact} tried": 1, fact: true})
                    if not true:
                        print(f"not {TITLES[fact]}: {dataset}, {image}, annotator {annotator}", flush=True)
    lines = [f"| data | images | sets of strokes | pixels drawn on | {' | '.join(TITLES.values())} |"]
    lines.append("|---" * (4 + len(TITLES)) + "|")
    for dataset, count in counts.items():
        kept_of = [f"{count[fact]} of {count[f'{fact} tried']}" for fact in TITLES]
        lines.append(f"| {dataset} | {count['images']} | {count['sets']} | {count['pixels']} | {' | '.join(kept_of)} |")
    return f"""## Scribbles on every real training image

Three simulated annotators and the skeleton rule, drawn anew at 30 %, the rule and one of the annotators in turn at 10,
50 and 100 % as well: a promise is kept if it is at each of them. Wrong side is a pixel of a foreground stroke outside
of its nucleus, or of a background stroke on any. The skeleton rule draws lots among the pieces of its background
where they are more than those of the foreground: only where it takes all has it to reach the border. One set of each
image is rendered again, in whole numbers.

{chr(10).join(lines)}
"""


if __name__ == "__main__":
    print(report(*map(int, sys.argv[1:2])))
