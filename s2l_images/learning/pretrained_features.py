"""What an encoder that knows ImageNet sees around each pixel: features for a forest.

The filters of a forest see edges and grey values within a few dozen pixels. The deep feature maps
of EfficientNet-Lite0 tell what kind of thing a pixel belongs to, and nothing has to be trained for
that.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from s2l_core.augment import to_unit
from s2l_core.config import digest
from s2l_core.images import intensity_range
from s2l_core.inference import padded
from s2l_core.model import ScribbleUNet

ENCODER = "efficientnet-lite0"  # its weights come with a Python package (docs/encoders.md)
# Feature maps of the encoder, and how many pixels a side one value stands for. The shallower ones
# add little to a forest's own filters: chosen on training images.
STRIDES = {4: 16, 5: 32}
BLOCK, CONTEXT = 1024, 128  # pixels a side that are encoded at once, and of context around them
MOST_KEPT = 32  # images whose maps are kept: 3 MiB for each megapixel


class PretrainedFeatures:
    """An encoder with ImageNet's weights, which stay as they are.

    Raises:
        S2LError: the Python package with the weights is missing, or harmed.
    """

    def __init__(self) -> None:
        network = ScribbleUNet(ENCODER, encoder_weights="imagenet").eval()
        self._encoder, self._mean, self._std = network.unet.encoder, network.mean, network.std
        self._channels = {number: self._encoder.out_channels[number] for number in STRIDES}
        self._kept: dict[str, list[Tensor]] = {}

    def maps(self, image: np.ndarray) -> list[Tensor]:
        """Feature maps of an image (H, W, 3) uint8, for each stride (C, H / stride, W / stride),
        rounded up. Those of the last images are kept.
        """
        key = digest(image.tobytes(), 64)
        if key not in self._kept:
            self._kept[key] = self._encoded(image)
            if len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return self._kept[key]

    @torch.inference_mode()
    def _encoded(self, image: np.ndarray) -> list[Tensor]:
        limits = intensity_range(image, "stretch")
        height, width = image.shape[:2]
        found = {
            number: torch.empty(self._channels[number], -(-height // stride), -(-width // stride))
            for number, stride in STRIDES.items()
        }
        for rows, above in _blocks(height):
            for columns, left in _blocks(width):
                window = image[above : rows.stop + CONTEXT, left : columns.stop + CONTEXT]
                values = padded(to_unit(window, limits))  # (1, 3, h, w)
                stages = self._encoder((values - self._mean) / self._std)
                for number, stride in STRIDES.items():
                    place = found[number][:, _scaled(rows, stride), _scaled(columns, stride)]
                    top, begin = (rows.start - above) // stride, (columns.start - left) // stride
                    inner = stages[number][0, :, top:, begin:]
                    place.copy_(inner[:, : place.shape[1], : place.shape[2]])
        return list(found.values())


@lru_cache(maxsize=1)
def shared_features() -> PretrainedFeatures:
    """Those of this process: the weights are read once.

    Raises:
        S2LError: as `PretrainedFeatures`.
    """
    return PretrainedFeatures()


def at_pixels(maps: Sequence[Tensor], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Features of pixels, interpolated between the values of each map.

    Args:
        maps: as `PretrainedFeatures.maps` returns them.
        rows, columns: (N,) of the pixels.

    Returns:
        (F, N) float32.
    """
    found = []
    for values, stride in zip(maps, STRIDES.values(), strict=True):
        _, height, width = values.shape

        # `grid_sample` counts from -1 to 1 between the outer edges of the map.
        x = 2 * (columns + 0.5) / (stride * width) - 1
        y = 2 * (rows + 0.5) / (stride * height) - 1
        grid = torch.from_numpy(np.stack([x, y], axis=-1).astype(np.float32))  # (N, 2)
        options = {"align_corners": False, "padding_mode": "border"}
        sampled = F.grid_sample(values[None], grid[None, None], **options)  # (1, C, 1, N)
        found.append(sampled[0, :, 0])
    return torch.cat(found).numpy()


def _blocks(length: int) -> Iterator[tuple[slice, int]]:
    """The blocks along one side, and where the context of each begins."""
    for start in range(0, length, BLOCK):
        yield slice(start, min(start + BLOCK, length)), max(start - CONTEXT, 0)


def _scaled(pixels: slice, stride: int) -> slice:
    """The same part of a side, counted in values of a map."""
    return slice(pixels.start // stride, -(-pixels.stop // stride))
