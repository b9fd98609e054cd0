"""Where a stroke would help most."""

from collections.abc import Mapping
from itertools import zip_longest

import numpy as np
from scipy.ndimage import (
    binary_dilation,
    distance_transform_edt,
    gaussian_filter,
    maximum_filter,
    minimum_filter,
)

from s2l_core.config import IGNORE
from s2l_core.metrics import instances
from s2l_images.nuclei.split import SplitExploded, divided

FAINT = 0.5  # of the contrast of what is taken for nuclei: places with less of it are empty
WAIST = 4  # pixels to each side of a line between two nuclei that touch

Place = tuple[int, int, float]  # row, column and radius


def uncertainty(probability: np.ndarray) -> np.ndarray:
    """1 where the probability (H, W) is one half, 0 where it is 0 or 1."""
    return 1 - np.abs(2 * probability - 1)


def where_to_draw(
    probability: np.ndarray,
    scribbles: np.ndarray | None = None,
    *,
    image: np.ndarray | None = None,
    other: np.ndarray | None = None,
    diameter: float = 0.0,
    count: int = 3,
    radius: float = 16,
    least: float = 0.05,
) -> list[Place]:
    """The places where a stroke would change most, and nobody has drawn yet.

    A place is worth a stroke where the answer is not sure, as at what looks like a nucleus and may
    be none; where another answer says otherwise; and where nuclei that touch may be one. Of two
    reasons the stronger one counts.

    Args:
        probability: (H, W) foreground probability of the answer that would be exported.
        scribbles: (H, W) uint8 of 0, 1 and IGNORE, or None.
        image: (H, W, 3) uint8, by which empty background is told and left out; None: nothing is.
        other: (H, W), what another model says, as the forest beside the network; or None.
        diameter: of a usual nucleus in pixels, by which touching ones are told apart; 0: they are
            not looked at.
        count: of places at most, the one that is worth most first.
        radius: pixels; what a place is worth is averaged over about this far, and places keep
            twice as far from each other.
        least: averaged worth below which no stroke is asked for.

    Returns:
        (row, column, radius) of each; none where all is sure, or drawn on.
    """
    worth = uncertainty(probability)  # (H, W)
    if other is not None:
        worth = np.maximum(worth, np.abs(probability - other))
    if diameter:
        worth = np.maximum(worth, _waists(probability, diameter))
    worth = gaussian_filter(worth.astype(np.float32), radius / 2)

    # What is drawn on is known, and a stroke over empty background teaches next to nothing.
    if scribbles is not None and (scribbles != IGNORE).any():
        worth[distance_transform_edt(scribbles == IGNORE) <= radius] = 0
    if image is not None:
        worth[_empty(image, probability, radius)] = 0

    # A place lies whole in the image.
    top, left = (min(int(radius), (side - 1) // 2) for side in worth.shape)
    worth = worth[top : worth.shape[0] - top, left : worth.shape[1] - left]
    rows, columns = np.ogrid[: worth.shape[0], : worth.shape[1]]
    places: list[Place] = []
    while len(places) < count and worth.max(initial=0) >= least:
        row, column = map(int, np.unravel_index(worth.argmax(), worth.shape))
        places.append((row + top, column + left, float(radius)))
        worth[(rows - row) ** 2 + (columns - column) ** 2 <= (2 * radius) ** 2] = 0
    return places


def _waists(probability: np.ndarray, diameter: float) -> np.ndarray:
    """(H, W) bool: around the lines along which a watershed parts nuclei that touch."""
    try:
        pieces = divided(instances(probability), diameter)  # (H, W)
    except SplitExploded:
        return np.zeros(probability.shape, bool)

    # A line is where two pieces meet: the largest number nearby differs from the smallest one.
    nuclei = np.where(pieces > 0, pieces, pieces.max() + 1)
    line = (pieces > 0) & (maximum_filter(pieces, 3) != minimum_filter(nuclei, 3))
    return binary_dilation(line, iterations=WAIST)


def _empty(image: np.ndarray, probability: np.ndarray, radius: float) -> np.ndarray:
    """(H, W) bool: where grey values vary less than half as much as around nuclei.

    Nothing is empty where no nucleus is found.
    """
    grey = image.mean(axis=2, dtype=np.float32)  # (H, W)
    mean = gaussian_filter(grey, radius / 2)
    variance = gaussian_filter(grey * grey, radius / 2) - mean * mean
    contrast = np.sqrt(np.maximum(variance, 0))

    nuclei = probability > 0.5
    if not nuclei.any():
        return np.zeros(grey.shape, bool)
    return contrast < FAINT * np.median(contrast[nuclei])


def spread(places: Mapping[str, list[Place]], most: int) -> dict[str, list[Place]]:
    """The first place of every image, then the second ones, until there are enough.

    Args:
        places: image id -> places, as `where_to_draw` gives them.
        most: how many are kept in all.
    """
    kept: dict[str, list[Place]] = {name: [] for name in places}
    for turn in zip_longest(*places.values()):
        for name, place in zip(places, turn, strict=True):
            if place is not None and sum(map(len, kept.values())) < most:
                kept[name].append(place)
    return kept
