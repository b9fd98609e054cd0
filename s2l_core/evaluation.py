"""Scores of a run's test images, and the rivals that need no training loop. No test image is seen before."""

from collections.abc import Callable, Mapping

import numpy as np

from s2l_core.batches import scribbles_of
from s2l_core.config import RunConfig
from s2l_core.datasets import images_of, split_of
from s2l_core.metrics import score
from s2l_core.results import SHOWN, extremes, run_id
from s2l_core.rivals import fit_random_forest, otsu, predict_random_forest

Predictor = Callable[[np.ndarray], np.ndarray]


def score_test(config: RunConfig, predictors: Mapping[str, Predictor]) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Scores every test image with every checkpoint.

    Args:
        config: names the data set and the fold.
        predictors: checkpoint (`best`, `last`) -> image (H, W, 3) uint8 -> probability (H, W).

    Returns:
        The rows of `per_image.csv`, and image id -> probability of the checkpoint that Table 1 shows, for the first
        `SHOWN` images and the `extremes`.
    """
    fields = ("dataset", "method", "fold", "seed", "annotator", "budget")
    shared = {"run_id": run_id(config)} | {name: getattr(config, name) for name in fields}
    rows, maps, iou = [], {}, {}
    images = images_of(config, split_of(config).test)
    for checkpoint, predictor in predictors.items():
        chosen = checkpoint == (config.selection if config.selection in predictors else "last")
        for image in images:
            probability = predictor(image.image)
            if chosen:
                maps[image.id] = probability
            if image.instances is not None:
                scores = score(image.instances, probability)
                rows.append(shared | {"checkpoint": checkpoint, "image": image.id} | scores)
                iou |= {image.id: scores["iou"]} if chosen else {}
    return rows, {name: maps[name] for name in dict.fromkeys([*list(maps)[:SHOWN], *extremes(iou).values()])}


def fit_rival(config: RunConfig) -> Predictor:
    """Otsu's threshold, or a random forest fitted to the same scribbles that the networks see."""
    if config.method == "otsu":
        return otsu
    images = images_of(config, split_of(config).train)
    scribbles = scribbles_of(config, images)
    forest = fit_random_forest(
        [image.image for image in images], [scribbles[image.id] for image in images], seed=config.seed
    )
    return lambda image: predict_random_forest(forest, image)
