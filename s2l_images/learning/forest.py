"""A random forest on scribbles, as ilastik has: the quick answer while a network is still
learning.

Beside ilastik's filters it can look at the deep features of a pretrained encoder.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from s2l_core.config import CLASSES, IGNORE, S2LError, digest, seed_for
from s2l_core.metrics import EIGHT

if TYPE_CHECKING:
    from s2l_images.learning.pretrained_features import PretrainedFeatures

FILTER_SIGMAS = (1.0, 2.0, 4.0, 8.0)  # pixels; nuclei here are 10 to 40 wide
PERCENTILES = (0.5, 99.5)  # of an image's grey values, mapped to 0 and 1
BRIGHTEST = 1.2  # times the upper percentile: what is brighter is cut off
DARK = 0.3  # the median, as a share of the range: fluorescence has .1, stained tissue .34 or more
COLOURED = 1.0  # mean of (largest - smallest channel) from which an image counts as stained
# Strokes of a class, over all images, below which deep features mislead: then a forest on filters
# alone has half of the say. On training images of bright field and fluorescence that gives .54 and
# .76 IoU from 9 strokes (features alone .37 and .64), but .59 and .77 from 18 (.61 and .76).
FEW_STROKES = 15
PIXELS_AT_ONCE = 2**14  # pixels classified at a time, in threads


@dataclass(frozen=True)
class RandomForest:
    """A fitted forest and the features it was fitted on."""

    trees: object  # a RandomForestClassifier
    colour: bool  # smoothed intensities of each channel, or of grey only
    pretrained: "PretrainedFeatures | None" = None  # looked at beside the filters
    filters_alone: object = None  # a second classifier that has half of the say; None: no such one
    square_roots: bool = False  # of the grey values of images whose background is dark
    key: str = ""  # hash of what it learned from: equal keys give equal answers


def fit_random_forest(
    images: Sequence[np.ndarray],
    scribbles: Sequence[np.ndarray],
    *,
    seed: int = 0,
    trees: int = 64,
    max_samples: int = 2000,
    pretrained: "PretrainedFeatures | None" = None,
    balanced: bool = False,
    square_roots: bool = False,
) -> RandomForest:
    """Fits a pixel classifier to scribbles, as ilastik does: multiscale features, random forest.

    Args:
        images: (H, W, 3) uint8 each, sizes may differ.
        scribbles: (H, W) uint8 each: 0 background, 1 foreground, IGNORE elsewhere; one without a
            scribble is left out.
        seed: of the pixel sample and of the trees: the same seed gives the same forest.
        trees: number of trees.
        max_samples: most labelled pixels taken from one image.
        pretrained: an encoder whose features are looked at beside the filters; None: filters alone.
        balanced: both classes count alike, however many pixels of each are drawn on.
        square_roots: images with a dark background are seen by the square roots of their grey
            values, see `evened`.

    Raises:
        S2LError: images and scribbles do not fit each other, or no pixel of a class is scribbled in
            any image.
    """
    _check_pairs(images, scribbles)

    # Features and classes of the pixels that are drawn on, a part of them where there are many.
    colour = any(chroma(image) >= COLOURED for image in images)
    features, classes = [], []  # of (N, F) and (N,) each
    for k, (image, labels) in enumerate(zip(images, scribbles, strict=True)):
        drawn = _drawn(labels, max_samples, seed_for(seed, "random-forest", "pixels", k))
        if drawn.size:
            image = evened(image) if square_roots else image
            maps = pretrained.maps(image) if pretrained else None
            filtered = _features(image, colour, drawn)
            features.append(_beside(filtered, maps, drawn, image.shape[1]))
            classes.append(labels.ravel()[drawn])

    classes = np.concatenate(classes or [np.empty(0, np.uint8)])
    _check_both_classes(classes, len(images))

    # With few strokes a forest on the filters alone has half of the say.
    learned = np.concatenate(features)  # (N, F)
    options = {"trees": trees, "balanced": balanced, "seed": seed}
    forest = _fitted(learned, classes, **options)
    filters_alone = None
    if pretrained and _fewest_strokes(scribbles) < FEW_STROKES:
        filters_alone = _fitted(learned[:, : _count(colour)], classes, **options)

    pixels = digest(learned.tobytes() + classes.tobytes(), 64)
    key = digest([pixels, seed, trees, balanced, filters_alone is not None, square_roots], 16)
    return RandomForest(forest, colour, pretrained, filters_alone, square_roots, key)


def _check_both_classes(classes: np.ndarray, images: int) -> None:
    """Raises an S2LError unless both classes (N,) are there."""
    for label, name in enumerate(CLASSES):
        if not (classes == label).any():
            raise S2LError(
                f"no {name} scribble in any of {images} images: expected both classes. Draw some."
            )


def _drawn(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Places of pixels that are drawn on in labels (H, W), flattened: at most so many of them."""
    drawn = np.flatnonzero(labels != IGNORE)
    if drawn.size <= most:
        return drawn
    return np.sort(np.random.default_rng(seed).choice(drawn, most, replace=False))


