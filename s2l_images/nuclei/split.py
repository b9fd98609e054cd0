"""Touching nuclei told apart: a watershed on the distance to the background, from one seed a
nucleus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from s2l_core.config import S2LError
from s2l_core.metrics import instances

MOST_PIECES = 5  # of an object, on average; more means that a parameter does not fit
DISC = np.pi / 4  # share of its bounding square that a disc covers


class SplitExploded(S2LError):
    """Objects fell into so many pieces that the diameter cannot be right."""


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
                    f"{name} = {value}: expected a share of a diameter, above 0 and at most 2. "
                    f"Change {name}."
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
        SplitExploded: objects fall into more than five pieces each.
        S2LError: the diameter is no length.
    """
    objects = instances(probability, threshold=threshold, min_size=min_size)
    return divided(objects, diameter, settings)


def divided(objects: np.ndarray, diameter: float, settings: Split | None = None) -> np.ndarray:
    """Objects with touching nuclei apart, as `split` divides those of a probability.

    Args:
        objects: (H, W) int, 0 is background.
        diameter: of a usual nucleus in pixels.
        settings: how far apart seeds are; None: the defaults.

    Returns:
        (H, W) int32, 0 is background; pieces are numbered from 1.

    Raises:
        SplitExploded: objects fall into more than five pieces each.
        S2LError: the diameter is no length.
    """
    if not np.isfinite(diameter) or diameter < 2:
        raise S2LError(
            f"diameter = {diameter}: expected the width of a nucleus in pixels, 2 or more. Measure "
            "one in the image."
        )
    settings = settings or Split()

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
    # Objects are 8-connected: flooded along sides alone, a part that hangs on by a corner would be
    # left without a label.
    pieces = watershed(-depth, seeds, mask=objects > 0, connectivity=2).astype(np.int32)

    count = int(objects.max())
    if len(peaks) > MOST_PIECES * max(count, 1):
        raise SplitExploded(
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


def diameter_at_strokes(objects: Sequence[np.ndarray], scribbles: Sequence[np.ndarray]) -> float:
    """Diameter in pixels of the nuclei that were drawn on, where nobody outlined any.

    A stroke does not fill its nucleus, so the objects of an answer are measured: those that carry
    one foreground stroke, as two on one object are mostly two nuclei that touch; all with a stroke
    where none carries a single one.

    Args:
        objects: (H, W) int each, as `instances` numbers them.
        scribbles: (H, W) uint8 each, of 0, 1 and IGNORE.

    Raises:
        S2LError: no object carries a foreground stroke.
    """
    single, several = [], []
    for found, labels in zip(objects, scribbles, strict=True):
        of_one, of_several = areas_at_strokes(found, labels)
        single += of_one
        several += of_several
    return usual_diameter(np.array(single or several))


def areas_at_strokes(objects: np.ndarray, scribbles: np.ndarray) -> tuple[list[int], list[int]]:
    """Areas in pixels of the objects of an image that carry one foreground stroke, and of those
    that carry several.

    Args:
        objects: (H, W) int, as `instances` numbers them.
        scribbles: (H, W) uint8 of 0, 1 and IGNORE.
    """
    areas = np.bincount(objects.ravel())
    strokes, _ = ndimage.label(scribbles == 1, np.ones((3, 3)))  # (H, W), connected pieces

    # Which strokes lie on which objects: each pair once.
    on = (strokes > 0) & (objects > 0)
    pairs = np.unique(np.stack([objects[on], strokes[on]]), axis=1)  # (2, pairs)
    carried = np.bincount(pairs[0], minlength=len(areas))
    return areas[carried == 1].tolist(), areas[carried > 1].tolist()
