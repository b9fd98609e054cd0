"""What is kept of a prediction: strips along the border are no nuclei, small nuclei are."""

import numpy as np
import pytest
from skimage.io import imsave

from s2l_core.config import IGNORE
from s2l_core.images import CellImage
from s2l_images.nuclei.diameters import Usual, measured_nuclei
from s2l_images.nuclei.sizes import nuclei, smallest_kept, strips_at_border

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


def image_of_discs(name, diameter, count):
    """An image with discs in a row, a stroke in each."""
    mask, strokes = np.zeros((120, 160), bool), np.full((120, 160), IGNORE, np.uint8)
    for number in range(count):
        column = 30 * number + 20
        mask |= (ROWS - 60) ** 2 + (COLUMNS - column) ** 2 <= (diameter / 2) ** 2
        strokes[60, column - 2 : column + 3] = 1
    image = np.repeat(np.uint8(200 * mask)[..., None], 3, axis=2)
    return CellImage(name, image, None, strokes)


def mask_of(cell):
    return (cell.image[..., 0] > 100).astype(float)


def test_small_nuclei_stay_beside_an_image_of_large_ones(tmp_path):
    large, small = image_of_discs("large", 28, 5), image_of_discs("small", 10, 4)
    (tmp_path / "images").mkdir()
    imsave(tmp_path / "images" / "small.png", small.image)

    usual = measured_nuclei([large, small], mask_of, min_size=20)
    assert usual == Usual(28, 10)
    kept = smallest_kept(tmp_path, 20, usual.smallest)
    assert nuclei(mask_of(small), kept).instances.max() == 4
    by_the_usual_width = smallest_kept(tmp_path, 20, usual.diameter)
    assert nuclei(mask_of(small), by_the_usual_width).instances.max() == 0


def test_two_nuclei_do_not_tell_how_small_those_of_an_image_are():
    large, small = image_of_discs("large", 28, 5), image_of_discs("small", 10, 2)
    assert measured_nuclei([large, small], mask_of, min_size=20) == Usual(28, 28)
