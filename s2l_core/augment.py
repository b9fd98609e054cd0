"""One joint random transform of an image, its scribbles, its averaged prediction and its mask
(D12).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from s2l_core.config import IGNORE


def intensity_range(image: np.ndarray, intensity: str) -> tuple[float, float]:
    """Grey values that become 0 and 1 (D20).

    Args:
        image: (H, W, 3) uint8.
        intensity: `imagenet` maps 0-255 to 0-1; `stretch` maps the image's own 0.5 and 99.5
            percentiles, at least 4 grey values apart so that an empty image is not all noise.
    """
    if intensity == "imagenet":
        return 0.0, 255.0
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(max(high, low + 4))


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
    """Draws one crop: place, shift-scale-rotate (p .7), flips, and brightness and contrast (p .5),
    in one resampling.

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
    height, width = image.shape[:2]
    centre, linear = _geometry(height, width, size, rng, target)
    reach = (
        math.ceil(size * 0.75 * 1.2) + 2
    )  # half the diagonal at the largest scale: the rest need not be read
    rows = slice(max(0, int(centre[0]) - reach), min(height, int(centre[0]) + reach + 1))
    columns = slice(max(0, int(centre[1]) - reach), min(width, int(centre[1]) + reach + 1))
    grid, inside = _grid(centre, linear, size, rows, columns)

    smooth = _sample(to_unit(image[rows, columns], limits), grid, "bilinear")
    crop = {"image": _jitter(smooth, rng, colour).clamp_(0, 1)}
    for name, values in {"scribbles": scribbles, "mask": mask}.items():
        if values is None:
            crop[name] = torch.full((size, size), IGNORE, dtype=torch.uint8)
        else:
            window = values[rows, columns] if name == "scribbles" else values[rows, columns] > 0
            sampled = _sample(torch.from_numpy(window.astype(np.float32))[None], grid, "nearest")[0]
            crop[name] = sampled.to(torch.uint8).masked_fill_(~inside, IGNORE)
    if averaged is None:
        crop["averaged"] = torch.full((size, size), 0.5)
    else:
        window = torch.as_tensor(averaged[rows, columns])[None]
        crop["averaged"] = _sample(window, grid, "bilinear")[0].masked_fill_(~inside, 0.5)
    return crop


def _geometry(
    height, width, size: int, rng: np.random.Generator, target=None
) -> tuple[np.ndarray, np.ndarray]:
    """Centre (row, column) of the crop in the image, and the 2 x 2 map from crop offsets to image
    offsets.
    """
    corner = []
    for side, held in zip((height, width), target or (None, None), strict=True):
        last = max(side - size, 0)
        low, high = (0, last) if held is None else (max(held - size + 1, 0), min(held, last))
        corner.append(rng.integers(low, high + 1) + min(side - size, 0) / 2)
    centre = np.array(corner) + (size - 1) / 2
    moved, angle, zoom = (
        rng.random() < 0.7,
        math.radians(rng.uniform(-45, 45)),
        rng.uniform(0.9, 1.1),
    )
    shift = rng.uniform(-0.0625, 0.0625, 2) * size
    flips = np.where(rng.random(2) < 0.5, -1.0, 1.0)
    if not moved:
        angle, zoom, shift = 0.0, 1.0, np.zeros(2)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return centre + shift, zoom * rotation @ np.diag(flips)


def _grid(centre, linear, size: int, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """Sampling grid (1, size, size, 2) of the window, as `grid_sample` wants it, and which points
    lie inside.
    """
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    grid = torch.empty(1, size, size, 2)
    for axis, part in enumerate((rows, columns)):
        place = centre[axis] + linear[axis, 0] * offset[:, None] + linear[axis, 1] * offset[None, :]
        place.sub_(part.start).mul_(2).add_(1).div_(part.stop - part.start).sub_(
            1
        )  # pixel centres, no aligned corners
        grid[0, ..., 1 - axis] = place
    return grid, (grid[0].abs() <= 1).all(dim=-1)


def _sample(values: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Values (C, h, w) -> (C, size, size); points outside are reflected."""
    return F.grid_sample(
        values[None], grid, mode=mode, padding_mode="reflection", align_corners=False
    )[0]


def _jitter(image: Tensor, rng: np.random.Generator, colour: bool) -> Tensor:
    """Contrast and brightness within +-20 % of the crop's own range: a share of 255 would blank
    dark images.
    """
    changed, contrast, brightness = (
        rng.random() < 0.5,
        rng.uniform(0.8, 1.2),
        rng.uniform(-0.2, 0.2),
    )
    saturation, hue = rng.uniform(0.8, 1.2), rng.uniform(-0.05, 0.05)
    if not changed:
        return image
    low, high = image.amin(), image.amax()
    image = (image - low) * contrast + low + brightness * (high - low)
    if colour:
        from torchvision.transforms.v2 import (
            functional as TF,
        )  # slow to load, for stained tissue alone

        image = TF.adjust_hue(TF.adjust_saturation(image.clamp(0, 1), saturation), hue)
    return image
