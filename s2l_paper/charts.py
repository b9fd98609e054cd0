"""What many runs came to, drawn: scores, validation while training, readings of the paper,
the effort of drawing.
"""

import itertools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s2l_core.config import METHODS
from s2l_paper import paths, plotting, results, table1
from s2l_paper.plotting import BLUE, GREEN, GREY, ORANGE, PINK, RED, styled
from s2l_paper.sensitivity import BUDGETS, DEFAULT, DRAWN, SCORES
from s2l_paper.statistics import ALPHA

COLOURS = {
    "s2l": BLUE,
    "s2l-r1": PINK,
    "s2l-r4": ORANGE,
    "s2l-r1-r4": RED,
    "supervised": GREEN,
    "scribble-only": GREY,
}
WHILE_TRAINING = {
    "validation_iou": "validation IoU (full masks)",
    "wrong": "wrong pseudo-labels (share)",
}


@styled
def ablation_bars(runs: pd.DataFrame) -> Figure:
    """IoU and mDice of every method and data set: a dot for each test image, the mean,
    and the paper's value.

    Args:
        runs: as given by `results.load_runs`; the checkpoint that Table 1 shows is drawn.
    """
    runs = runs[runs.shown]
    means, sets = table1.summary(runs).set_index(["data", "method"]), list(dict.fromkeys(runs.data))
    methods = [name for name in METHODS if name in set(runs.method)]
    figure = plotting.Picture(
        figsize=(9, (0.24 * len(methods) + 0.45) * len(sets) + 0.4), layout="constrained"
    )
    figure.run_ids = tuple(sorted(runs.run_id.unique()))
    grid = figure.subplots(len(sets), 2, squeeze=False, sharey=True, sharex=True)
    for index, ax in enumerate(grid.flat):
        data, place = sets[index // 2], 1 - index % 2  # the paper gives mDice first
        score, title = (("mdice_official", "mDice"), ("iou", "IoU"))[place]
        for row, method in enumerate(methods):
            here = runs[(runs.data == data) & (runs.method == method)]
            if here.empty:
                ax.text(0.01, row, "not run", color=GREY, va="center", fontsize=7)
                continue
            spread = (
                np.arange(len(here)) * 0.618 % 1 - 0.5
            ) / 2  # golden ratio: even, and the same every time
            ax.scatter(
                here[score], row + spread, s=9, color=BLUE, alpha=0.45, lw=0, label="test image"
            )
            ax.plot(
                means[score][data, method],
                row,
                "|",
                color="black",
                ms=13,
                mew=2,
                label="mean over folds",
            )
            if paper := table1.PAPER_TABLE1.get((method, here.dataset.iloc[0])):
                ax.plot(paper[place], row, "D", mfc="none", mec=RED, ms=6, label="paper")
        ax.set(title=f"{data}: {title}", xlim=(0, 1), ylim=(len(methods) - 0.4, -0.6))
        ax.set_yticks(range(len(methods)), [METHODS[name].label for name in methods])
        ax.grid(axis="x", color="#E5E5E5")
        ax.set_axisbelow(True)
    handles = {
        label: h
        for ax in grid.flat
        for h, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return figure


@styled
def validation_curves(runs: pd.DataFrame, profile: str) -> Figure:
    """How networks learn: validation IoU, and the errors of pseudo-labels, against the step.

    A thin line is a run, a thick one the mean over a method's folds, seeds and annotators.

    Args:
        runs: as given by `results.load_runs`.
        profile: whose runs they are.
    """
    sets, methods = (
        list(dict.fromkeys(runs.data)),
        [name for name in COLOURS if name in set(runs.method)],
    )
    figure = plotting.Picture(figsize=(3.2 * max(len(sets), 2) + 0.4, 4.6), layout="constrained")
    figure.run_ids = tuple(sorted(runs.run_id[runs.method.isin(methods)].unique()))
    grid = figure.subplots(2, len(sets), squeeze=False, sharex="col", sharey="row")
    for (place, data), method in itertools.product(enumerate(sets), methods):
        ids = runs.run_id[(runs.data == data) & (runs.method == method)].unique()
        steps = [
            results.read_run(paths.run_folder(profile, name))[1].set_index("step") for name in ids
        ]
        for ax, column in zip(grid[:, place], WHILE_TRAINING, strict=True):
            curves = [
                table.assign(wrong=1 - table.get("accuracy", np.nan))[column].dropna()
                for table in steps
            ]
            for curve in curves:
                ax.plot(curve, color=COLOURS[method], alpha=0.35, lw=0.6)
            if curves:
                mean = pd.concat(curves, axis=1).mean(axis=1)
                ax.plot(mean, ".-", color=COLOURS[method], label=METHODS[method].label)
    for place, data in enumerate(sets):
        grid[0, place].set_title(data)
        grid[1, place].set(xlabel="step")
    for ax, title in zip(grid[:, 0], WHILE_TRAINING.values(), strict=True):
        ax.set_ylabel(title)
    grid[1, 0].set_yscale(
        "log"
    )  # of bright field's pixels so few are foreground that any error is a small one
    figure.align_ylabels(grid[:, 0])
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def reading_picture(table: pd.DataFrame) -> Figure:
    """Difference of each reading to the default, with its interval where there is one."""
    names = [name for name in dict.fromkeys(table.reading) if name != DEFAULT]
    figure = plotting.Picture(figsize=(8, 0.24 * len(names) + 0.9), layout="constrained")
    figure.run_ids = tuple(sorted(table.run_id.unique()))
    for ax, score in zip(figure.subplots(1, 2, sharey=True), SCORES.values(), strict=True):
        part = table[table.score == score].set_index("reading")
        ax.axvline(0, color=GREY, lw=0.8)
        for place, name in enumerate(names):
            row = part.loc[name]
            colour = RED if row.p_holm < ALPHA else BLUE
            ax.plot([row.low, row.high], [place, place], color=colour, lw=1.5)
            ax.plot(
                row.difference,
                place,
                "o",
                color=colour,
                mfc=colour if row.p_holm < ALPHA else "white",
                ms=5,
            )
        mean = f"{part.loc[DEFAULT, 'mean']:.3f}"
        ax.set(
            title=f"{score}: difference to the default ({mean})",
            yticks=range(len(names)),
            yticklabels=names,
        )
        ax.set_ylim(len(names) - 0.5, -0.5)
    return figure


@styled
def budget_picture(table: pd.DataFrame) -> Figure:
    """Score against the share of nuclei with a stroke; the supervised network as a line above."""
    figure = plotting.Picture(figsize=(8, 3.1), layout="constrained")
    figure.run_ids = tuple(sorted(table.run_id.unique()))
    looks = dict(zip(DRAWN, ((BLUE, "o-"), (ORANGE, "s-"), (GREEN, "^-")), strict=True))
    for ax, score in zip(figure.subplots(1, 2), SCORES.values(), strict=True):
        for shift, (method, (colour, style)) in enumerate(looks.items()):
            part = table[(table.score == score) & (table.method == method)]
            place = 100 * part.budget + shift - 1  # side by side, so that intervals stay apart
            ax.plot(place, part["mean"], style, color=colour, ms=4, label=METHODS[method].label)
            ax.vlines(place, part.low, part.high, color=colour, lw=0.8)
        line = table[(table.score == score) & (table.method == "supervised")]
        for value in line["mean"]:
            ax.axhline(
                value, color=GREY, ls="--", label=f"{METHODS['supervised'].label} (full masks)"
            )
        ax.set(
            title=score,
            xlabel="nuclei with a stroke (%)",
            xticks=[100 * budget for budget in BUDGETS],
        )
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
