"""What a training and a score are about: an image of cells, and what is known of it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class CellImage:
    """One image with its labels, where it has any. A pixel belongs to one nucleus only.

    Attributes:
        id: its name.
        image: (H, W, 3) uint8.
        instances: (H, W) int32, 0 is background and each nucleus has a number; or None.
        scribbles: (H, W) uint8 of 0 (background), 1 (foreground) and IGNORE; or None.
    """

    id: str
    image: np.ndarray
    instances: np.ndarray | None = None
    scribbles: np.ndarray | None = None
