"""Rivals on small images with a known answer."""

import numpy as np
import pytest

from s2l_core.config import IGNORE, S2LError
from s2l_core.metrics import iou
from s2l_images.learning.forest import fit_random_forest, predict_random_forest
from s2l_paper.running.baselines import otsu


def discs(seed, *, size=96, background=40, foreground=160, noise=8, dark=False):
    """Image (H, W, 3) uint8 of a few discs on a flat background, and their mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    mask = np.zeros((size, size), bool)
    for row, column in rng.integers(12, size - 12, size=(5, 2)):
        mask |= (rows - row) ** 2 + (columns - column) ** 2 <= 8**2
    grey = np.where(mask, foreground, background) + rng.normal(0, noise, mask.shape)
    grey = 255 - grey if dark else grey
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), mask


def strokes(mask, share=0.05, seed=0):
    """Scribbles on a random few of the pixels, labelled truly."""
    drawn = np.random.default_rng(seed).random(mask.shape) < share
    return np.where(drawn, mask, IGNORE).astype(np.uint8)


@pytest.mark.parametrize("dark", [False, True])
def test_otsu_takes_the_side_of_the_nuclei(dark):
    image, mask = discs(0, dark=dark)
    found = otsu(image)
    assert found.dtype == np.float32 and set(np.unique(found)) == {0, 1}
    assert np.array_equal(found > 0.5, mask)
    assert np.array_equal(otsu(image, dark_foreground=not dark) > 0.5, ~mask)
    assert np.array_equal(otsu(image, dark_foreground=dark), found)


def test_otsu_takes_the_dark_side_of_a_stained_image_even_if_it_is_dark_on_average():
    image, mask = discs(1, background=200, foreground=60, noise=0)
    image[mask] = 30, 10, 60
    image[~mask] = 140, 70, 120
    assert image.mean() < 128
    assert np.array_equal(otsu(image) > 0.5, mask)


@pytest.mark.parametrize("value", [0, 90, 255])
def test_otsu_finds_nothing_in_a_flat_image(value):
    assert not otsu(np.full((20, 30, 3), value, np.uint8)).any()


def test_forest_learns_what_a_threshold_cannot_see():
    """Nuclei are as bright as their surroundings but textured: Otsu fails, the forest does not."""

    def textured(seed):
        image, mask = discs(seed, foreground=100, background=100, noise=2)
        speckle = np.random.default_rng(seed).normal(0, 30, mask.shape)
        return (image + (speckle * mask)[..., None]).clip(0, 255).astype(np.uint8), mask

    training = [textured(k) for k in range(4)]
    forest = fit_random_forest(
        [image for image, _ in training], [strokes(mask) for _, mask in training], trees=16
    )
    image, mask = textured(9)
    probability = predict_random_forest(forest, image)
    assert probability.shape == mask.shape and probability.dtype == np.float32
    assert 0 <= probability.min() and probability.max() <= 1
    assert iou(mask, probability > 0.5) > 0.75
    assert iou(mask, otsu(image) > 0.5) < 0.6


def test_forest_does_not_depend_on_an_images_own_contrast():
    bright, mask = discs(0, noise=2)
    forest = fit_random_forest([bright], [strokes(mask)], trees=16)
    image, mask = discs(5, noise=2)
    dim = (image // 8).astype(np.uint8)
    assert iou(mask, predict_random_forest(forest, image) > 0.5) > 0.85
    assert iou(mask, predict_random_forest(forest, dim) > 0.5) > 0.85


def test_forest_sees_colour_where_there_is_any():
    """Red nuclei among green ones of the same grey."""

    def stained(seed):
        image, mask = discs(seed, background=220, foreground=220, noise=0)
        decoy = np.roll(mask, 40, axis=1) & ~mask
        image[mask], image[decoy] = (160, 70, 70), (70, 160, 70)
        return image, mask

    training = [stained(k) for k in range(3)]
    forest = fit_random_forest(
        [image for image, _ in training], [strokes(mask) for _, mask in training], trees=16
    )
    assert forest.colour
    image, mask = stained(8)
    assert iou(mask, predict_random_forest(forest, image) > 0.5) > 0.75
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    assert iou(mask, predict_random_forest(forest, grey) > 0.5) < 0.6


def test_same_seed_same_forest_and_global_generators_are_left_alone():
    training = [discs(k) for k in range(2)]
    images, scribbles = [i for i, _ in training], [strokes(m) for _, m in training]
    test, _ = discs(7)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (
        predict_random_forest(
            fit_random_forest(images, scribbles, seed=seed, trees=8, max_samples=100), test
        )
        for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_max_samples_limits_the_pixels_of_each_image():
    image, mask = discs(0)
    labels = strokes(mask, share=0.5)
    for limit, expected in ((50, 100), (10**6, 2 * (labels != IGNORE).sum())):
        forest = fit_random_forest([image, image], [labels, labels], trees=4, max_samples=limit)
        drawn = [
            tree.tree_.n_node_samples[0] for tree in forest.trees.estimators_
        ]  # of each bootstrap: 63 % or so
        assert 0.4 * expected < min(drawn) and max(drawn) < 0.75 * expected


def test_images_without_scribbles_are_left_out_and_sizes_may_differ():
    (small, small_mask), (large, large_mask) = discs(0), discs(1, size=120)
    blank = np.full(small.shape[:2], IGNORE, np.uint8)
    with_blank = fit_random_forest(
        [small, large, small], [strokes(small_mask), strokes(large_mask), blank], trees=8
    )
    without = fit_random_forest([small, large], [strokes(small_mask), strokes(large_mask)], trees=8)
    test, _ = discs(7)
    assert np.array_equal(
        predict_random_forest(with_blank, test), predict_random_forest(without, test)
    )


def test_one_scribbled_class_in_each_image_is_enough():
    image, mask = discs(0)
    labels = strokes(mask)
    only = [np.where(labels == k, labels, IGNORE).astype(np.uint8) for k in (0, 1)]
    forest = fit_random_forest([image, image], only, trees=8)
    assert iou(mask, predict_random_forest(forest, image) > 0.5) > 0.75


IMAGE, MASK = discs(0)
BLANK = np.full(MASK.shape, IGNORE, np.uint8)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: otsu(IMAGE[..., 0]), r"image is uint8 \(96, 96\): expected uint8 \(H, W, 3\)"),
        (lambda: otsu(IMAGE / 255), "image is float64"),
        (lambda: fit_random_forest([IMAGE], []), "1 images and 0 scribbles"),
        (lambda: fit_random_forest([IMAGE], [BLANK[1:]]), r"scribbles\[0\] is \(95, 96\)"),
        (
            lambda: fit_random_forest([IMAGE], [np.where(MASK, 2, BLANK)]),
            r"scribbles\[0\].* values \[  2 255\]",
        ),
        (
            lambda: fit_random_forest([IMAGE, IMAGE[..., :1]], [BLANK] * 2),
            r"images\[1\] is uint8 \(96, 96, 1\)",
        ),
        (
            lambda: fit_random_forest([IMAGE], [np.where(MASK, 1, BLANK)]),
            "background .* 1 images",
        ),
        (lambda: fit_random_forest([IMAGE], [np.where(MASK, BLANK, 0)]), "foreground"),
        (lambda: fit_random_forest([IMAGE], [BLANK]), "background"),
    ],
)
def test_errors_say_what_was_found(call, message):
    with pytest.raises(S2LError, match=message):
        call()
