"""Pictures of one run: a test image with what was found in it, and how the network learned."""

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s2l_core.config import METHODS, S2LError
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.figures import plotting
from s2l_paper.figures.plotting import (
    BLUE,
    GREEN,
    GREY,
    MONUSEG_NOTE,
    ORANGE,
    PINK,
    RED,
    SKY,
    styled,
)
from s2l_paper.running.kept_masks import kept_images, read_mask

if TYPE_CHECKING:  # only named: the trainer loads the network
    from s2l_paper.running.runs import RunResult

CURVE_COLOURS = {
    "labels": BLUE,
    "pseudo": GREEN,
    "r1": PINK,
    "r4": RED,
    "coverage": SKY,
    "accuracy": GREEN,
}
CURVE_LINES = {"pseudo": "--", "r1": "-.", "r4": ":", "accuracy": "--"}  # besides colours


@styled
def test_image(result: "RunResult", *others: "RunResult") -> Figure:
    """Input, truth and prediction of the first test image whose mask the run kept.

    A picture that says so where nothing was held out for a test.

    Args:
        result: of a finished run.
        others: runs with the same test images, whose predictions stand beside it.
    """
    runs = (result, *others)
    kept = {run.folder: kept_images(run.folder) for run in runs}
    common = [name for name in kept[result.folder] if all(name in files for files in kept.values())]
    if not common and not split_of(result.config).test:
        figure, ((ax,),) = plotting.panels(1, 1, 2.9)
        plotting.write(ax, 0.5, 0.5, "no image was held out for a test", color=GREY)
        return figure
    if not common:
        raise S2LError(
            f"{result.folder}/masks: no picture of a test image. "
            "Delete the run's folder and run it anew."
        )

    (cell,) = images_of(result.config, common[:1])
    monuseg = result.config.dataset == "monuseg"
    bottom = 0.6 if monuseg else 0.3
    figure, axes = plotting.panels(1, 2 + len(runs), 2.9, bottom=bottom)
    figure.run_ids = tuple(run.folder.name for run in runs)

    # Where nobody knows the truth, as in a folder of one's own, the last panel stays empty.
    pictures = {f"input {cell.id[:24]}": plotting.display(cell.image)}
    if cell.instances is not None:
        pictures["truth"] = plotting.colour_instances(cell.instances)
        plotting.legend(figure, 0.5 if monuseg else 0.2)

    for run in runs:
        method = METHODS[run.config.method].label
        mask = read_mask(kept[run.folder][cell.id])
        if cell.instances is None:
            found = plotting.error_map(mask, mask)
            pictures[f"{method} (white: nucleus)"] = found
        else:
            pictures[method] = plotting.error_map(cell.instances, mask)
    for ax, (title, picture) in zip(axes[0], pictures.items(), strict=False):
        ax.imshow(picture)
        ax.set_title(title)
    plotting.foot(figure, MONUSEG_NOTE if monuseg else "")
    return figure


@styled
def learning_curves(steps: pd.DataFrame) -> Figure:
    """Loss terms, pseudo-labels and validation of one run.

    Args:
        steps: rows of `steps.csv`; an empty table (a baseline) gives an empty picture that says so.
    """
    figure = plotting.Picture(figsize=(9, 2.6), layout="constrained")
    scales = [name for name in steps if name[:1] == "r" and name[1:].isdigit()]
    contents = {
        "weighted loss terms": ["labels", "pseudo", *scales],
        "pseudo-labels": ["coverage", "accuracy"],
        "validation IoU (full masks)": ["validation_iou"],
    }
    names = {"labels": "scribbles or masks", "pseudo": "pseudo-labels"}
    names |= {"validation_iou": "mean over images"}
    names |= {name: f"R{name[1:]}x{name[1:]}" for name in scales}
    for ax, (title, columns) in zip(figure.subplots(1, 3), contents.items(), strict=True):
        ax.set(title=title, xlabel="step")
        there = [name for name in columns if name in steps and steps[name].notna().any()]
        if not there:
            plotting.write(ax, 0.5, 0.5, "none in this run", color=GREY)
            ax.set(xticks=[], yticks=[])
            continue
        _draw_curves(ax, steps, {name: names.get(name, name) for name in there})
        _frame_curves(ax, steps, there)
        ax.legend(fontsize=7, frameon=True, framealpha=1)  # white, so that the band shows in it
    return figure


def _draw_curves(ax: Axes, steps: pd.DataFrame, names: dict[str, str]) -> None:
    """Draws columns of `steps.csv`, given with their labels."""
    for column, label in names.items():
        curve = steps.set_index("step")[column].dropna()
        colour = CURVE_COLOURS.get(column, SKY)

        # Losses are noisy, since each step sees other crops: a median over the raw values.
        if "labels" in names:
            ax.plot(curve, color=colour, alpha=0.25, lw=0.6)
            width = max(1, len(curve) // 25)
            curve = curve.rolling(width, center=True, min_periods=1).median()
        look = {"color": colour, "ls": CURVE_LINES.get(column, "-")}
        ax.plot(curve, marker="." if len(curve) < 60 else "", label=label, **look)


def _frame_curves(ax: Axes, steps: pd.DataFrame, columns: list[str]) -> None:
    """Sets the axes of a panel, and marks the warm-up and the best weights."""
    if steps.stage.nunique() == 2:
        end = steps.step[steps.stage == "warm-up"].max()
        ax.axvspan(0, end, color="#EEEEEE", zorder=0, label="warm-up")
    ax.set_xlim(0, steps.step.max())
    if "labels" in columns:
        ax.set_yscale("log")
    else:
        ax.set_ylim(top=min(1.0, ax.get_ylim()[1]))
    if columns == ["validation_iou"]:
        best = steps.loc[steps.validation_iou.idxmax()]
        ax.plot(best.step, best.validation_iou, "D", color=ORANGE, label="best weights")
