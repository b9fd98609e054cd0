"""Where to draw next: does following the proposals of notebook 08 help more than drawing anywhere?

In each of six choices a simulated annotator has drawn two nuclei and two background strokes on
each of three training images. Then ten strokes are added, five at a time: at random, as the same
annotator would go on; at the places that `where_to_draw` proposes, of what is wrong there, or of
what lies there if nothing is; or on the largest mistakes, which only someone sees who knows the
masks. The forest learns anew after every five. Images are cut to 512 x 512 pixels in their middle;
IoU is the mean over the three of them.

A trial is in `next_stroke.csv` as soon as it ends, and is not made again where it is there.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import ndimage

from benchmarks.harness import Row, Scale, absolute, keep
from s2l_core.config import S2LError, seed_for
from s2l_core.images import CellImage
from s2l_core.metrics import EIGHT, instances, iou
from s2l_images.learning.forest import fit_own_forest, predict_random_forest
from s2l_images.learning.pretrained_features import shared_features
from s2l_images.nuclei.proposals import spread, where_to_draw
from s2l_images.nuclei.split import diameter_at_strokes
from s2l_images.strokes import Stroke, render
from s2l_paper.data.datasets import load_dataset, splits
from s2l_paper.scribbles.annotators import SimulatedAnnotator
from s2l_paper.scribbles.brush import fit, long_axis, on_grid

SIDE = 512  # pixels of an image that are kept
BEFORE, AFTER, AT_ONCE = 4, 10, 5  # strokes of an image at first; added in all; before a new look
COLUMNS = ["dataset", "choice", "strokes", "before", "after"]

Answers = Sequence[np.ndarray]  # foreground probability (H, W) of each image
Drawn = list[list[Stroke]]  # strokes of each image


def measure(scale: Scale) -> list[Row]:
    """Makes the trials that are missing, and says what all of them show."""
    file = scale.out / "next_stroke.csv"
    kept = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)
    names, choices = scale.pick((("synthetic-fluo",), 1), (("dsb-bf", "dsb-fluo"), 6))
    for choice in range(choices):
        for name in names:
            for rule in RULES:
                if (
                    (kept.dataset == name) & (kept.choice == choice) & (kept.strokes == rule)
                ).any():
                    continue
                row = [name, choice, rule, *trial(chosen(name, choice), choice, RULES[rule])]
                kept = keep(file, kept, pd.DataFrame([row], columns=COLUMNS))
    return summary(kept)


def chosen(name: str, choice: int) -> list[CellImage]:
    """Three training images of fold 0, cut to their middle."""
    if name.startswith("synthetic"):
        return load_dataset(name, images=3, image_size=96)
    cells = {cell.id: cell for cell in load_dataset(name)}
    order = np.random.default_rng(choice).permutation(splits(name, 0).train)
    return [_middle(cells[image]) for image in order[:3]]


def _middle(cell: CellImage) -> CellImage:
    top, left = (max((side - SIDE) // 2, 0) for side in cell.image.shape[:2])
    part = np.s_[top : top + SIDE, left : left + SIDE]
    return replace(cell, image=cell.image[part].copy(), instances=cell.instances[part].copy())


def trial(cells: Sequence[CellImage], choice: int, rule: Callable) -> tuple[float, float]:
    """IoU of the forest before and after ten more strokes."""
    annotator = SimulatedAnnotator(choice, 1.0)
    planned = [annotator.strokes(cell.instances, cell.id) for cell in cells]
    drawn = [strokes[:BEFORE] for strokes in planned]
    waiting = [strokes[BEFORE:] for strokes in planned]

    answers = learned(cells, drawn)
    before = score(cells, answers)
    for turn in range(AFTER // AT_ONCE):
        rng = np.random.default_rng(seed_for("next stroke", choice, turn))
        for number, stroke in rule(cells, answers, drawn, waiting, rng):
            drawn[number].append(stroke)
        answers = learned(cells, drawn)
    return before, score(cells, answers)


def learned(cells: Sequence[CellImage], drawn: Drawn) -> Answers:
    """What a forest says that has learned from all strokes."""
    images, scribbles = [cell.image for cell in cells], _rendered(cells, drawn)
    forest = fit_own_forest(images, scribbles, shared_features())
    return [predict_random_forest(forest, cell.image) for cell in cells]


def _rendered(cells: Sequence[CellImage], drawn: Drawn) -> list[np.ndarray]:
    return [
        render(strokes, cell.image.shape[:2]) for cell, strokes in zip(cells, drawn, strict=True)
    ]


def score(cells: Sequence[CellImage], answers: Answers) -> float:
    """Mean IoU over the images."""
    pairs = zip(cells, answers, strict=True)
    return float(np.mean([iou(cell.instances, answer > 0.5) for cell, answer in pairs]))


def at_random(cells, answers, drawn, waiting, rng) -> list[tuple[int, Stroke]]:
    """The annotator goes on, on any image; what is drawn does not wait any longer."""
    pool = [(number, stroke) for number, strokes in enumerate(waiting) for stroke in strokes]
    picked = [pool[place] for place in rng.permutation(len(pool))[:AT_ONCE]]
    for number, stroke in picked:
        waiting[number].remove(stroke)
    return picked


def as_proposed(cells, answers, drawn, waiting, rng) -> list[tuple[int, Stroke]]:
    """What is wrong within each place that is proposed, or else what lies in its middle."""
    places = {}
    for number, scribbles in enumerate(_rendered(cells, drawn)):
        places[number] = where_to_draw(
            answers[number],
            scribbles,
            image=cells[number].image,
            diameter=_diameter(answers, _rendered(cells, drawn)),
            count=AT_ONCE,
        )
    found = []
    for number, of_image in spread(places, AT_ONCE).items():
        truth = cells[number].instances > 0
        rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
        for row, column, radius in of_image:
            inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
            wrong = inside & ((answers[number] > 0.5) != truth)
            if not wrong.any():
                wrong = inside & (truth == truth[row, column])
            found.append((number, _through(wrong, truth)))
    return found


def _diameter(answers: Answers, scribbles: Sequence[np.ndarray]) -> float:
    try:
        return diameter_at_strokes([instances(answer) for answer in answers], scribbles)
    except S2LError:  # no object lies under a stroke
        return 0.0


def on_mistakes(cells, answers, drawn, waiting, rng) -> list[tuple[int, Stroke]]:
    """Through the largest areas that are wrong, of all images."""
    areas = []
    for number, cell in enumerate(cells):
        truth = cell.instances > 0
        wrong = (answers[number] > 0.5) != truth
        for label in (False, True):
            parts, count = ndimage.label(wrong & (truth == label), EIGHT)
            sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
            for part in np.argsort(-sizes)[:AT_ONCE]:
                areas.append((int(sizes[part]), number, parts == part + 1))
    areas.sort(key=lambda area: -area[0])
    return [
        (number, _through(area, cells[number].instances > 0)) for _, number, area in areas[:AT_ONCE]
    ]


def _through(area: np.ndarray, truth: np.ndarray) -> Stroke:
    """A stroke along the largest piece of an area (H, W) that is one class in truth."""
    pieces = []
    for label in (0, 1):
        parts, count = ndimage.label(area & (truth == label), EIGHT)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        pieces.append((int(sizes.max()), label, parts == sizes.argmax()))
    _, label, piece = max(pieces, key=lambda found: found[0])

    # The image border counts as an end: a stroke stays within the image.
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    path = long_axis(depth, np.random.default_rng(0), 0.0)
    for brush in (2.0, 1.0):
        if stroke := fit(label, brush, path, depth, 1.0, shortest=2):
            return stroke
    return on_grid(label, 1.0, [np.unravel_index(depth.argmax(), depth.shape)])


RULES = {
    "at random": at_random,
    "as proposed": as_proposed,
    "on the largest mistakes": on_mistakes,
}


def summary(kept: pd.DataFrame) -> list[Row]:
    """IoU before and after by each rule, and what following the proposals is worth."""
    rows = []
    for name, group in kept.groupby("dataset", sort=False):
        by_rule = group.pivot(index="choice", columns="strokes", values="after")
        before = group[group.strokes == "at random"].before
        case = partial("{}: {}".format, name)
        rows.append(absolute(case("IoU before"), before, unit="IoU"))
        for rule in RULES:
            rows.append(absolute(case(f"IoU after 10 strokes {rule}"), by_rule[rule], unit="IoU"))

        gained = by_rule["as proposed"] - by_rule["at random"]
        best = by_rule["on the largest mistakes"] - by_rule["at random"]
        bar = f">= {max(best.median() / 2, 0):.3g}"
        said = "gained by the proposals over random strokes; bar: half of what mistakes gain"
        rows.append(absolute(case(said), gained, bar, unit="IoU"))
        rows.append(absolute(case("gained by strokes on the largest mistakes"), best, unit="IoU"))
    return rows