def fit_own_forest(
    images: Sequence[np.ndarray],
    scribbles: Sequence[np.ndarray],
    pretrained: "PretrainedFeatures | None",
    *,
    seed: int = 0,
) -> RandomForest:
    """The forest of notebook 08: it looks at an encoder's features beside its filters, and at
    fluorescence by square roots. Both classes count alike, as strokes on the background are longer
    than those in nuclei.

    Args:
        images, scribbles, seed: as of `fit_random_forest`.
        pretrained: the encoder; None where its package is missing: filters alone.

    Raises:
        S2LError: as `fit_random_forest`.
    """
    as_in_08 = {"pretrained": pretrained, "balanced": True, "square_roots": True}
    return fit_random_forest(images, scribbles, seed=seed, **as_in_08)


def _fitted(
    features: np.ndarray, classes: np.ndarray, *, trees: int, balanced: bool, seed: int
) -> object:
    """A classifier of pixels: features (N, F), classes (N,)."""
    from sklearn.ensemble import RandomForestClassifier  # a second to load, for this method alone

    forest = RandomForestClassifier(
        trees,
        min_samples_leaf=5,
        max_depth=16,
        class_weight="balanced" if balanced else None,
        n_jobs=-1,
        random_state=seed_for(seed, "random-forest", "trees") % 2**32,
    )
    return forest.fit(features, classes)


def _fewest_strokes(scribbles: Sequence[np.ndarray]) -> int:
    """Strokes, as 8-connected pieces over all images, of the class that has fewer."""
    counts = [
        sum(ndimage.label(labels == label, EIGHT)[1] for labels in scribbles)
        for label in range(len(CLASSES))
    ]
    return min(counts)


def _check_pairs(images: Sequence[np.ndarray], scribbles: Sequence[np.ndarray]) -> None:
    """Refuses scribbles that do not fit their images, or hold what is no class."""
    if len(images) != len(scribbles):
        raise S2LError(
            f"{len(images)} images and {len(scribbles)} scribbles: expected one for each. Pair "
            "them first."
        )
    for k, (image, labels) in enumerate(zip(images, scribbles, strict=True)):
        check_image(image, f"images[{k}]")
        if labels.shape != image.shape[:2] or not np.isin(labels, (0, 1, IGNORE)).all():
            found, kinds = (
                np.unique(labels)[:5],
                f"0 (background), 1 (foreground) and {IGNORE} (unlabelled)",
            )
            expected = f"expected {image.shape[:2]} with {kinds}. Check its file."
            raise S2LError(f"scribbles[{k}] is {labels.shape} with values {found}: {expected}")


def predict_random_forest(model: RandomForest, image: np.ndarray) -> np.ndarray:
    """Foreground probability (H, W) float32 of an image (H, W, 3) uint8."""
    check_image(image, "image")
    image = evened(image) if model.square_roots else image
    filtered = _features(image, model.colour)  # (F, pixels)
    maps = model.pretrained.maps(image) if model.pretrained else None

    def probability(start: int) -> np.ndarray:
        pixels = np.arange(start, min(start + PIXELS_AT_ONCE, filtered.shape[1]))
        features = _beside(filtered[:, pixels], maps, pixels, image.shape[1])
        answer = _votes(model.trees, features)
        if model.filters_alone is not None:
            other = _votes(model.filters_alone, features[:, : len(filtered)])
            answer = (answer + other) / 2
        return answer

    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(probability, range(0, filtered.shape[1], PIXELS_AT_ONCE)))
    return np.concatenate(parts).astype(np.float32).reshape(image.shape[:2])


