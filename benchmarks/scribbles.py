"""Both ways to draw scribbles, beside a plain skeleton rule."""

import math
from functools import partial

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import skeletonize

from benchmarks import inputs
from benchmarks.harness import Case, Row, Scale, absolute, ratio, seconds
from s2l_core.config import IGNORE, seed_for
from s2l_core.metrics import EIGHT
from s2l_paper.data.datasets import load_dataset
from s2l_paper.scribbles.annotators import SimulatedAnnotator
from s2l_paper.scribbles.skeletons import skeleton_scribbles

BUDGET = 0.3


def measure(scale: Scale) -> list[Row]:
    """1024 x 1024 pixels with 100 nuclei; then a set of scribbles for all of DSB-Fluo.

    At that size the plain rules take 4 minutes: `make bench` compares at a quarter of it, which
    favours them, as what they do grows with pixels times strokes.
    """
    side, count = scale.pick((128, 10), (1024, 100))
    rows = [
        absolute(f"{name}, {side} x {side}, {count} nuclei", times, "<= 0.5")
        for name, times in scale.turns(drawings(side, count)).items()
    ]
    side, count = scale.pick((64, 4), (512, 25), (1024, 100))
    times, instances = scale.turns(drawings(side, count)), inputs.nuclei(side, count, (10, 25))
    for relabel, how in {True: "relabelled for each stroke", False: "labelled once"}.items():
        slow = [
            seconds(partial(plain_skeletons, instances, BUDGET, 0, relabel=relabel))
        ]  # once, the first call
        for name in times:
            middle = [float(np.median(times[name]))]
            bar = ">= 100" if relabel and scale.name != "smoke" else ""
            rows.append(
                ratio(
                    f"{name}, {side} x {side}, {count} nuclei",
                    middle,
                    f"plain rule, {how}",
                    slow,
                    bar,
                )
            )
    return rows + [whole_set(scale)]


def drawings(side: int, count: int) -> dict[str, Case]:
    """Both ways to draw on made-up nuclei."""
    instances = inputs.nuclei(side, count, (10, 25))
    return {
        "simulated annotator": partial(SimulatedAnnotator(0, BUDGET).draw, instances),
        "skeleton rule": partial(skeleton_scribbles, instances, BUDGET, 0),
    }


def whole_set(scale: Scale) -> Row:
    """Scribbles of every image of a data set, on one core."""
    name = scale.pick("synthetic-fluo", inputs.fluorescence())
    images = load_dataset(name, **scale.pick({"images": 2}, {}))
    annotator = SimulatedAnnotator(0, BUDGET)
    time = seconds(lambda: [annotator.draw(image.instances, key=image.id) for image in images])
    return absolute(f"simulated annotator, all {len(images)} images of {name}", [time], "<= 60")


def plain_skeletons(
    instances: np.ndarray, share: float, seed: int, *, relabel: bool = True
) -> np.ndarray:
    """S2L's rule as first written: thins the mask,
    and the background of the mask mirrored past the border.
    """
    (height, width), mask = instances.shape, instances > 0
    background = skeletonize(~np.pad(mask, ((height, height), (width, width)), mode="symmetric"))
    background &= ndimage.convolve(background.astype(np.uint8), EIGHT, mode="constant") <= 3
    scribbles, count = np.full(instances.shape, IGNORE, np.uint8), 0
    for value, skeleton, corner in (
        (1, skeletonize(mask), (0, 0)),
        (0, background, (height, width)),
    ):
        strokes = [pixels - corner for pixels in plain_strokes(skeleton, relabel)]
        strokes = [
            pixels[((pixels >= 0) & (pixels < instances.shape)).all(1)] for pixels in strokes
        ]
        strokes = [pixels for pixels in strokes if len(pixels)]
        count = math.ceil(share * len(strokes)) if value else count
        for k in np.random.default_rng(seed_for(seed, "plain", value)).permutation(len(strokes))[
            :count
        ]:
            scribbles[tuple(strokes[k].T)] = value
    return scribbles


def plain_strokes(skeleton: np.ndarray, relabel: bool) -> list[np.ndarray]:
    """Pixels (n, 2) of each connected piece; `relabel` labels the image anew for each."""
    labels = label(skeleton, connectivity=2)
    return [
        np.argwhere((label(skeleton, connectivity=2) if relabel else labels) == k)
        for k in range(1, labels.max() + 1)
    ]
