"""How wide a usual nucleus is, by which touching ones are told apart."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from s2l_core.images import CellImage
from s2l_images.folder import read_folder
from s2l_images.listing import sound
from s2l_images.sizes import nuclei
from s2l_images.split import diameter_at_strokes, usual_diameter


def usual_nucleus(
    folder: Path,
    ask: Callable[[np.ndarray], np.ndarray],
    *,
    threshold: float = 0.5,
    min_size: int = 64,
) -> float:
    """Diameter in pixels of a usual nucleus of a folder, rounded to halves.

    Args:
        folder: its masks are measured; where it has none, the objects of the answer that carry a
            foreground stroke.
        ask: image (H, W, 3) uint8 -> foreground probability (H, W).
        threshold: foreground is above it.
        min_size: the smallest object that is looked at, in pixels.

    Raises:
        S2LError: there are neither masks nor objects under strokes.
    """
    listing = sound(folder)
    names = listing.masked or listing.scribbled
    cells = (read_folder(folder, [name])[0] for name in names)  # one in memory at a time
    return measured_diameter(
        cells, lambda cell: ask(cell.image), threshold=threshold, min_size=min_size
    )


def measured_diameter(
    cells: Iterable[CellImage],
    answer: Callable[[CellImage], np.ndarray],
    *,
    threshold: float = 0.5,
    min_size: int = 64,
) -> float:
    """As `usual_nucleus`, of images.

    Args:
        cells: where one has a mask, masks alone count; else those with scribbles.
        answer: foreground probability (H, W) of an image.
        threshold: foreground is above it.
        min_size: the smallest object that is looked at, in pixels.

    Raises:
        S2LError: as `usual_nucleus`.
    """
    areas: list[int] = []
    objects, scribbles = [], []
    for cell in cells:
        if cell.instances is not None:
            areas += np.unique(cell.instances[cell.instances > 0], return_counts=True)[1].tolist()
        elif cell.scribbles is not None:
            objects.append(nuclei(answer(cell), min_size, threshold=threshold).instances)
            scribbles.append(cell.scribbles)
    if areas:
        diameter = usual_diameter(np.array(areas))
    else:
        diameter = diameter_at_strokes(objects, scribbles)
    return max(2.0, round(2 * diameter) / 2)
