"""What all exports share: colours, what is no label image, a word about large files, and saving."""

import warnings
from pathlib import Path

import numpy as np

from s2l_core.config import S2LError
from s2l_images.annotation_files.items import MAX_BYTES, MAX_PARTS, MAX_POINTS
from s2l_images.files import write_atomically

# Of background and foreground; colour-blind readers tell them apart.
CLASS_COLOURS = ((0, 114, 178), (230, 159, 0))


def checked(path: Path, instances: np.ndarray) -> np.ndarray:
    """The instances (H, W) themselves.

    Args:
        path: of the file to be written, for the message.
        instances: what a caller gave.

    Raises:
        S2LError: they are no label image.
    """
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        found = f"instances of {instances.dtype} {instances.shape}"
        raise S2LError(f"{path}: {found}; expected (H, W) whole numbers from 0. Give labels.")
    return instances


def say_limits(path: Path, points: int, parts: int, size: int) -> None:
    """Warns where a file holds more than is read here, which other programs read all the same.

    Args:
        path: of the file.
        points: how many its outlines have together.
        parts: how many outlines there are.
        size: of the file, unpacked, in bytes.
    """
    factor = max(points / MAX_POINTS, parts / MAX_PARTS, size / MAX_BYTES)
    if factor >= 1:
        warnings.warn(
            f"{path}: {parts:,} outlines of {points:,} points are more than is read here, unless "
            f"S2L_LIMITS is at least {int(factor) + 1}. Other programs may read them; the label "
            "image has no such limit.",
            stacklevel=3,
        )


def save(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))
