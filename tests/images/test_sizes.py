"""What is kept of a prediction: strips along the border are no nuclei."""

import numpy as np
import pytest

from s2l_images.sizes import nuclei, strips_at_border

ROWS, COLUMNS = np.mgrid[:120, :160]
MIN_SIZE = 60  # a third of the smallest nucleus: its diameter is 15 pixels


def cut_by_the_border(depth, radius):
    """A disc of which so many rows are left in the image."""
    return (ROWS + radius - depth) ** 2 + (COLUMNS - 80) ** 2 <= radius**2


@pytest.mark.parametrize("turned", [0, 1, 2, 3])
def test_a_thin_strip_along_any_border_is_no_nucleus(turned):
    mask = cut_by_the_border(40, 20) | (ROWS > 115) & (COLUMNS > 20) & (COLUMNS < 140)
    found = nuclei(np.rot90(mask, turned).astype(float), MIN_SIZE)
    assert found.instances.max() == 1 and found.dropped == 1
    assert (found.instances > 0).sum() == cut_by_the_border(40, 20).sum()


@pytest.mark.parametrize(("depth", "radius"), [(6, 8), (8, 8), (5, 12), (9, 16)])
def test_a_nucleus_that_is_cut_by_the_border_stays(depth, radius):
    assert nuclei(cut_by_the_border(depth, radius).astype(float), MIN_SIZE).instances.max() == 1


def test_a_long_object_away_from_the_border_stays():
    mask = (ROWS > 60) & (ROWS < 65) & (COLUMNS > 20) & (COLUMNS < 140)
    assert strips_at_border(mask.astype(np.int32), 3 * MIN_SIZE) == []
