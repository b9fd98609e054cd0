"""Where a stroke would help most."""

from collections.abc import Mapping
from itertools import zip_longest

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from s2l_core.config import IGNORE


def uncertainty(probability: np.ndarray) -> np.ndarray:
    """1 where the probability (H, W) is one half, 0 where it is 0 or 1."""
    return 1 - np.abs(2 * probability - 1)


def where_to_draw(
    probability: np.ndarray,
    scribbles: np.ndarray | None = None,
    *,
    count: int = 3,
    radius: float = 16,
    least=0.05,
) -> list[tuple[int, int, float]]:
    """The places where a prediction is least sure, and nobody has drawn yet.

    Args:
        probability: (H, W) foreground probability.
        scribbles: (H, W) uint8 of 0, 1 and IGNORE, or None.
        count: of places at most, the least sure first.
        radius: pixels; uncertainty is averaged over about this far, and places keep twice as far
            from each other.
        least: averaged uncertainty below which a place is not worth a stroke.

    Returns:
        (row, column, radius) of each; none where all is sure, or drawn on.
    """
    unsure = gaussian_filter(uncertainty(probability).astype(np.float32), radius / 2)
    if scribbles is not None and (scribbles != IGNORE).any():
        unsure[distance_transform_edt(scribbles == IGNORE) <= radius] = 0
    top, left = (
        min(int(radius), (side - 1) // 2) for side in unsure.shape
    )  # a place lies whole in the image
    unsure = unsure[top : unsure.shape[0] - top, left : unsure.shape[1] - left]
    rows, columns = np.ogrid[: unsure.shape[0], : unsure.shape[1]]
    places: list[tuple[int, int, float]] = []
    while len(places) < count and unsure.max(initial=0) >= least:
        row, column = map(int, np.unravel_index(unsure.argmax(), unsure.shape))
        places.append((row + top, column + left, float(radius)))
        unsure[(rows - row) ** 2 + (columns - column) ** 2 <= (2 * radius) ** 2] = 0
    return places


def spread(
    places: Mapping[str, list[tuple[int, int, float]]], most: int
) -> dict[str, list[tuple[int, int, float]]]:
    """The first place of every image, then the second ones, until there are enough.

    Args:
        places: image id -> places, as `where_to_draw` gives them.
        most: how many are kept in all.
    """
    kept: dict[str, list[tuple[int, int, float]]] = {name: [] for name in places}
    for turn in zip_longest(*places.values()):
        for name, place in zip(places, turn, strict=True):
            if place is not None and sum(map(len, kept.values())) < most:
                kept[name].append(place)
    return kept
