"""One joint random transform of an image, its scribbles, averaged prediction and mask (D12)."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from s2l_core.config import IGNORE


def to_unit(image: np.ndarray, limits: tuple[float, float]) -> Tensor:
    """Image (H, W, 3) uint8 -> (3, H, W) float32 in [0, 1], by the limits of `intensity_range`."""
    low, high = limits
    pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))
    return ((pixels - low) / (high - low)).clamp_(0, 1)


def random_crop(
    image: np.ndarray,
    scribbles: np.ndarray | None,
    averaged: np.ndarray | Tensor | None,
    mask: np.ndarray | None,
    *,
    size: int,
    rng: np.random.Generator,
    limits: tuple[float, float] = (0.0, 255.0),
    colour: bool = False,
    target: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Draws one crop: its place, shift-scale-rotate (p .7), flips, brightness and contrast (p .5).

    Args:
        image: (H, W, 3) uint8, any size; smaller images are centred and reflected.
        scribbles: (H, W) uint8 {0, 1, IGNORE}, or None for IGNORE everywhere.
        averaged: (H, W) float32 averaged probability, or None for 0.5 everywhere.
        mask: (H, W), foreground where nonzero, or None for IGNORE everywhere.
        size: side of the crop in pixels.
        rng: decides everything; the draws do not depend on which of the maps are given.
        limits: grey values that become 0 and 1.
        colour: jitter saturation and hue too (stained tissue).
        target: (row, column) that the crop shall hold before it is turned and shifted, or None for
            any place (D21).

    Returns:
        `image` (3, size, size) float32 in [0, 1], `scribbles` and `mask` (size, size) uint8,
        `averaged` (size, size) float32. Outside the image: image reflected, scribbles and mask
        IGNORE, averaged 0.5. Label maps are taken from the nearest pixel; averaged stays a
        probability, so that it is thresholded after the transform.
    """
    # Only the window that the crop can reach is read: half its diagonal at the largest zoom.
    height, width = image.shape[:2]
    centre, linear = _geometry(height, width, size, rng, target)
    row, column = int(centre[0]), int(centre[1])
    reach = math.ceil(size * 0.75 * 1.2) + 2
    rows = slice(max(0, row - reach), min(height, row + reach + 1))
    columns = slice(max(0, column - reach), min(width, column + reach + 1))
    grid, inside = _grid(centre, linear, size, rows, columns)

    # Every map is resampled once, on the same grid.
    smooth = _sample(to_unit(image[rows, columns], limits), grid, "bilinear")  # (3, size, size)
    crop = {"image": _jitter(smooth, rng, colour).clamp_(0, 1)}
    drawn = None if scribbles is None else scribbles[rows, columns]
    crop["scribbles"] = _sample_labels(drawn, grid, inside)
    foreground = None if mask is None else mask[rows, columns] > 0
    crop["mask"] = _sample_labels(foreground, grid, inside)

    if averaged is None:
        crop["averaged"] = torch.full((size, size), 0.5)
    else:
        window = torch.as_tensor(averaged[rows, columns])[None]  # (1, h, w)
        crop["averaged"] = _sample(window, grid, "bilinear")[0].masked_fill_(~inside, 0.5)
    return crop


def _geometry(
    height: int, width: int, size: int, rng: np.random.Generator, target: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Centre (row, column) of a crop, and the 2 x 2 map from its offsets to those in the image."""
    # The crop lies in the image, anywhere or so that it holds its target; a larger one is centred.
    corner = []
    for side, held in zip((height, width), target or (None, None), strict=True):
        first, last = 0, max(side - size, 0)
        if held is not None:
            first, last = max(held - size + 1, 0), min(held, last)
        corner.append(rng.integers(first, last + 1) + min(side - size, 0) / 2)
    centre = np.array(corner) + (size - 1) / 2

    # All is drawn, whether it is used or not, so that later draws do not depend on it.
    moved = rng.random() < 0.7
    angle = math.radians(rng.uniform(-45, 45))
    zoom = rng.uniform(0.9, 1.1)
    shift = rng.uniform(-0.0625, 0.0625, 2) * size
    flips = np.where(rng.random(2) < 0.5, -1.0, 1.0)
    if not moved:
        angle, zoom, shift = 0.0, 1.0, np.zeros(2)

    cosine, sine = math.cos(angle), math.sin(angle)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    return centre + shift, zoom * rotation @ np.diag(flips)


def _grid(
    centre: np.ndarray, linear: np.ndarray, size: int, rows: slice, columns: slice
) -> tuple[Tensor, Tensor]:
    """Where in the window each pixel of the crop lies, and which lie inside of it.

    Returns:
        (1, size, size, 2) float32 as `grid_sample` wants it: x before y, -1 and 1 are the outer
        edges of the window's first and last pixels; and (size, size) bool.
    """
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    down, right = offset[:, None], offset[None, :]
    grid = torch.empty(1, size, size, 2)
    for axis, window in enumerate((rows, columns)):
        place = centre[axis] + linear[axis, 0] * down + linear[axis, 1] * right  # (size, size)
        place.sub_(window.start)
        place.mul_(2).add_(1).div_(window.stop - window.start).sub_(1)
        grid[0, ..., 1 - axis] = place
    return grid, (grid[0].abs() <= 1).all(dim=-1)


def _sample(values: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Values (C, h, w) -> (C, size, size); points outside are reflected."""
    return F.grid_sample(
        values[None], grid, mode=mode, padding_mode="reflection", align_corners=False
    )[0]


def _sample_labels(labels: np.ndarray | None, grid: Tensor, inside: Tensor) -> Tensor:
    """Labels (h, w), or None for IGNORE everywhere -> (size, size) uint8, IGNORE outside."""
    if labels is None:
        return torch.full(inside.shape, IGNORE, dtype=torch.uint8)
    values = torch.from_numpy(labels.astype(np.float32))[None]  # (1, h, w)
    sampled = _sample(values, grid, "nearest")[0].to(torch.uint8)  # (size, size)
    return sampled.masked_fill_(~inside, IGNORE)


def _jitter(image: Tensor, rng: np.random.Generator, colour: bool) -> Tensor:
    """Brightness and contrast within +-20 % of the crop's own range, for half of the crops.

    A share of 255 would blank dark images.
    """
    changed = rng.random() < 0.5
    contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(-0.2, 0.2)
    saturation, hue = rng.uniform(0.8, 1.2), rng.uniform(-0.05, 0.05)
    if not changed:
        return image

    low, high = image.amin(), image.amax()
    image = (image - low) * contrast + low + brightness * (high - low)
    if colour:
        # Imported here, as it is slow to load and for stained tissue alone.
        from torchvision.transforms.v2 import functional as TF

        image = TF.adjust_saturation(image.clamp(0, 1), saturation)
        image = TF.adjust_hue(image, hue)
    return image
