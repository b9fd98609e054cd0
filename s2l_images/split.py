"""Touching nuclei told apart: a watershed on the distance to the background, from one seed a
nucleus.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from s2l_core.config import S2LError
from s2l_core.metrics import instances

MOST_PIECES = 5  # of an object, on average; more means that a parameter does not fit
DISC = np.pi / 4  # share of its bounding square that a disc covers


@dataclass(frozen=True)
class Split:
    """How objects are told apart. Lengths are in shares of a nucleus's diameter, so that they fit
    any magnification.

    Attributes:
        spacing: the least distance between the centres of two nuclei, in diameters.
        smoothing: standard deviation of the Gaussian that smooths the distances, in diameters.
            Small dents of an outline then seed no nucleus of their own.
    """

    spacing: float = 0.45
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        for name in ("spacing", "smoothing"):
            value = getattr(self, name)
            if not 0 < value <= 2:
                raise S2LError(
                    f"{name} = {value}: expected a share of a diameter, above 0 and at most 2."
                )


def split(
    probability: np.ndarray,
    diameter: float,
    settings: Split | None = None,
    *,
    threshold: float = 0.5,
    min_size: int = 64,
) -> np.ndarray:
    """Instances of a foreground probability, with touching nuclei apart.

    Args:
        probability: (H, W) float in [0, 1].
        diameter: of a usual nucleus in pixels, as `usual_diameter` takes it from strokes or truth.
        settings: how far apart seeds are; None: the defaults.
        threshold: probability from which a pixel belongs to a nucleus.
        min_size: the smallest object in pixels, before it is divided.

    Returns:
        (H, W) int32, 0 is background; pieces are numbered from 1.

    Raises:
        S2LError: objects fall into more than five pieces each, or the diameter is no length.
    """
    if not np.isfinite(diameter) or diameter < 2:
        raise S2LError(
            f"diameter = {diameter}: expected the width of a nucleus in pixels, 2 or more."
        )
    settings = settings or Split()
    objects = instances(
        probability, threshold=threshold, min_size=min_size
    )  # (H, W), connected pieces

    # A pixel deep in a nucleus is far from the background; between two that touch, the distance has
    # a waist.
    depth = ndimage.distance_transform_edt(objects > 0)
    depth = ndimage.gaussian_filter(depth, settings.smoothing * diameter)
    depth[objects == 0] = 0

    # One seed for each nucleus. An object without a peak of its own, as a thin one, keeps its
    # deepest pixel.
    spacing = max(1, round(settings.spacing * diameter))
    peaks = peak_local_max(depth, min_distance=spacing, labels=objects, exclude_border=False)
    seeds = np.zeros(objects.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    pieces = watershed(-depth, seeds, mask=objects > 0).astype(np.int32)

    count = int(objects.max())
    if len(peaks) > MOST_PIECES * max(count, 1):
        raise S2LError(
            f"{count} objects fell into {len(peaks)} pieces, more than {MOST_PIECES} each. "
            f"Raise diameter ({diameter:g} pixels) or spacing ({settings.spacing:g})."
        )
    return pieces


def usual_diameter(areas: np.ndarray) -> float:
    """Diameter in pixels of a disc with the median of these areas; of nuclei of the truth, or drawn
    by hand.

    Raises:
        S2LError: no area is given.
    """
    if not len(areas):
        raise S2LError("No nucleus to measure: give the diameter of a usual one in pixels.")
    return float(np.sqrt(np.median(areas) / DISC))
