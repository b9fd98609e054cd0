"""Notebook 08's forest: how it looks at images of fluorescence and of bright field."""

import numpy as np
import pytest

from s2l_core.config import IGNORE
from s2l_images.learning.forest import (
    evened,
    fit_own_forest,
    fit_random_forest,
    predict_random_forest,
)

LEVELS = (2, 20, 160)  # photons of the background, of a dim nucleus and of a bright one


@pytest.fixture
def counted() -> np.ndarray:
    """Photons counted on (90, 120, 3) pixels: background, and a dim and a bright strip."""
    expected = np.full((90, 120), LEVELS[0])
    expected[30:45], expected[60:75] = LEVELS[1], LEVELS[2]
    photons = np.random.default_rng(0).poisson(expected)
    return np.repeat(np.uint8(photons.clip(0, 255))[..., None], 3, axis=2)


def spread(image: np.ndarray) -> float:
    """How many times as noisy the bright strip is as the dim one."""
    grey = image[..., 0].astype(float)
    return grey[60:75].std() / grey[30:45].std()


def test_square_roots_even_out_the_noise_of_counted_photons(counted):
    assert spread(counted) > 2.5
    assert 0.8 < spread(evened(counted)) < 1.25


def test_bright_field_and_stained_tissue_are_left_as_they_are(counted):
    bright = 255 - counted
    assert evened(bright) is bright
    tissue = np.random.default_rng(0).normal((130, 90, 140), 30, (90, 120, 3)).clip(0, 255)
    tissue = np.uint8(tissue)
    assert evened(tissue) is tissue


def test_the_forest_of_notebook_08_learns_from_square_roots_and_predicts_with_them(counted):
    strokes = np.full(counted.shape[:2], IGNORE, np.uint8)
    strokes[35:38, 10:60], strokes[65:68, 10:60], strokes[5:8, 10:60] = 1, 1, 0

    own = fit_own_forest([counted], [strokes], None)
    by_hand = fit_random_forest([evened(counted)], [strokes], balanced=True)
    found = predict_random_forest(own, counted)
    np.testing.assert_array_equal(found, predict_random_forest(by_hand, evened(counted)))
    plain = fit_random_forest([counted], [strokes], balanced=True)
    assert own.key != plain.key
    assert (found != predict_random_forest(plain, counted)).any()
