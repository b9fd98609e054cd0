"""What a biologist would try first: Otsu's threshold, and a random forest on the same scribbles."""

from collections.abc import Callable

import numpy as np
from skimage.filters import threshold_otsu

from s2l_core.config import RunConfig
from s2l_images.learning.forest import (
    COLOURED,
    check_image,
    chroma,
    fit_random_forest,
    predict_random_forest,
)
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.scribbles.annotators import scribbles_of


def otsu(image: np.ndarray, dark_foreground: bool | None = None) -> np.ndarray:
    """Otsu's threshold on the mean of the channels.

    Which side is foreground is decided without looking at any truth, unless it is given: nuclei
    absorb transmitted light, so they are dark where the image is stained (chroma >= 1) or bright on
    average (mean > 128), the rule that also groups BBBC038; otherwise it is fluorescence and they
    are bright. In bright-field images the two classes that the threshold finds are cell and glass,
    not nucleus and the rest: it fails there, whichever side is taken.

    Args:
        image: (H, W, 3) uint8.
        dark_foreground: True: nuclei are darker than their surroundings; False: brighter; None: by
            the rule.

    Returns:
        (H, W) float32, 0 or 1; all 0 for an image of one grey value.
    """
    check_image(image, "image")
    grey = image.mean(axis=2).round().astype(np.uint8)  # whole numbers: the histogram is exact
    if grey.min() == grey.max():
        return np.zeros(grey.shape, np.float32)
    if dark_foreground is None:
        dark_foreground = chroma(image) >= COLOURED or grey.mean() > 128
    bright = grey > threshold_otsu(grey)
    return (~bright if dark_foreground else bright).astype(np.float32)


def fit_baseline(config: RunConfig) -> Callable[[np.ndarray], np.ndarray]:
    """Otsu's threshold, or a random forest fitted to the same scribbles that the networks see."""
    if config.method == "otsu":
        return otsu
    images = images_of(config, split_of(config).train)
    scribbles = scribbles_of(config, images)
    forest = fit_random_forest(
        [image.image for image in images],
        [scribbles[image.id] for image in images],
        seed=config.seed,
    )
    return lambda image: predict_random_forest(forest, image)
