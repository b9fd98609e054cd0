"""Foreground probability of an image of any size, in tiles, and how sure it is."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from s2l_core.augment import to_unit
from s2l_core.config import S2LError
from s2l_core.images import intensity_range

MULTIPLE = 32  # the encoder halves the image five times


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """`auto` or None: CUDA, then MPS, then CPU; otherwise the device of that name."""
    if name not in (None, "auto"):
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@torch.inference_mode()
def predict(model, image: np.ndarray, *, tile: int = 1024, overlap: int = 64) -> np.ndarray:
    """Predicts every pixel of an image (D14).

    The image is padded by reflection to a multiple of 32 and cut back. One larger than `tile` goes
    in tiles of that size whose outer `overlap` pixels are thrown away, except at the image's own
    border.

    Args:
        model: a ScribbleUNet, on any device; put into evaluation mode, and back as it was.
        image: (H, W, 3) uint8.
        tile: side of a tile in pixels, a multiple of 32.
        overlap: pixels of context around what is kept of a tile.

    Returns:
        (H, W) float32 in [0, 1].
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise S2LError(
            f"image is {image.dtype} {image.shape}: expected uint8 (H, W, 3). Convert it first."
        )
    if tile % MULTIPLE or overlap < 0 or 2 * overlap >= tile:
        raise S2LError(
            f"tile = {tile}, overlap = {overlap}: expected a multiple of 32 larger than "
            "2 x overlap. Change one of them."
        )
    device = next(model.parameters()).device
    training = model.training
    model.eval()

    limits = intensity_range(image, model.intensity)
    height, width = image.shape[:2]
    probability = np.empty((height, width), np.float32)
    for rows in _spans(height, tile, overlap):
        for columns in _spans(width, tile, overlap):
            window = to_unit(image[rows.tile, columns.tile], limits).to(device)  # (3, h, w)
            values = _forward(model, window).cpu().numpy()  # (h, w)
            probability[rows.kept, columns.kept] = values[rows.kept_of_tile, columns.kept_of_tile]

    model.train(training)
    return probability


def _forward(model, window: torch.Tensor) -> torch.Tensor:
    """Window (3, h, w) -> probability (h, w)."""
    height, width = window.shape[1:]
    with torch.autocast(window.device.type, torch.bfloat16, enabled=window.device.type == "cuda"):
        logits = model.logits(padded(window))
    return torch.sigmoid(logits.float())[0, :height, :width]


def padded(window: torch.Tensor) -> torch.Tensor:
    """Window (3, h, w) -> (1, 3, H, W) with multiples of 32, reflected below and to the right."""
    height, width = window.shape[1:]
    bottom, right = -height % MULTIPLE, -width % MULTIPLE
    mode = "reflect" if bottom < height and right < width else "replicate"  # none larger than it
    return F.pad(window[None], (0, right, 0, bottom), mode=mode)


class _Span(NamedTuple):
    """A tile along one side of the image."""

    tile: slice  # of the image
    kept: slice  # of the image, without what is thrown away
    kept_of_tile: slice  # the same, counted from the tile's start


def _spans(length: int, tile: int, overlap: int) -> list[_Span]:
    """The tiles along one side; what is kept of them covers it once.

    The last tile ends at the padded length, so that the border looks the same to it as to an
    untiled prediction.
    """
    padded = length + -length % MULTIPLE
    spans, kept = [], 0
    while kept < length:
        start = max(min(kept - overlap, padded - tile), 0)
        is_last = start + tile >= padded
        end = length if is_last else min(start + tile - overlap, length)
        inner = slice(kept - start, end - start)
        spans.append(_Span(slice(start, min(start + tile, length)), slice(kept, end), inner))
        kept = end
    return spans
