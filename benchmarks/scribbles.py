"""Both ways to draw scribbles, beside a plain skeleton rule."""

import math
from functools import partial

import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import skeletonize

from benchmarks import inputs
from benchmarks.harness import Row, Scale, absolute, ratio, seconds
from s2l_core.config import IGNORE, seed_for
from s2l_core.datasets import load_dataset
from s2l_core.scribbles import EIGHT, SimulatedAnnotator, skeleton_scribbles

SHARE = 0.3


def measure(scale: Scale) -> list[Row]:
    """1024 x 1024 pixels with 100 nuclei; then a set of scribbles for all of DSB-Fluo."""
    side, count = scale.pick((128, 10), (1024, 100))
    instances = inputs.nuclei(side, count, (10, 25))
    drawn = {"simulated annotator": partial(SimulatedAnnotator(0, SHARE).draw, instances)}
    drawn["skeleton rule"] = partial(skeleton_scribbles, instances, SHARE, 0)
    plain = {again: partial(plain_skeletons, instances, SHARE, 0, relabel=again) for again in (True, False)}
    times = scale.turns(drawn)
    # a minute and a half each time: once, without a first call that does not count
    slow = {again: [seconds(case)] for again, case in plain.items()}
    rows = []
    for name in drawn:
        middle = [float(np.median(times[name]))]
        rows += [
            absolute(f"{name}, {side} x {side}, {count} nuclei", times[name], "<= 0.5"),
            ratio(f"{name}, the same", middle, "plain rule, relabelled for each stroke", slow[True], ">= 100"),
            ratio(f"{name}, the same", middle, "plain rule, labelled once", slow[False]),
        ]
    return rows + [whole_set(scale)]


def whole_set(scale: Scale) -> Row:
    """Scribbles of every image of a data set, on one core."""
    name = scale.pick("synthetic-fluo", inputs.fluorescence())
    images = load_dataset(name, **scale.pick({"images": 2}, {}))
    annotator = SimulatedAnnotator(0, SHARE)
    time = seconds(lambda: [annotator.draw(image.instances, key=image.id) for image in images])
    return absolute(f"simulated annotator, all {len(images)} images of {name}", [time], "<= 60")


def plain_skeletons(instances: np.ndarray, share: float, seed: int, *, relabel: bool = True) -> np.ndarray:
    """S2L's rule as first written: thins the mask, and the background of the mask mirrored past the border."""
    (height, width), mask = instances.shape, instances > 0
    background = skeletonize(~np.pad(mask, ((height, height), (width, width)), mode="symmetric"))
    background &= ndimage.convolve(background.astype(np.uint8), EIGHT, mode="constant") <= 3
    scribbles, count = np.full(instances.shape, IGNORE, np.uint8), 0
    for value, skeleton, corner in ((1, skeletonize(mask), (0, 0)), (0, background, (height, width))):
        strokes = [pixels - corner for pixels in plain_strokes(skeleton, relabel)]
        strokes = [pixels[((pixels >= 0) & (pixels < instances.shape)).all(1)] for pixels in strokes]
        strokes = [pixels for pixels in strokes if len(pixels)]
        count = math.ceil(share * len(strokes)) if value else count
        for k in np.random.default_rng(seed_for(seed, "plain", value)).permutation(len(strokes))[:count]:
            scribbles[tuple(strokes[k].T)] = value
    return scribbles


def plain_strokes(skeleton: np.ndarray, relabel: bool) -> list[np.ndarray]:
    """Pixels (n, 2) of each connected piece; `relabel` labels the image anew for each."""
    labels = label(skeleton, connectivity=2)
    return [
        np.argwhere((label(skeleton, connectivity=2) if relabel else labels) == k) for k in range(1, labels.max() + 1)
    ]
