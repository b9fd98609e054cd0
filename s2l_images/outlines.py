"""Outlines of instances along the edges of pixels, so that reading them back gives the very same
instances.
"""

import numpy as np
from skimage.measure import label


def outlines(instances: np.ndarray) -> list[tuple[int, list[list[np.ndarray]]]]:
    """Labels, ascending, and their polygons: lists of rings, the outer one first, then holes.

    A ring (N, 2) holds the corners (row, column) along the edges of pixels, (0, 0) the image's own
    corner. A polygon is a 4-connected piece; its rings never cross or touch themselves, so that
    every program takes it as valid.

    Every side of a pixel where its piece ends becomes an edge of length 1, which leads around the
    pixel clockwise::

            0 east             the edge above a pixel starts at its own corner (row, column),
          +------->+           that to the right at (row, column + 1), that below at
        3 |        | 1         (row + 1, column + 1), that to the left at (row + 1, column).
          +<-------+           Each ends where the next edge of the same piece starts, so
            2 west             following them gives the rings: holes turn the other way.
    """
    pieces = label(instances, background=0, connectivity=1).astype(np.int64)  # (H, W)
    piece, row, column, heading = _edges(pieces)

    # Edges sorted by piece and start, so that those which start at a place are found by bisection.
    height, width = pieces.shape
    key = (piece * (height + 1) + row) * (width + 1) + column
    order = np.argsort(key)
    piece, row, column, heading, key = (
        array[order] for array in (piece, row, column, heading, key)
    )
    following = _following(key, heading, width)

    # Each ring is followed once. The first edge of a piece, its topmost, is on the outer ring.
    unseen, rings = bytearray(b"\1") * len(key), {}
    for first in range(len(key)):
        ring, edge = [], first
        while unseen[edge]:
            unseen[edge] = 0
            ring.append(edge)
            edge = following[edge]
        if ring:  # of a straight run only the corner at its start is kept
            corners = np.array(ring)[heading[ring] != heading[np.roll(ring, 1)]]
            corners = np.stack([row[corners], column[corners]], axis=1)  # (N, 2)
            rings.setdefault(piece[first], []).append(corners)

    # Pieces of one label belong together.
    numbers, places = np.unique(pieces, return_index=True)
    where = dict(zip(numbers.tolist(), places.tolist(), strict=True))
    polygons: dict[int, list] = {}
    for number, polygon in rings.items():
        polygons.setdefault(int(instances.flat[where[int(number)]]), []).append(polygon)
    return sorted(polygons.items())


def _edges(pieces: np.ndarray) -> tuple[np.ndarray, ...]:
    """Piece, row and column of the start, and heading (0 east, 1 south, 2 west, 3 north) of each
    edge, (E,) each.
    """
    height, width = pieces.shape
    around = np.pad(pieces, 1)
    found = []
    # The neighbour across the edge, and where the edge starts, from the pixel.
    sides = (((-1, 0), (0, 0)), ((0, 1), (0, 1)), ((1, 0), (1, 1)), ((0, -1), (1, 0)))
    for heading, ((down, right), (lower, further)) in enumerate(sides):
        beside = around[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        rows, columns = np.nonzero((pieces > 0) & (pieces != beside))
        headings = np.full(len(rows), heading)
        found.append(np.stack([pieces[rows, columns], rows + lower, columns + further, headings]))
    return tuple(np.concatenate(found, axis=1))


def _following(key: np.ndarray, heading: np.ndarray, width: int) -> list[int]:
    """The edge that starts where each edge ends; `key` is sorted and tells piece and start."""
    step = np.array([1, width + 1, -1, -width - 1])  # of the key, by heading
    end = key + step[heading]
    first = np.searchsorted(key, end)

    # Where a piece meets itself at a corner two edges start: to turn left keeps apart what lies
    # outside of it.
    second = np.minimum(first + 1, len(key) - 1)
    left = (key[second] == end) & (heading[second] == (heading - 1) % 4)
    return np.where(left, second, first).tolist()
