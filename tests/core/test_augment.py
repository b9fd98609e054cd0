"""The joint transform: everything moves together, and the outside is filled as stated."""

import numpy as np
import pytest
import torch

from s2l_core.augment import _grid, _jitter, _sample, random_crop, to_unit
from s2l_core.config import IGNORE
from s2l_core.images import intensity_range


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 2, (10, 12)), np.ones((16, 16), int)).astype(np.int32)
    image = np.repeat((mask[..., None] * 120 + 60), 3, axis=2).astype(np.uint8)
    scribbles = np.where(rng.random(mask.shape) < 0.2, mask, IGNORE).astype(np.uint8)
    return image, scribbles, mask.astype(np.float32), mask


def crop_of(scene, seed, **options):
    return random_crop(*scene, size=64, rng=np.random.default_rng(seed), **options)


def test_shapes_and_ranges(scene):
    crop = crop_of(scene, 0)
    assert crop["image"].shape == (3, 64, 64) and crop["image"].dtype == torch.float32
    assert 0 <= crop["image"].min() and crop["image"].max() <= 1
    for name in ("scribbles", "mask"):
        assert crop[name].dtype == torch.uint8 and set(crop[name].unique().tolist()) <= {
            0,
            1,
            IGNORE,
        }
    assert crop["averaged"].shape == (64, 64)


@pytest.mark.parametrize("seed", range(12))
def test_all_maps_move_together(scene, seed):
    crop = crop_of(scene, seed)
    inside = crop["mask"] != IGNORE
    agree = ((crop["averaged"] > 0.5) == (crop["mask"] == 1))[inside]
    assert (
        agree.float().mean() > 0.97
    )  # they may differ in the half pixel where bilinear meets nearest
    drawn = crop["scribbles"] != IGNORE
    assert torch.equal(crop["scribbles"][drawn], crop["mask"][drawn])
    grey, low = crop["image"][0], crop["image"][0][inside].min()
    middle = (low + grey[inside].max()) / 2
    assert ((grey > middle) == (crop["mask"] == 1))[inside].float().mean() > 0.97


def test_outside_is_filled_as_stated(scene):
    small = [values[:20, :20] for values in scene]
    crop = random_crop(*small, size=96, rng=np.random.default_rng(1))
    outside = crop["mask"] == IGNORE
    assert 0.8 < outside.float().mean() < 1
    assert (crop["scribbles"][outside] == IGNORE).all() and (crop["averaged"][outside] == 0.5).all()
    assert (
        crop["image"][:, outside].std() > 0.01 or np.ptp(small[0]) == 0
    )  # the image itself is reflected


def test_draws_do_not_depend_on_which_maps_are_given(scene):
    image, scribbles, averaged, mask = scene
    full, bare = (
        crop_of(scene, 5),
        random_crop(image, None, None, None, size=64, rng=np.random.default_rng(5)),
    )
    assert torch.equal(full["image"], bare["image"])
    assert (
        (bare["scribbles"] == IGNORE).all()
        and (bare["mask"] == IGNORE).all()
        and (bare["averaged"] == 0.5).all()
    )


def test_seed_decides(scene):
    assert torch.equal(crop_of(scene, 3)["image"], crop_of(scene, 3)["image"])
    assert not torch.equal(crop_of(scene, 3)["image"], crop_of(scene, 4)["image"])


def test_plain_crop_copies_pixels_exactly():
    values = torch.arange(40 * 50, dtype=torch.float32).reshape(1, 40, 50)
    grid, inside = _grid(np.array([4 + 15.5, 9 + 15.5]), np.eye(2), 32, slice(0, 40), slice(0, 50))
    assert inside.all()
    torch.testing.assert_close(
        _sample(values, grid, "nearest")[0], values[0, 4:36, 9:41], rtol=0, atol=0
    )
    torch.testing.assert_close(
        _sample(values, grid, "bilinear")[0], values[0, 4:36, 9:41], rtol=0, atol=0.01
    )


def test_window_reads_the_same_as_the_whole_image(scene):
    """Only the part around the crop is read: a far larger image around it must not matter."""
    big = [
        np.pad(v, [(300, 300), (300, 300)] + [(0, 0)] * (v.ndim - 2), mode="symmetric")
        for v in scene
    ]
    centre, turn = np.array([380.2, 390.7]), np.array([[0.8, -0.6], [0.6, 0.8]])
    whole, _ = _grid(centre, turn, 32, slice(0, 760), slice(0, 792))
    part, _ = _grid(centre, turn, 32, slice(330, 440), slice(340, 450))
    values = torch.from_numpy(big[2])[None]
    torch.testing.assert_close(
        _sample(values, whole, "bilinear"),
        _sample(values[:, 330:440, 340:450], part, "bilinear"),
        atol=1e-3,
        rtol=0,
    )


def test_brightness_is_scaled_to_the_images_own_range():
    dark = torch.rand(3, 16, 16) * 0.01
    for seed in range(20):
        changed = _jitter(dark, np.random.default_rng(seed), colour=False)
        assert changed.max() < 0.02


def test_colour_jitter_changes_hue_only_where_asked():
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    grey, coloured = (_jitter(image, np.random.default_rng(3), colour=c) for c in (False, True))
    assert not torch.allclose(grey, coloured.clamp(0, 1), atol=1e-3)


def test_intensity_switch():
    image = np.full((40, 40, 3), 10, np.uint8)
    image[10:20, 10:20] = 30
    assert intensity_range(image, "imagenet") == (0.0, 255.0)
    assert to_unit(image, intensity_range(image, "imagenet")).max() < 0.2
    assert to_unit(image, intensity_range(image, "stretch")).max() == 1
    low, high = intensity_range(np.zeros((8, 8, 3), np.uint8), "stretch")
    assert high - low == 4


@pytest.mark.parametrize("target", [(0, 0), (159, 191), (80, 3), (70, 100)])
def test_a_crop_holds_its_target_unless_it_is_turned_away(scene, target):
    image, scribbles, averaged, mask = scene
    marked = np.full(mask.shape, IGNORE, np.uint8)
    marked[max(target[0] - 1, 0) : target[0] + 2, max(target[1] - 1, 0) : target[1] + 2] = 1
    crops = [
        random_crop(
            image, marked, averaged, mask, size=64, rng=np.random.default_rng(s), target=target
        )["scribbles"]
        for s in range(40)
    ]
    held = sum((crop == 1).any().item() for crop in crops)
    anywhere = sum(
        (crop_of((image, marked, averaged, mask), s)["scribbles"] == 1).any().item()
        for s in range(40)
    )
    inner = target == (70, 100)  # at the border a crop is turned away most easily
    assert held > (25 if inner else 8) and held > 1.5 * anywhere
    if target == (70, 100):  # anywhere in the crop, not always in its middle
        places = torch.cat([(crop == 1).nonzero()[:1] for crop in crops]).float()
        assert (places.std(0) > 10).all()


def test_a_target_in_an_image_smaller_than_the_crop(scene):
    small = [values[:20, :20] for values in scene]
    crop = random_crop(*small, size=96, rng=np.random.default_rng(1), target=(19, 0))
    assert torch.equal(
        crop["image"], random_crop(*small, size=96, rng=np.random.default_rng(1))["image"]
    )
