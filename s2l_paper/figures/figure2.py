"""Fig. 2 from committed runs; `figure2_windows` chooses what a row of it shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from s2l_core.config import METHODS, RunConfig, S2LError, check_choice
from s2l_core.metrics import iou
from s2l_core.profiles import DATASETS
from s2l_paper import paths
from s2l_paper.figures import plotting
from s2l_paper.figures.figure2_windows import (
    FEWEST_NUCLEI,
    FIGURE2_METHODS,
    RIM,
    WINDOW,
    best_view,
    count_searched,
    marks,
)
from s2l_paper.figures.plotting import GREY, MARK, MONUSEG_NOTE, styled
from s2l_paper.running import results
from s2l_paper.running.kept_masks import first_runs
from s2l_paper.tables import table1

FIGURE2_RULE = f"""\
Searched for a window: those images of the first test part that all runs kept a prediction of, \
{{searched}}.
Shown: the window \
(at most {WINDOW} pixels wide, with {FEWEST_NUCLEI} nuclei or more) \
with the most pairs of methods of which one is right and one wrong, \
in areas at least {RIM} pixels wide.
Arrow: the largest such area outside nuclei, found by some methods only. \
Circle: the largest inside nuclei, \
missed by some only. IoU and mDice (official) are of the whole image."""
PIXEL_SIZE = {"monuseg": 0.25}  # micrometres, at 40x (Kumar et al. 2017); DSB does not say
BAR = 20.0, 50  # length of the scale bar in micrometres, or in pixels where their size is unknown


@styled
def figure2(profile: str, datasets: Sequence[str] | None = None) -> Figure:
    """Fig. 2 of Oh et al. 2022 from a profile's runs, by the rule of `FIGURE2_RULE`;
    its fold is the first with a run.

    Args:
        profile: a name in PROFILES.
        datasets: names in DATASETS, a row each; None takes all that have a run.

    Raises:
        S2LError: no run at all, an unknown name, or images that are not at hand.
    """
    for name in datasets or ():
        check_choice("datasets", name, DATASETS)
    runs = {name: first_runs(profile, name, FIGURE2_METHODS) for name in datasets or DATASETS}
    if not any(runs.values()):
        again = f"make reproduce PROFILE={profile}"
        raise S2LError(f"{paths.results(profile)}: no finished run. Make them: {again}")

    # A data set that was asked for has a row even where nothing has run.
    rows = [name for name in runs if datasets or runs[name]]
    monuseg = "monuseg" in rows
    bottom = 0.91 if monuseg else 0.69
    figure, axes = plotting.panels(len(rows), 7, 1.45, below=0.3, left=0.46, bottom=bottom)
    shown = [config for found in runs.values() for config in found.values()]
    figure.run_ids = tuple(map(results.run_id, shown))
    figure.scores = {}  # what is printed, by run and image
    counts = []
    for row, name in zip(axes, rows, strict=True):
        config = RunConfig(name, "s2l", profile=profile)
        counts.append(f"{count_searched(runs[name], config)} on {results.data_label(config)}")
        _figure2_row(row, runs[name], config)

    titles = ["input", "truth, per nucleus", *(METHODS[name].label for name in FIGURE2_METHODS)]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    plotting.legend(figure, 0.83 if monuseg else 0.61)
    rule = FIGURE2_RULE.format(searched=", ".join(counts))
    plotting.foot(figure, rule + (f"\n{MONUSEG_NOTE}" if monuseg else ""))
    return figure


def _figure2_row(axes: np.ndarray, configs: dict[str, RunConfig], config: RunConfig) -> None:
    """Draws one data set: input, truth, and every method that has run.

    Args:
        axes: (7,).
        configs: method -> finished run.
        config: any run of the data set, for its images and its label.
    """
    folders = {name: results.folder_of(config) for name, config in configs.items()}
    view = best_view(folders, config)
    window, truth = view.window, view.cell.instances
    side = window[0].stop - window[0].start

    # Beside the row: the data set, and in small print where in which image the window lies.
    among = f"chosen among {count_searched(configs, config)} test images"
    corner = f"{view.cell.id[:18]} at {window[0].start}, {window[1].start}\n{among}"
    for x, text, size in ((-0.2, results.data_label(config), 9), (-0.08, corner, 5.5)):
        plotting.write(axes[0], x, 0.5, text, fontsize=size, rotation=90)

    pictures = {0: plotting.display(view.cell.image), 1: plotting.colour_instances(truth)}
    for place, name in enumerate(FIGURE2_METHODS, 2):
        if name not in view.masks:
            axes[place].text(
                0.5, 0.5, "not run", color=GREY, ha="center", transform=axes[place].transAxes
            )
            continue
        pictures[place] = plotting.error_map(truth, view.masks[name])
        inside = iou(truth[window] > 0, view.masks[name][window])
        print_scores(axes[place], folders[name], view.cell.id, config.selection, inside)

    draw_bar(axes[0], config.dataset, side)

    # Marks on everything but the truth, whose colours would hide them.
    found = marks(view.strength[:, *window])
    for place, picture in pictures.items():
        axes[place].imshow(picture[window])
        if place == 1:
            continue
        for mark in found:
            _draw_mark(axes[place], *mark, side=side)


def draw_bar(ax: Axes, dataset: str, side: int) -> None:
    """Draws a scale bar into a window `side` pixels wide: in micrometres where they are known."""
    micrometres, pixels = BAR
    text = f"{pixels} px"
    if dataset in PIXEL_SIZE:
        pixels, text = micrometres / PIXEL_SIZE[dataset], f"{micrometres:.0f} µm"
    start, height = 0.05 * side, 0.94 * side
    edge = [withStroke(linewidth=3, foreground="black")]
    ax.plot([start, start + pixels], [height, height], color="white", lw=2, path_effects=edge)
    look = {"color": "white", "fontsize": 6.5, "ha": "center", "va": "bottom"}
    ax.text(start + pixels / 2, height - 0.02 * side, text, path_effects=edge, **look)


def print_scores(
    ax: Axes, folder: Path, image: str, selection: str, inside: float | None = None
) -> None:
    """Prints the scores of an image below its picture, and notes them in the figure; in a second
    line the IoU `inside` the window, which only the masks give.
    """
    scores = results.read_run(folder)[0]
    rows = scores[scores.image == image].set_index("checkpoint")
    row = rows.loc[results.shown_checkpoint(selection, rows.index)]
    text = table1.image_scores(row)
    ax.figure.scores[f"{folder.name}/{image}"] = text
    if inside is not None:
        text += f"\nwindow: IoU {inside:.2f}"
    plotting.write_below(ax, text)


def _draw_mark(ax: Axes, kind: str, place: tuple[float, float], radius: float, side: int) -> None:
    """Draws an arrow or a circle at (row, column) of a window `side` pixels wide."""
    edge = [withStroke(linewidth=2.5, foreground="black")]
    if kind == "circle":
        ax.add_patch(Circle(place[::-1], radius, fill=False, color=MARK, lw=1.2, path_effects=edge))
        return

    # The tail lies towards the middle of the picture, so that it fits in.
    inwards = side / 2 - np.array(place) + 1e-6
    tail = place + inwards / np.hypot(*inwards) * 0.2 * side
    look = {
        "arrowstyle": "-|>,head_width=0.2,head_length=0.4",
        "color": MARK,
        "lw": 1.2,
        "path_effects": edge,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", place[::-1], tail[::-1], arrowprops=look)
