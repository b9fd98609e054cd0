"""How wide a usual nucleus is: by this width touching nuclei are divided and specks dropped."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2l_core.images import CellImage
from s2l_images.folders.folder import read_folder
from s2l_images.folders.listing import sound
from s2l_images.nuclei.sizes import nuclei
from s2l_images.nuclei.split import areas_at_strokes, usual_diameter

FEWEST_MEASURED = 3  # nuclei that are measured in an image before it counts as one of small nuclei


@dataclass(frozen=True)
class Usual:
    """Diameters in pixels of a usual nucleus.

    Attributes:
        diameter: of all images together.
        smallest: in the image whose nuclei are smallest. Images of different magnification may
            share a folder: what is a speck beside the nuclei of one is a nucleus of another.
    """

    diameter: float
    smallest: float


def usual_nucleus(
    folder: Path,
    ask: Callable[[np.ndarray], np.ndarray],
    *,
    threshold: float = 0.5,
    min_size: int = 64,
) -> Usual:
    """How wide a usual nucleus of a folder is, rounded to halves of a pixel.

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
    return measured_nuclei(
        cells, lambda cell: ask(cell.image), threshold=threshold, min_size=min_size
    )


def measured_nuclei(
    cells: Iterable[CellImage],
    answer: Callable[[CellImage], np.ndarray],
    *,
    threshold: float = 0.5,
    min_size: int = 64,
) -> Usual:
    """As `usual_nucleus`, of images.

    Args:
        cells: where one has a mask, masks alone count; else those with scribbles.
        answer: foreground probability (H, W) of an image.
        threshold: foreground is above it.
        min_size: the smallest object that is looked at, in pixels.

    Raises:
        S2LError: as `usual_nucleus`.
    """
    masks: list[int] = []  # areas of nuclei
    at_strokes = []  # of each image: areas of objects with one stroke, and with several
    for cell in cells:
        if cell.instances is not None:
            masks += np.unique(cell.instances[cell.instances > 0], return_counts=True)[1].tolist()
        elif cell.scribbles is not None:
            objects = nuclei(answer(cell), min_size, threshold=threshold).instances
            at_strokes.append(areas_at_strokes(objects, cell.scribbles))

    # An object with two strokes on it is mostly two nuclei that touch.
    single = [area for of_one, _ in at_strokes for area in of_one]
    several = [area for _, of_several in at_strokes for area in of_several]
    diameter = _rounded(usual_diameter(np.array(masks or single or several)))
    if masks:
        return Usual(diameter, diameter)
    by_image = [
        _rounded(usual_diameter(np.array(of_one)))
        for of_one, _ in at_strokes
        if len(of_one) >= FEWEST_MEASURED
    ]
    return Usual(diameter, min([diameter, *by_image]))


def _rounded(diameter: float) -> float:
    """To halves of a pixel, 2 or more."""
    return max(2.0, round(2 * diameter) / 2)
