"""Touching nuclei told apart: discs at known places."""

import numpy as np
import pytest

from s2l_core.config import S2LError
from s2l_core.metrics import instances
from s2l_images.nuclei.split import (
    MOST_PIECES,
    Split,
    diameter_at_strokes,
    split,
    usual_diameter,
)

ROWS, COLUMNS = np.mgrid[:80, :120]


def discs(*centres, radius=12):
    """Probability (80, 120) of 1 inside discs around the centres."""
    found = np.zeros(ROWS.shape, bool)
    for row, column in centres:
        found |= (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2
    return found.astype(np.float32)


def test_two_touching_discs_become_two_halves():
    touching = discs((40, 40), (40, 61))
    assert instances(touching).max() == 1
    pieces = split(touching, diameter=24)
    assert pieces.max() == 2 and pieces.dtype == np.int32
    assert (pieces > 0).sum() == (touching > 0).sum()
    assert pieces[40, 40] != pieces[40, 61]
    areas = np.bincount(pieces.ravel())[1:]
    assert abs(int(areas[0]) - int(areas[1])) <= 30


def test_what_does_not_touch_stays_as_it_is():
    apart = discs((40, 25), (40, 60), (40, 95))
    assert np.array_equal(split(apart, diameter=24) > 0, instances(apart) > 0)
    assert split(apart, diameter=24).max() == 3


def test_an_elongated_nucleus_stays_whole():
    ellipse = ((ROWS - 40) / 10) ** 2 + ((COLUMNS - 60) / 17) ** 2 <= 1
    assert split(ellipse.astype(np.float32), diameter=26).max() == 1


def test_wide_spacing_merges_and_narrow_spacing_divides():
    touching = discs((40, 40), (40, 61))
    assert split(touching, 24, Split(spacing=2.0)).max() == 1
    assert split(touching, 24, Split(spacing=0.3)).max() == 2


def test_min_size_and_threshold_are_those_of_the_objects():
    speck = discs((40, 40)) + 0.4 * discs((40, 90), radius=5)
    assert split(speck, 24).max() == 1
    assert split(speck, 24, threshold=0.3, min_size=100).max() == 1
    assert split(speck, 24, threshold=0.3, min_size=60).max() == 2


def test_nothing_stays_nothing():
    assert not split(np.zeros((40, 40), np.float32), 20).any()


def test_a_split_that_explodes_is_refused_with_the_parameter():
    noisy = np.random.default_rng(0).random(ROWS.shape) < 0.75
    with pytest.raises(S2LError, match=r"diameter \(2 ") as raised:
        split(noisy.astype(np.float32), diameter=2, min_size=1)
    assert str(MOST_PIECES) in str(raised.value)


@pytest.mark.parametrize("diameter", [0, 1, -3, float("nan"), float("inf")])
def test_an_impossible_diameter_is_refused(diameter):
    with pytest.raises(S2LError, match="diameter"):
        split(discs((40, 40)), diameter)


@pytest.mark.parametrize("field", [{"spacing": 0}, {"spacing": 3}, {"smoothing": -1}])
def test_impossible_settings_are_refused(field):
    ((name, value),) = field.items()
    with pytest.raises(S2LError, match=f"{name} = {value}"):
        Split(**field)


def test_the_usual_diameter_is_that_of_a_disc():
    assert usual_diameter(np.array([50, 314.16, 5000])) == pytest.approx(20, abs=0.01)
    with pytest.raises(S2LError):
        usual_diameter(np.array([]))


def test_the_diameter_at_strokes_is_that_of_objects_with_one_stroke():
    labels = np.full(ROWS.shape, 255, np.uint8)
    objects = instances(discs((20, 20), radius=10) + discs((50, 60), (50, 81)))
    labels[20, 18:23] = labels[50, 58:62] = labels[50, 79:83] = 1
    assert objects.max() == 2
    assert diameter_at_strokes([objects], [labels]) == pytest.approx(20, abs=0.2)

    # Where every object carries several, all of them are measured.
    labels[20, :] = 255
    assert diameter_at_strokes([objects], [labels]) == pytest.approx(24 * 2**0.5, abs=1)
    with pytest.raises(S2LError):
        diameter_at_strokes([objects], [np.zeros_like(labels)])
