"""Touching nuclei told apart, in pictures: where it helps most, and where it does harm."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s2l_core.config import METHODS, RunConfig, S2LError
from s2l_core.metrics import instances
from s2l_images.nuclei.split import Split, divided
from s2l_paper import paths
from s2l_paper.comparing import apart
from s2l_paper.data.datasets import images_of
from s2l_paper.figures import plotting
from s2l_paper.figures.figure2 import draw_bar
from s2l_paper.figures.figure2_windows import best_window
from s2l_paper.figures.plotting import MONUSEG_NOTE, styled
from s2l_paper.running import results
from s2l_paper.running.kept_masks import kept_images, read_mask

SIDE = 192  # of the window, in pixels
RULE = f"""\
Rule: of all pairs of a run and a test image whose mask is kept, for each data set the one whose F1
rises most and the one whose F1 falls most, if there is one.
Window: the square of {SIDE} pixels in which most pixels changed their object. Colours tell \
objects apart and mean nothing else."""


def measured(profile: str) -> bool:
    """Whether there is anything to show."""
    return bool((_pictured(profile)[0].change != 0).any())


@styled
def gains_and_losses(profile: str) -> Figure:
    """Two test images of each data set: where a split helps most, and where it harms most.

    Args:
        profile: a name in PROFILES.

    Raises:
        S2LError: nothing was measured, or no mask of it is kept; images that are not at hand.
    """
    found, configs = _pictured(profile)
    rows = []
    for _, own in found.groupby("dataset", sort=False):
        gain, loss = own.loc[own.change.idxmax()], own.loc[own.change.idxmin()]
        rows += [gain] if gain.change > 0 else []
        rows += [loss] if loss.change < 0 else []
    if not rows:
        again = f"Measure it: s2l apart {profile}"
        raise S2LError(f"{paths.apart(profile)}: no kept mask whose F1 changes. {again}")

    monuseg = any(row.dataset == "monuseg" for row in rows)
    bottom = 0.75 if monuseg else 0.55
    figure, axes = plotting.panels(len(rows), 4, 2.1, bottom=bottom, left=0.3, below=0.25)
    figure.run_ids = tuple(dict.fromkeys(row.run_id for row in rows))
    for line, row in zip(axes, rows, strict=True):
        _draw_row(line, row, configs[row.run_id])
    for ax, title in zip(axes[0], ("input", "truth", "left together", "told apart"), strict=True):
        ax.set_title(title)
    plotting.foot(figure, RULE + (f"\n{MONUSEG_NOTE}" if monuseg else ""))
    return figure


def _pictured(profile: str) -> tuple[pd.DataFrame, dict[str, RunConfig]]:
    """The measured pairs whose mask is kept, with their `dataset` and `change` of F1; the runs."""
    configs = {results.run_id(config): config for config in results.finished(profile)}
    found = apart.measured(profile)
    found = found[(found.spacing != apart.TOGETHER) & found.run_id.isin(list(configs))]
    kept = {
        run_id: set(kept_images(paths.run_folder(profile, run_id)))
        for run_id in found.run_id.unique()
    }
    there = [row.image in kept[row.run_id] for row in found.itertuples()]
    found = found[np.array(there, bool)]
    return found.assign(
        dataset=[configs[run_id].dataset for run_id in found.run_id],
        change=found.f1_apart - found.f1_together,
    ), configs


def _draw_row(axes: np.ndarray, row: pd.Series, config: RunConfig) -> None:
    """Draws input, truth and the objects of one image before and after.

    Args:
        axes: (4,).
        row: of `apart.csv`.
        config: of the run.
    """
    (cell,) = images_of(config, [row.image])
    files = kept_images(results.folder_of(config))
    objects = instances(read_mask(files[row.image]))
    pieces = divided(objects, row.diameter, Split(row.spacing, row.smoothing))

    # A piece that keeps its object's largest part did not change; the others did.
    changed = (objects > 0) & ~_largest_pieces(objects, pieces)
    _, window = best_window(changed.astype(int), SIDE)
    plotting.write(axes[0], -0.08, 0.5, results.data_label(config), fontsize=9, rotation=90)
    axes[0].imshow(plotting.display(cell.image)[window])
    draw_bar(axes[0], config.dataset, window[0].stop - window[0].start)
    for ax, labels in zip(axes[1:], (cell.instances, objects, pieces), strict=True):
        ax.imshow(plotting.colour_instances(labels[window]))

    method = METHODS[config.method].label
    plotting.write_below(axes[1], f"{row.image[:23]}")
    plotting.write_below(axes[2], f"{method}: F1 {row.f1_together:.2f}, AJI {row.aji_together:.2f}")
    plotting.write_below(axes[3], f"F1 {row.f1_apart:.2f}, AJI {row.aji_apart:.2f}")


def _largest_pieces(objects: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Where the largest piece of each object lies: (H, W) bool."""
    pairs = pd.DataFrame({"object": objects[objects > 0], "piece": pieces[objects > 0]})
    sizes = pairs.value_counts().reset_index()  # largest first
    return np.isin(pieces, sizes.drop_duplicates("object").piece)