def evened(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 of fluorescence by its square roots: its noise is then about the
    same everywhere (Anscombe 1948), and dim nuclei stand out as bright ones do.

    Photons are counted there, so the noise of a bright place is larger than that of a dim one.
    Where the background is not dark, as in stained tissue and bright field, the image is returned
    as it is.
    """
    low, high = np.percentile(image, PERCENTILES)
    shares = (image - low) / max(high - low, 1.0)  # (H, W, 3), mostly from 0 to 1
    if np.median(shares) > DARK:
        return image
    roots = np.sqrt(np.clip(shares / BRIGHTEST, 0, 1))
    return np.uint8(255 * roots)


def _votes(forest, features: np.ndarray) -> np.ndarray:
    """Share of the votes (N,) that call a pixel foreground: features (N, F) float32.

    As `predict_proba` of the forest, which in several threads at a time disturbs the filters of
    warnings.
    """
    votes = np.zeros((len(features), len(CLASSES)))
    for tree in forest.estimators_:
        votes += tree.predict_proba(features, check_input=False)
    return votes[:, 1] / len(forest.estimators_)


def _count(colour: bool) -> int:
    """Number of features of a pixel that come from filters."""
    return (8 if colour else 6) * len(FILTER_SIGMAS)


def _beside(filtered: np.ndarray, maps, pixels: np.ndarray, width: int) -> np.ndarray:
    """What filters say of pixels, and beside it what is seen there on the maps of an encoder.

    Args:
        filtered: (F, N) float32.
        maps: of `PretrainedFeatures.maps`; None: the filters alone.
        pixels: (N,), counted row by row.
        width: of the image.

    Returns:
        (N, F) float32, a feature of all pixels after the other in memory: neighbours take the same
        way through a tree, which is four times as fast then.
    """
    if maps is None:
        return filtered.T
    from s2l_images.learning.pretrained_features import at_pixels  # brings PyTorch

    deep = at_pixels(maps, pixels // width, pixels % width)
    return np.concatenate([filtered, deep]).T


def _features(image: np.ndarray, colour: bool, pixels=slice(None)) -> np.ndarray:
    """Image -> (F, pixels) float32: at every scale what is there, how steep, how curved and how
    aligned it is.
    """
    low, high = np.percentile(image.mean(axis=2), PERCENTILES)
    image = (image.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1.0))
    grey = image.mean(axis=2)  # (H, W)

    layers = []  # of (H, W) each
    for sigma in FILTER_SIGMAS:
        smooth = ndimage.gaussian_filter(grey, sigma)
        rows, columns = np.gradient(smooth)
        if colour:
            layers += [ndimage.gaussian_filter(image[..., c], sigma) for c in range(3)]
        else:
            layers.append(smooth)
        layers.append(np.sqrt(rows * rows + columns * columns))

        # How curved: the second derivatives. How aligned: the products of the first, smoothed.
        hessian = np.gradient(rows, axis=0), np.gradient(rows, axis=1), np.gradient(columns, axis=1)
        layers += _eigenvalues(*hessian)
        tensor = (
            ndimage.gaussian_filter(p, sigma)
            for p in (rows * rows, rows * columns, columns * columns)
        )
        layers += _eigenvalues(*tensor)
    return np.stack([layer.ravel()[pixels] for layer in layers])


def _eigenvalues(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
    """Larger and smaller eigenvalue of the symmetric matrices [[a, b], [b, c]]."""
    centre, spread = (a + c) / 2, np.sqrt(((a - c) / 2) ** 2 + b * b)
    return [centre + spread, centre - spread]


def chroma(image: np.ndarray) -> float:
    """How colourful an image (H, W, 3) is: the mean distance of its channels, 0 for a grey one."""
    return float(np.ptp(image, axis=2).mean())


def check_image(image: np.ndarray, name: str) -> None:
    """Raises an S2LError unless the image is (H, W, 3) uint8; the error calls it `name`."""
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
    ):
        found = (
            f"{image.dtype} {image.shape}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise S2LError(f"{name} is {found}: expected uint8 (H, W, 3). Convert it first.")
