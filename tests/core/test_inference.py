"""Tiled prediction: every pixel once, whatever the size, and the same as untiled."""

import re

import numpy as np
import pytest
import torch

from s2l_core.config import S2LError
from s2l_core.inference import _spans, pick_device, predict
from s2l_core.model import ScribbleUNet


@pytest.fixture(scope="module")
def model():
    return ScribbleUNet("resnet18", ())


class Local(torch.nn.Module):
    """A stand-in that sees 9 pixels: tiles with enough overlap must give exactly the untiled
    answer.
    """

    intensity = "imagenet"

    def __init__(self):
        super().__init__()
        self.blur = torch.nn.Conv2d(3, 1, 9, padding=4, bias=False)
        torch.nn.init.constant_(self.blur.weight, 0.01)

    def logits(self, image):
        return self.blur(image)[:, 0]


@pytest.mark.parametrize("length", [1, 31, 64, 65, 200, 1000])
def test_spans_keep_every_pixel_once(length):
    pixels, places = list(range(length)), []
    for tile, kept, kept_of_tile in _spans(length, 64, 8):
        start, stop, first, last = tile.start, tile.stop, kept.start, kept.stop
        assert 0 <= start <= first < last <= stop <= length
        assert start == 0 or first - start >= 8
        assert last == length or stop - last >= 8
        assert pixels[tile][kept_of_tile] == pixels[kept]
        places += pixels[kept]
    assert places == pixels


def test_tiles_agree_with_the_whole():
    image = np.random.default_rng(0).integers(0, 255, (200, 333, 3), np.uint8)
    whole = predict(Local(), image, tile=1024)
    tiled = predict(Local(), image, tile=96, overlap=16)
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (33, 50), (1, 1), (7, 200), (130, 70)])
def test_any_size(model, shape):
    image = np.random.default_rng(1).integers(0, 255, (*shape, 3), np.uint8)
    probability = predict(model, image, tile=64, overlap=8)
    assert probability.shape == shape and probability.dtype == np.float32
    assert (probability >= 0).all() and (probability <= 1).all()


def test_training_mode_is_restored_and_nothing_is_learned(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, np.zeros((40, 40, 3), np.uint8))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8)]
)
def test_other_arrays_are_refused(model, image):
    with pytest.raises(S2LError, match=re.escape(f"image is {image.dtype} {image.shape}")):
        predict(model, image)


@pytest.mark.parametrize(("tile", "overlap"), [(100, 8), (64, 32), (64, -1)])
def test_impossible_tiles_are_refused(model, tile, overlap):
    with pytest.raises(S2LError, match=f"tile = {tile}, overlap = {overlap}"):
        predict(model, np.zeros((8, 8, 3), np.uint8), tile=tile, overlap=overlap)


@pytest.mark.parametrize(
    ("cuda", "mps", "first"), [(1, 1, "cuda"), (1, 0, "cuda"), (0, 1, "mps"), (0, 0, "cpu")]
)
def test_the_first_device_there_is(cuda, mps, first, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: bool(cuda))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: bool(mps))
    assert [pick_device(name).type for name in (None, "auto", "cpu")] == [first, first, "cpu"]
