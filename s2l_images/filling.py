"""Which pixels an area holds, by ImageJ's rule, and which areas are regions around others."""

from collections.abc import Callable, Sequence

import numpy as np

from s2l_core.config import S2LError

MAX_CROSSINGS = 2_000_000  # rows that one outline crosses
# By so much ImageJ moves an edge to the right, so that rounding errors do not decide.
_EDGE_SLACK = 1e-8
_WITHIN = 0.95  # share of an area's pixels that makes it lie within another
_LARGER = 4  # times the usual area within it: what makes an area a region
_SPECK = 0.25  # of the usual area: what lies within an area and is smaller makes no region of it


def inside(
    rings: Sequence[np.ndarray], shape: tuple[int, int], spend: Callable[[float], None]
) -> np.ndarray:
    """Runs of pixels with their centre inside the rings, by the even-odd rule.

    An edge from (y0, x0) down to (y1, x1) crosses the rows r with y0 < r <= y1. Sorted along a row,
    crossings come in pairs, and between the two of a pair lie the columns c with x_left < c <=
    x_right:

        r - 1  . . . . . . .        . outside
        r      . .|# # # #|.        # inside; | crossings: a centre right under one
        r + 1  . . .|# # #|.          belongs to what lies to the left of it

    So a centre on an edge belongs to an area at its right and bottom edge, and does not at its left
    and top edge, as in ImageJ: of two areas that share an edge one has it.

    Args:
        rings: (N, 2) each, row and column from the centre of the first pixel; the last point joins
            the first.
        shape: of the image.
        spend: called with about how many microseconds this takes, before it does.

    Returns:
        (R, 2) int64: first pixel, and the one after the last, of each run in the flattened image.
    """
    start = np.concatenate(rings)  # (E, 2): an edge for each point
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])

    # The rows that each edge crosses within the image.
    ends = np.sort([start[:, 0], end[:, 0]], axis=0)  # (2, E): upper and lower
    low, high = np.clip(np.floor(ends) + 1, 0, shape[0]).astype(np.int64)
    count = high - low
    crossings = int(count.sum())
    spend(crossings if crossings <= MAX_CROSSINGS else np.inf)

    # One entry for each crossing: its edge, its row, and the first column to the right of it.
    edge = np.repeat(np.arange(len(count)), count)
    first = np.cumsum(count) - count  # of an edge's crossings, among all
    row = np.arange(crossings) - first[edge] + low[edge]
    (y, x), (dy, dx) = start[edge].T, (end - start)[edge].T
    column = np.floor(x + (row - y) * (dx / dy) + _EDGE_SLACK) + 1
    column = np.clip(column, 0, shape[1]).astype(np.int64)

    # Closed rings cross a row an even number of times, so pairs never straddle two rows. With a
    # place more in a row than there are columns, a run that ends at the border is not taken for one
    # that begins in the next row.
    places = np.sort(row * (shape[1] + 1) + column).reshape(-1, 2)
    rows = places[:, :1] // (shape[1] + 1)
    return places - rows


def pixels(runs: np.ndarray) -> np.ndarray:
    """The pixels of runs (R, 2), one after the other."""
    lengths = runs[:, 1] - runs[:, 0]
    offset = runs[:, 0] - (np.cumsum(lengths) - lengths)
    return np.repeat(offset, lengths) + np.arange(lengths.sum())


def around_others(areas: Sequence[np.ndarray], size: int) -> tuple[list[int], list[int]]:
    """Which areas are regions: at least two others lie within each, and are small beside it.

    A nucleus holds no other nuclei, so this is a field, a tile or a parent that was exported with
    them. One nucleus within another makes no region, since annotators draw such by mistake, nor do
    specks.

    Args:
        areas: runs of each, see `inside`.
        size: pixels of the image.

    Returns:
        Indices of regions, and of areas around another one that is much smaller; ascending.
    """
    sizes = np.array([(runs[:, 1] - runs[:, 0]).sum() for runs in areas], np.int64)

    # The smallest on top, every area but those that others tile is seen.
    top = np.full(size, -1, np.int32)
    for k in np.argsort(-sizes, kind="stable"):
        top[pixels(areas[k])] = k
    seen = np.bincount(top[top >= 0], minlength=len(areas))

    regions, nested = [], []
    usual = np.median(sizes) if len(sizes) else 0
    for k, runs in enumerate(areas):
        owners, counts = np.unique(top[pixels(runs)], return_counts=True)
        within = owners[(owners != k) & (counts >= _WITHIN * seen[owners])]
        nuclei = sizes[within][sizes[within] >= _SPECK * usual]
        if len(nuclei) and sizes[k] > _LARGER * np.median(nuclei):
            (regions if len(nuclei) > 1 else nested).append(k)
    return regions, nested


class TimeLimit:
    """About how long drawing may take, in microseconds; `spend` says when it would take longer."""

    def __init__(self, shape: tuple[int, int]):
        # A few seconds, and more for a large image, which even one area may cover as a whole.
        self.left = 3e6 + 0.3 * shape[0] * shape[1]

    def spend(self, microseconds: float) -> None:
        """Raises S2LError where too little is left."""
        self.left -= microseconds
        if self.left < 0:
            raise S2LError(
                "it covers the image too many times over. Export fewer items, or with fewer points."
            )
