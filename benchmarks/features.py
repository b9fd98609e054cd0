"""What the features of a pretrained encoder are worth to notebook 08's forest, and what they cost.

Six choices of three training images, cut to 512 x 512 pixels in their middle, on which a simulated
annotator strokes at most twelve nuclei each, and as often the background. One forest looks at its
filters alone, as that of Table 1; notebook 08's at the deep features of EfficientNet-Lite0 too, at
fluorescence by square roots, and there both classes count alike. IoU is the mean over the three
images.
"""

import time
from functools import partial

import numpy as np

from benchmarks.harness import Row, Scale, absolute, ratio
from benchmarks.next_stroke import chosen, score
from benchmarks.own_images import strokes_on
from s2l_images.learning.forest import fit_own_forest, fit_random_forest, predict_random_forest
from s2l_images.learning.pretrained_features import shared_features
from s2l_images.strokes import render

# With the same strokes: on bright field as much better as a network was hoped to be after two
# minutes; on fluorescence filters suffice, and nothing may be lost.
BARS = {"dsb-bf": ">= 0.03"}
NOTHING_LOST = ">= -0.01"


def measure(scale: Scale) -> list[Row]:
    """IoU of both forests on each data set, and the time that fitting and predicting takes."""
    names, choices = scale.pick((("synthetic-fluo",), 1), (("dsb-bf", "dsb-fluo"), 6))
    ways = {
        "filters": fit_random_forest,
        "features too": partial(fit_own_forest, pretrained=shared_features()),
    }
    rows = []
    for name in names:
        found, spent = {way: [] for way in ways}, {way: [] for way in ways}
        for choice in range(choices):
            cells = chosen(name, choice)
            scribbles = [render(strokes_on(cell, choice), cell.image.shape[:2]) for cell in cells]
            for way, fit in ways.items():
                began = time.process_time()
                images = [cell.image for cell in cells]
                forest = fit(images, scribbles)
                answers = [predict_random_forest(forest, image) for image in images]
                spent[way].append(time.process_time() - began)
                found[way].append(score(cells, answers))

        gained = np.subtract(found["features too"], found["filters"])
        rows += [
            absolute(f"{name}: IoU of a forest on filters", found["filters"], unit="IoU"),
            absolute(f"{name}: IoU with features too", found["features too"], unit="IoU"),
            absolute(
                f"{name}: gained by features", gained, BARS.get(name, NOTHING_LOST), unit="IoU"
            ),
            ratio(
                f"{name}: a forest with features",
                spent["features too"],
                "filters",
                spent["filters"],
            ),
        ]
    return rows
