"""The search for what a row of Fig. 2 shows: the test image and the window in it that tell methods
apart most, and the places of arrows and circles.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from s2l_core.config import RunConfig, S2LError
from s2l_core.images import CellImage
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.running import results
from s2l_paper.running.kept_masks import kept_images, read_mask

FIGURE2_METHODS = ("supervised", "s2l", "s2l-r1", "s2l-r4", "s2l-r1-r4")
WINDOW = 256  # side of what a row of Fig. 2 shows, in pixels
FEWEST_NUCLEI = 15  # nuclei that a window holds, where an image has a window with so many
RIM = 5  # narrower disagreement, as along every outline, neither chooses a window nor gets a mark


@dataclass(frozen=True)
class View:
    """A test image, what methods say of it, and the window of it that tells them apart most.

    Attributes:
        cell: the image with its truth.
        masks: method -> (H, W) bool, what it called nucleus.
        strength: (2, H, W), see `disagreement`.
        total: sum of `strength` in the window.
        window: its rows and columns.
        nuclei: how many have their centre in the window.
    """

    cell: CellImage
    masks: dict[str, np.ndarray]
    strength: np.ndarray
    total: int
    window: tuple[slice, slice]
    nuclei: int


def searched(folders: Iterable[Path], config: RunConfig) -> tuple[list[str], int]:
    """The test images among which Fig. 2 chooses, and how many test images there are.

    Args:
        folders: of the runs; without a run the first test image is shown.
        config: any run of the data set.
    """
    tested = split_of(config).test
    kept = [set(kept_images(folder)) for folder in folders]
    common = set.intersection(*kept) if kept else set(tested[:1])
    return sorted(common), len(tested)


def count_searched(configs: dict[str, RunConfig], config: RunConfig) -> str:
    """Among how many of all test images a row of Fig. 2 was chosen, such as "5 of 109".

    Args:
        configs: method -> finished run.
        config: any run of the data set.
    """
    folders = [results.folder_of(c) for c in configs.values()]
    images, tested = searched(folders, config)
    return f"{len(images)} of {tested}"


def best_view(folders: dict[str, Path], config: RunConfig) -> View:
    """Of all test images whose mask every run kept, the one methods differ on most.

    Args:
        folders: method -> folder of its run.
        config: any run of the data set, for its images.

    Raises:
        S2LError: no image whose mask all runs kept, or images that are not at hand.
    """
    common, _ = searched(folders.values(), config)

    # The window of every such image; what is not the best so far is let go.
    kept, best = {name: kept_images(folder) for name, folder in folders.items()}, None
    for cell in images_of(config, common):
        masks = {name: read_mask(files[cell.id]) for name, files in kept.items()}
        strength = disagreement(cell.instances, list(masks.values()))
        centres = nucleus_centres(cell.instances)
        total, window = best_window(strength.sum(0), centres=centres)
        view = View(cell, masks, strength, total, window, int(centres[window].sum()))
        if best is None or _rank(view) > _rank(best):
            best = view
    if best is None:
        again = "Delete their folders and run them anew: new runs keep such pictures"
        raise S2LError(f"{config.dataset}: its runs kept no mask of a common image. {again}.")
    return best


def _rank(view: View) -> tuple[bool, int]:
    """Where methods differ most may be an empty blur: windows with enough nuclei come first."""
    return view.nuclei >= FEWEST_NUCLEI, view.total


def disagreement(truth: np.ndarray, predictions: Sequence[np.ndarray]) -> np.ndarray:
    """How strongly methods differ from each other and from the truth; no method counts more.

    Args:
        truth: (H, W) instances.
        predictions: (H, W) bool masks, one for each method.

    Returns:
        (2, H, W), outside and inside nuclei: the pairs of methods of which one is right and the
        other wrong at a pixel, after a grey opening by `RIM`. All 0 for fewer than two methods.
    """
    nuclei = truth > 0
    wrong = np.zeros(truth.shape, int)
    for mask in predictions:
        wrong += mask != nuclei
    pairs = wrong * (len(predictions) - wrong)

    # The opening drops the thin rims along outlines, where methods always differ a little.
    outside, inside = np.where(nuclei, 0, pairs), np.where(nuclei, pairs, 0)
    return np.stack([ndimage.grey_opening(part, (RIM, RIM)) for part in (outside, inside)])


def best_window(
    strength: np.ndarray,
    side: int = WINDOW,
    centres: np.ndarray | None = None,
    fewest: int = FEWEST_NUCLEI,
) -> tuple[int, tuple[slice, slice]]:
    """The square with the largest sum of `strength`, among those with enough nuclei if there are
    any.

    Args:
        strength: (H, W).
        side: of the square in pixels; a shorter side of the image is taken instead.
        centres: (H, W) with a 1 at each nucleus's centre; None: every square may be taken.
        fewest: nuclei that are enough.

    Returns:
        The sum, and the rows and columns of the square.
    """
    side = min(side, *strength.shape)
    sums = _sums_of_squares(strength, side)  # (H - side + 1, W - side + 1)
    allowed = sums
    if centres is not None:
        nuclei = _sums_of_squares(centres, side)
        if (nuclei >= fewest).any():
            allowed = np.where(nuclei >= fewest, sums, -1)
    row, column = map(int, np.unravel_index(allowed.argmax(), sums.shape))
    return int(sums[row, column]), np.s_[row : row + side, column : column + side]


def _sums_of_squares(values: np.ndarray, side: int) -> np.ndarray:
    """The sum of (H, W) over every square, by its first corner: (H - side + 1, W - side + 1)."""
    # Sums over all rectangles that begin at the image's corner, (H + 1, W + 1), give that of each.
    sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]


def nucleus_centres(truth: np.ndarray) -> np.ndarray:
    """(H, W) int with a 1 at the centre of mass of each nucleus."""
    labels = np.unique(truth[truth > 0])
    found = np.zeros(truth.shape, int)
    for row, column in ndimage.center_of_mass(truth > 0, truth, labels):
        found[int(row), int(column)] += 1
    return found


def marks(strength: np.ndarray) -> list[tuple[str, tuple[float, float], float]]:
    """Places of Fig. 2's marks: the 8-connected area of largest sum of each kind of disagreement.

    Args:
        strength: (2, H, W), outside and inside nuclei.

    Returns:
        (`arrow` outside or `circle` inside nuclei, its (row, column), radius around the area), in
        pixels. An arrow points at the area's innermost pixel, a circle lies around the area.
    """
    found = []
    for kind, values in zip(("arrow", "circle"), strength, strict=True):
        areas, count = ndimage.label(values > 0, np.ones((3, 3)))
        if not count:
            continue
        sums = ndimage.sum_labels(values, areas, range(1, count + 1))
        largest = areas == 1 + sums.argmax()
        pixels = np.argwhere(largest)  # (n, 2)
        radius = float(np.ptp(pixels, axis=0).max() / 2 + 5)

        place = (pixels.min(0) + pixels.max(0)) / 2
        if kind == "arrow":
            depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
            place = np.unravel_index(depth.argmax(), depth.shape)
        row, column = map(float, place)
        found.append((kind, (row, column), radius))
    return found
