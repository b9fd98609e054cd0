"""An image of cells, what is known of it, and the range of its grey values."""

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
