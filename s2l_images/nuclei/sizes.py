"""How small a nucleus may be: a smallest size from what was drawn, and what is dropped by it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from s2l_core.config import S2LError
from s2l_core.metrics import EIGHT, MIN_COMPONENT, instances
from s2l_images.folders.folder import read_folder
from s2l_images.folders.listing import sound
from s2l_images.nuclei.split import DISC

SHARE_OF_SMALLEST = 1 / 3  # of the smallest nucleus drawn: others may be smaller still
SHARE_OF_USUAL = 0.2  # of a usual nucleus: chosen on training images, six forests of each data set
STRAY = 5  # percent of nuclei or strokes that may be slips of the pen, where there are more than 20
MOST_IMAGES = 20  # that are looked at
NOISE = 30  # pixels: a hole of fewer is filled, whatever the size of nuclei


def suggested_min_size(drawn: np.ndarray) -> int | None:
    """The least pixels of an object that is worth keeping: a third of the smallest nucleus drawn.

    Args:
        drawn: (H, W). Instances (int32), of which those cut by the border count only where there
            are no others; or scribbles (uint8 of 0, 1 and IGNORE). A nucleus is no smaller than the
            stroke on it, so the smallest connected piece of foreground stands for the smallest
            nucleus.

    Returns:
        1 or more; None where no nucleus is drawn.
    """
    if drawn.dtype == np.uint8:
        pieces, count = ndimage.label(drawn == 1, EIGHT)
        sizes = np.bincount(pieces.ravel())[1:]
    else:
        labels, sizes = np.unique(drawn[drawn > 0], return_counts=True)
        border = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
        whole = ~np.isin(labels, border)
        sizes = sizes[whole] if whole.any() else sizes
    if not len(sizes):
        return None
    smallest = np.percentile(sizes, STRAY, method="lower")
    return max(1, round(SHARE_OF_SMALLEST * float(smallest)))


def folder_min_size(folder: Path) -> int | None:
    """`suggested_min_size` of a folder of one's own: the least over its masks, or without any over
    its scribbles.

    Returns:
        None where nothing is labelled.

    Raises:
        Fault: see `read_folder`.
    """
    listing = sound(folder)
    sizes = []
    for image in (listing.masked or listing.scribbled)[:MOST_IMAGES]:
        (cell,) = read_folder(folder, [image])  # one in memory at a time
        drawn = cell.instances if listing.masked else cell.scribbles
        sizes.append(None if drawn is None else suggested_min_size(drawn))
    return min((size for size in sizes if size), default=None)


def chosen_min_size(folder: Path, model: Path) -> tuple[int, str]:
    """The smallest size for a folder that nobody chose one for, and where it comes from.

    It follows what is drawn in the folder, else what is drawn in the one where the model was
    trained, else it is that of the released evaluator.
    """
    for place in (Path(folder), Path(model).resolve().parent.parent):
        try:
            size = folder_min_size(place) if (place / "images").is_dir() else None
        except S2LError:  # predicting does not depend on labels, which may be damaged
            size = None
        if size:
            return size, f"a third of the smallest nucleus drawn in {place.name}"
    return MIN_COMPONENT, "nothing is drawn that would tell the size of a nucleus"


def smallest_kept(folder: Path, min_size: int, diameter: float | None) -> int:
    """The smallest size once it is known how wide usual nuclei are: at least a fifth of the area of
    those of the image where they are smallest.

    The smallest stroke says little of the smallest nucleus, and a forest leaves crumbs: without
    this, it counted three and a half objects for each nucleus of bright field. Masks show how small
    nuclei are, and are believed.

    Args:
        folder: of one's own.
        min_size: what `chosen_min_size` says of it, in pixels.
        diameter: `Usual.smallest` in pixels; None or 0: it is not known.
    """
    if not diameter or sound(folder).masked:
        return min_size
    return max(min_size, round(SHARE_OF_USUAL * DISC * diameter**2))


@dataclass(frozen=True)
class Nuclei:
    """What was kept of a prediction.

    Attributes:
        instances: (H, W) int32, 0 is background.
        dropped: objects that were too small, and strips along the image's border.
        holes: that are as large as a nucleus and were left open.
    """

    instances: np.ndarray
    dropped: int
    holes: int


def nuclei(probability: np.ndarray, min_size: int, *, threshold: float = 0.5) -> Nuclei:
    """Instances of a prediction as of `metrics.instances`, but for large holes, with what was left
    out.

    A thin strip along the image's border is an artefact of the filters that end there, or of a dark
    rim, and no nucleus. A hole as large as the smallest nucleus, `min_size` / `SHARE_OF_SMALLEST`,
    or `NOISE` is a lumen or a gap in a ring of nuclei: it stays open, and what lies in it is an
    object of its own.

    Args:
        probability: (H, W) of foreground.
        min_size: the smallest object that stays, in pixels.
        threshold: where foreground begins.
    """
    pieces, _ = ndimage.label(np.asarray(probability) > threshold, EIGHT)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # the background
    large = sizes >= min_size
    dropped = int(np.count_nonzero(sizes[1:] < min_size))

    # What was filled and is no object of its own is a hole, with the specks in it.
    found = instances(probability, threshold=threshold, min_size=min_size)
    holes, _ = ndimage.label((found > 0) & ~large[pieces])
    areas = np.bincount(holes.ravel())
    areas[0] = 0
    wide = areas >= max(NOISE, min_size / SHARE_OF_SMALLEST)
    if wide.any():
        found[wide[holes]] = 0
        found = ndimage.label(found > 0, EIGHT, output=np.int32)[0]

    strips = strips_at_border(found, min_size / SHARE_OF_SMALLEST)
    if strips:
        found[np.isin(found, strips)] = 0
        found = ndimage.label(found > 0, EIGHT, output=np.int32)[0]
        dropped += len(strips)
    return Nuclei(found, dropped, int(wide.sum()))


def strips_at_border(objects: np.ndarray, smallest: float) -> list[int]:
    """Objects that run along the image's border and are too thin for a nucleus that is cut by it.

    One is longer along the border than three of the smallest nuclei, and on average thinner than
    half of one.

    Args:
        objects: (H, W) int, 0 is background.
        smallest: area of the smallest nucleus in pixels.

    Returns:
        Their numbers.
    """
    diameter = float(np.sqrt(smallest / DISC))
    areas = np.bincount(objects.ravel())
    strips = set()
    for line in (objects[0], objects[-1], objects[:, 0], objects[:, -1]):
        lengths = np.bincount(line, minlength=len(areas))
        for number in np.flatnonzero(lengths > 3 * diameter):
            if number and areas[number] / lengths[number] < diameter / 2:
                strips.add(int(number))
    return sorted(strips)
