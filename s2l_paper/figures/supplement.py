"""The supplement to Fig. 2: an easy, a middling and a hard test image next to all methods."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from scipy import ndimage

from s2l_core.config import METHODS, RunConfig, S2LError
from s2l_core.images import CellImage
from s2l_core.metrics import iou
from s2l_core.profiles import DATASETS
from s2l_paper.data.datasets import images_of
from s2l_paper.figures import plotting
from s2l_paper.figures.figure2 import draw_bar, print_scores
from s2l_paper.figures.figure2_windows import RIM, best_window, nucleus_centres
from s2l_paper.figures.plotting import GREY, MARK, MONUSEG_NOTE, styled
from s2l_paper.running import results
from s2l_paper.running.kept_masks import first_runs, kept_images, read_mask

PANELS_IN_A_LINE = 6  # the first three are the image, the window of it and the truth
SIDE = 192  # of the window in pixels
NUCLEI = 5  # that a window holds at least, where an image has a window with so many
PANEL, GAP = 1.75, 0.05  # side of a panel and the space beside it, in inches
HEADING, ABOVE, BELOW = 0.3, 0.2, 0.32  # inches above a block, and above and below each panel
RULE = f"""\
Rule: of the test images whose prediction all of these runs kept (where there is none: more than \
half of them), those with the highest, the median and the lowest IoU, averaged over the methods.
Window: the square of {SIDE} pixels (green in the whole image) with {NUCLEI} nuclei or more and \
the most wrong pixels, summed over the methods, in areas at least {RIM} pixels wide.
IoU and mDice (official) are of the whole image; the second line has the IoU within the window. \
First fold with runs, weights as in Table 1."""


@dataclass(frozen=True)
class _Run:
    """A finished run as this page needs it.

    Attributes:
        scores: of each test image, by its id, with the weights that Table 1 shows.
        kept: test image -> file of its mask.
    """

    config: RunConfig
    folder: Path
    scores: pd.DataFrame
    kept: dict[str, Path]


@styled
def worst_errors(profile: str, dataset: str) -> Figure:
    """Three test images, each beside what every method predicts, cropped around the worst error.

    Args:
        profile: a name in PROFILES.
        dataset: a name in DATASETS.

    Raises:
        S2LError: no finished run on this data set, runs that kept no picture of the same image,
            or images that are not at hand.
    """
    runs = _finished(profile, dataset)
    chosen = _choose(runs, dataset)
    places = dict.fromkeys(chosen.values())  # with few test images one may be best and median
    cells = {cell.id: cell for cell in images_of(next(iter(runs.values())).config, list(places))}

    # A foot with the rule and what has not run; its lines decide how high it is.
    foot = _foot(runs, dataset)
    bottom = 0.45 + 0.115 * (1 + foot.count("\n"))
    figure, blocks = _layout(len(places), 3 + len(runs), bottom)
    figure.run_ids, figure.scores = tuple(run.folder.name for run in runs.values()), {}

    mean = _mean_iou(runs)
    for block, image in zip(blocks, places, strict=True):
        names = " and ".join(name for name, other in chosen.items() if other == image)
        rank = 1 + int((mean > mean[image]).sum())
        title = f"{names.capitalize()} of those kept: {image[:23]}, mean IoU of the methods "
        title += f"{mean[image]:.2f}, rank {rank} of {len(mean)} test images"
        left, top = block[0].get_position().x0, block[0].get_position().y1
        above = top + 0.25 / figure.get_figheight()
        figure.text(left, above, title, fontsize=9, weight="bold")
        _draw_block(block, cells[image], runs)
    plotting.legend(figure, bottom - 0.2)
    plotting.foot(figure, foot)
    return figure


def _layout(blocks: int, panels: int, bottom: float) -> tuple[plotting.Picture, np.ndarray]:
    """A figure with a block of square panels for each image, and its axes (blocks, panels).

    Args:
        blocks: how many images.
        panels: how many pictures each of them has.
        bottom: space below everything, in inches.
    """
    lines = math.ceil(panels / PANELS_IN_A_LINE)
    pitch = PANEL + ABOVE + BELOW  # of one line, with its titles and scores
    height = bottom + blocks * (HEADING + lines * pitch)
    width = PANELS_IN_A_LINE * (PANEL + GAP) + GAP
    figure = plotting.Picture(figsize=(width, height))

    axes = np.empty((blocks, panels), object)
    for block, panel in np.ndindex(blocks, panels):
        line, column = divmod(panel, PANELS_IN_A_LINE)
        top = block * (HEADING + lines * pitch) + HEADING + line * pitch + ABOVE
        left, low = GAP + column * (PANEL + GAP), height - top - PANEL
        place = left / width, low / height, PANEL / width, PANEL / height
        axes[block, panel] = figure.add_axes(place, anchor="N")
        axes[block, panel].set_axis_off()
    return figure, axes


def possible(profile: str) -> list[str]:
    """The data sets of a profile that have a page: those with a finished run of the usual seed."""
    return [name for name in DATASETS if first_runs(profile, name, tuple(METHODS))]


def _finished(profile: str, dataset: str) -> dict[str, _Run]:
    """Method -> its run on the first fold that has any."""
    found = {}
    for method, config in first_runs(profile, dataset, tuple(METHODS)).items():
        folder = results.folder_of(config)
        scores = results.read_run(folder)[0]
        selection = results.shown_checkpoint(config.selection, scores.checkpoint)
        scores = scores[scores.checkpoint == selection].set_index("image")
        found[method] = _Run(config, folder, scores, kept_images(folder))
    if not found:
        again = f"make reproduce PROFILE={profile} DATASETS={dataset}"
        raise S2LError(f"{dataset}: no finished run. Make one: {again}")
    return found


def _mean_iou(runs: dict[str, _Run]) -> pd.Series:
    """IoU of each test image, averaged over methods."""
    return pd.concat([run.scores.iou for run in runs.values()], axis=1).mean(axis=1)


def _choose(runs: dict[str, _Run], dataset: str) -> dict[str, str]:
    """`best`, `median` and `worst` -> the image, among those that all runs kept, or most."""
    counts = pd.Series([image for run in runs.values() for image in run.kept]).value_counts()
    common = set(counts[counts == len(runs)].index) or set(counts[counts > len(runs) / 2].index)
    if not common:
        again = "Delete their folders and run them anew: new runs keep such pictures"
        raise S2LError(f"{dataset}: its runs kept no mask of a common image. {again}.")
    return extremes({image: _mean_iou(runs)[image] for image in common})


def extremes(iou: Mapping[str, float]) -> dict[str, str]:
    """`best`, `median` and `worst` -> the image, from image id -> IoU;
    equal scores are told apart by id.
    """
    ordered = sorted(iou, key=lambda name: (iou[name], name))
    places = {"best": -1, "median": len(ordered) // 2, "worst": 0} if ordered else {}
    return {name: ordered[place] for name, place in places.items()}


def _foot(runs: dict[str, _Run], dataset: str) -> str:
    """The rule, the methods that have no run, and whose images these are."""
    text = RULE
    if absent := [METHODS[name].label for name in METHODS if name not in runs]:
        text += f"\nNo finished run yet, hence not shown: {', '.join(absent)}."
    return text + (f"\n{MONUSEG_NOTE}" if dataset == "monuseg" else "")


def _draw_block(axes: np.ndarray, cell: CellImage, runs: dict[str, _Run]) -> None:
    """Draws one image: the whole, the window, the truth in it, and every method.

    Args:
        axes: (3 + methods,), in reading order.
        cell: with its instances.
        runs: by method.
    """
    masks = {
        name: read_mask(run.kept[cell.id]) for name, run in runs.items() if cell.id in run.kept
    }
    window = _worst_window(cell.instances, list(masks.values()))
    _draw_input(axes[:3], cell, window, next(iter(runs.values())).config.dataset)

    for ax, (name, run) in zip(axes[3:], runs.items(), strict=True):
        ax.set_title(METHODS[name].label)
        if name not in masks:
            plotting.write(ax, 0.5, 0.5, "prediction not kept", color=GREY)
            print_scores(ax, run.folder, cell.id, run.config.selection)
            continue
        ax.imshow(plotting.error_map(cell.instances, masks[name])[window])
        inside = iou(cell.instances[window] > 0, masks[name][window])
        print_scores(ax, run.folder, cell.id, run.config.selection, inside)


def _worst_window(truth: np.ndarray, masks: list[np.ndarray]) -> tuple[slice, slice]:
    """The rows and columns of the window with the most wrong pixels, summed over methods."""
    wrong = sum((mask != (truth > 0)).astype(int) for mask in masks)

    # The opening drops the thin rims along outlines, which every prediction has.
    wrong = ndimage.grey_opening(wrong, (RIM, RIM))
    return best_window(wrong, SIDE, nucleus_centres(truth), NUCLEI)[1]


def _draw_input(
    axes: np.ndarray, cell: CellImage, window: tuple[slice, slice], dataset: str
) -> None:
    """Draws the whole image with the window outlined, the window, and the truth in it."""
    whole, part, truth = axes
    picture = plotting.display(cell.image)
    whole.imshow(picture)
    whole.set_title("whole image")
    _outline(whole, window)

    part.imshow(picture[window])
    part.set_title("window")
    draw_bar(part, dataset, window[0].stop - window[0].start)
    truth.imshow(plotting.colour_instances(cell.instances)[window])
    truth.set_title("truth, per nucleus")
    nuclei = np.unique(cell.instances[window])
    plotting.write_below(truth, f"nuclei here: {(nuclei > 0).sum()}")


def _outline(ax: Axes, window: tuple[slice, slice]) -> None:
    """Draws the frame of a window into the whole image."""
    rows, columns = window
    size = columns.stop - columns.start, rows.stop - rows.start
    corner = columns.start - 0.5, rows.start - 0.5
    edge = [withStroke(linewidth=3, foreground="black")]
    look = {"color": MARK, "lw": 1.5, "path_effects": edge, "clip_on": False}
    ax.add_patch(Rectangle(corner, *size, fill=False, **look))
