"""What a pretrained encoder sees: where it lies on the image, and what a forest makes of it."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from s2l_core.config import IGNORE, S2LError
from s2l_images.learning import pretrained_features
from s2l_images.learning.forest import _fitted, _votes, fit_random_forest, predict_random_forest
from s2l_images.learning.pretrained_features import PretrainedFeatures, at_pixels


@pytest.fixture(scope="module")
def encoder() -> PretrainedFeatures:
    return PretrainedFeatures()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """(150, 200, 3), so that no side is a multiple of a stride."""
    return np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)


def test_blocks_lie_where_the_whole_image_has_them(encoder, image, monkeypatch):
    whole = encoder._encoded(image)

    # With so much context every block sees the whole image, so that only its place can be wrong.
    monkeypatch.setattr(pretrained_features, "BLOCK", 64)
    monkeypatch.setattr(pretrained_features, "CONTEXT", 1024)
    blocks = encoder._encoded(image)
    assert [tuple(values.shape) for values in whole] == [(112, 10, 13), (320, 5, 7)]
    for values, expected in zip(blocks, whole, strict=True):
        torch.testing.assert_close(values, expected)


def test_pixels_are_interpolated_as_an_enlarged_map_is(encoder, image):
    maps = encoder.maps(image)
    rows, columns = np.array([0, 0, 37, 120, 149]), np.array([0, 199, 64, 5, 199])
    expected = []
    for values, stride in zip(maps, (16, 32), strict=True):
        large = F.interpolate(values[None], scale_factor=stride, mode="bilinear")[0]  # (C, H, W)
        expected.append(large[:, rows, columns].numpy())
    np.testing.assert_allclose(at_pixels(maps, rows, columns), np.concatenate(expected), atol=1e-4)


def test_a_forest_that_looks_at_it_repeats_and_is_another(encoder, image):
    scribbles = np.full(image.shape[:2], IGNORE, np.uint8)
    scribbles[20:30, 20:60], scribbles[100:110, 20:60] = 1, 0

    plain = fit_random_forest([image], [scribbles], trees=8)
    forests = [
        fit_random_forest([image], [scribbles], trees=8, pretrained=encoder) for _ in range(2)
    ]
    assert forests[0].key == forests[1].key != plain.key
    first, again = (predict_random_forest(forest, image) for forest in forests)
    np.testing.assert_array_equal(first, again)
    assert (first != predict_random_forest(plain, image)).any()


@pytest.mark.parametrize(("strokes", "asked"), [(14, True), (15, False)])
def test_with_few_strokes_a_forest_on_filters_has_half_of_the_say(encoder, image, strokes, asked):
    scribbles = np.full(image.shape[:2], IGNORE, np.uint8)
    for number in range(strokes):
        scribbles[4 + 8 * number, 20:60] = 1
    for number in range(18):
        scribbles[4 + 8 * number, 100:140] = 0
    forest = fit_random_forest([image], [scribbles], trees=8, pretrained=encoder)
    assert (forest.filters_alone is not None) == asked

    # Half of the say: the mean with what the same forest says without features.
    if asked:
        deep = dataclasses.replace(forest, filters_alone=None)
        plain = fit_random_forest([image], [scribbles], trees=8)
        halves = [predict_random_forest(each, image) for each in (deep, plain)]
        found = predict_random_forest(forest, image)
        np.testing.assert_allclose(found, (halves[0] + halves[1]) / 2, atol=1e-6)


def test_votes_are_those_of_the_forest_to_the_last_bit():
    features = np.random.default_rng(0).random((500, 24), dtype=np.float32)
    forest = _fitted(features, np.arange(500) % 2, trees=16, balanced=True, seed=0)
    expected = forest.set_params(n_jobs=1).predict_proba(features)[:, 1]
    np.testing.assert_array_equal(_votes(forest, features), expected)


def test_maps_of_the_last_images_are_kept(encoder, image, monkeypatch):
    monkeypatch.setattr(pretrained_features, "MOST_KEPT", 2)
    others = [np.full((32, 32, 3), value, np.uint8) for value in (10, 20, 30)]
    first = encoder.maps(others[0])
    assert encoder.maps(others[0].copy()) is first
    for other in others[1:]:
        encoder.maps(other)
    assert encoder.maps(others[0]) is not first
    assert len(encoder._kept) <= 3


def test_without_the_package_it_is_refused(monkeypatch):
    def missing(name: str):
        raise S2LError(f"{name}: not installed")

    monkeypatch.setattr("s2l_core.weights.packaged_state", missing)
    with pytest.raises(S2LError, match="efficientnet-lite0"):
        PretrainedFeatures()
