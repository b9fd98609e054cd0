"""A piece of an image with the model's answer: what a program tests a package with."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from s2l_core.config import S2LError
from s2l_core.images import intensity_range
from s2l_core.model import ScribbleUNet
from s2l_images.folders.folder import read_folder
from s2l_images.folders.listing import sound

SMALLEST = 192  # side of a tile or image in pixels: something has to be left inside the halo
LARGEST_EXAMPLE = 256  # side of the example in pixels
IMAGES_TRIED = 20  # for an example in which the model finds something
FOUND = 0.01  # the largest probability of an example is above: smaller ones test nothing


@dataclass(frozen=True)
class Example:
    """A piece of an image with the answer: what a program tests itself with.

    Attributes:
        image: (1, 1 or 3, H, W) float32, grey values from 0 to 255.
        probability: (1, 1, H, W) float32.
        source: name of the image that it is from.
    """

    image: np.ndarray
    probability: np.ndarray
    source: str


def example_of(folder: Path, model: ScribbleUNet, graph: nn.Module) -> Example:
    """The middle of the first image in which the model finds something.

    An image whose colours are all grey gives an example with one channel, and so a package for
    images of one channel.
    """
    names = sound(folder).ids[:IMAGES_TRIED]
    for name in names:
        (cell,) = read_folder(folder, [name])
        image = _middle(cell.image)  # (h, w, 3)
        if (image == image[..., :1]).all():
            image = image[..., :1]

        values = image.transpose(2, 0, 1)[None].astype(np.float32)  # (1, 1 or 3, h, w)
        given = values
        if model.intensity == "stretch":
            low, high = intensity_range(image, "stretch")
            given = (values - low) / (high - low)
        with torch.inference_mode():
            probability = graph(torch.from_numpy(given)).numpy()  # (1, 1, h, w)
        if values.max() > 0 and probability.max() > FOUND:
            return Example(values, probability, name)

    raise S2LError(
        f"{folder}: the model finds nothing in the middle of its first {len(names)} images, so "
        "there is no example to test a package with. Name a folder with nuclei."
    )


def _middle(image: np.ndarray) -> np.ndarray:
    """The middle of an image (H, W, 3), at most `LARGEST_EXAMPLE` wide; a small one is mirrored."""
    height, width = image.shape[:2]
    missing = [(0, max(SMALLEST - side, 0)) for side in (height, width)]
    image = np.pad(image, [*missing, (0, 0)], mode="symmetric")

    window = []
    for side in image.shape[:2]:
        length = min(side, LARGEST_EXAMPLE)
        first = (side - length) // 2
        window.append(slice(first, first + length))
    return image[tuple(window)]


def cover(example: Example) -> bytes:
    """The example and its answer side by side, as PNG."""
    image = example.image[0].astype(np.uint8)  # (1 or 3, H, W)
    answer = np.rint(255 * example.probability[0]).astype(np.uint8)  # (1, H, W)
    both = np.concatenate(
        [np.broadcast_to(part, (3, *part.shape[1:])) for part in (image, answer)], axis=2
    )  # (3, H, 2 W)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(both.transpose(1, 2, 0))).save(stream, "PNG")
    return stream.getvalue()
