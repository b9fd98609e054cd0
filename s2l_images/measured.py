"""What an image measured, as its file tells it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measured:
    """Raw values of an image, which no display changed.

    Attributes:
        values: (H, W, C) as in the file.
        channels: their names; an empty one where the file tells none and there is only one.
        pixel_size: the width of a pixel in `unit`, or None.
        unit: such as "um", or "".
    """

    values: np.ndarray
    channels: tuple[str, ...]
    pixel_size: float | None = None
    unit: str = ""
