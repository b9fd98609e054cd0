"""What the page lays over an image, as bytes: maps as PNG, and the outlines of objects."""

import functools
import io

import numpy as np
from PIL import Image

from s2l_core.config import IGNORE
from s2l_images.outlines import outlines

YELLOW = (240, 228, 66)  # a prediction
PINK = (204, 121, 167)  # what a prediction is unsure of
BACKGROUND = (47, 143, 224)
FOREGROUND = (255, 140, 0)


def packed_outlines(objects: np.ndarray) -> bytes:
    """The outlines of objects (H, W), ring by ring: how many corners, then each one's row and
    column; little-endian int32.
    """
    rings = [ring for _, polygons in outlines(objects) for rings in polygons for ring in rings]
    numbers = [np.concatenate([[len(ring)], ring.ravel()]) for ring in rings]
    return np.concatenate([np.empty(0), *numbers]).astype("<i4").tobytes()


def png(values: np.ndarray, **options) -> bytes:
    """Without loss, as a dark image is shown stretched; hardly compressed, as that takes
    longest.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(values))
    if "palette" in options:
        picture.putpalette(options.pop("palette"))
    picture.save(buffer, "PNG", compress_level=1, **options)
    return buffer.getvalue()


def _veil(values: np.ndarray, colour: tuple[int, int, int]) -> bytes:
    """(H, W) in [0, 1] as one colour, from transparent to opaque."""
    grey = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return png(grey, palette=bytes(colour) * 256, transparency=bytes(range(256)))


def classes(labels: np.ndarray) -> bytes:
    """Labels 0, 1 and IGNORE as blue, orange and nothing."""
    palette = bytes(BACKGROUND + FOREGROUND) + bytes(3 * 254)
    return png(labels, palette=palette, transparency=bytes([255, 255] + [0] * (IGNORE - 1)))


PAINTS = {
    "prediction": functools.partial(_veil, colour=YELLOW),
    "pseudo_labels": classes,
    "uncertainty": functools.partial(_veil, colour=PINK),
}
