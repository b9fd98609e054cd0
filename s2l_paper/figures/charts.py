"""Charts over many runs: scores, differences, training, readings, the effort of drawing."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s2l_core.config import METHODS
from s2l_paper import paths
from s2l_paper.comparing.comparisons import compare, repeated
from s2l_paper.comparing.sensitivity import BUDGETS, DEFAULT, DRAWN, PANELS
from s2l_paper.comparing.statistics import ALPHA, MIN_GROUPS, SMALLEST_EFFECT, groups_of
from s2l_paper.figures import plotting
from s2l_paper.figures.plotting import BLUE, GREEN, GREY, ORANGE, PINK, RED, styled
from s2l_paper.running import costs, results
from s2l_paper.tables import table1

if TYPE_CHECKING:  # a chart needs no PyTorch
    from s2l_paper.comparing.recipe_plan import Option

COLOURS = {
    "s2l": BLUE,
    "s2l-r1": PINK,
    "s2l-r4": ORANGE,
    "s2l-r1-r4": RED,
    "supervised": GREEN,
    "scribble-only": GREY,
}
MARKERS = dict(zip(METHODS, "osD^vPX*", strict=False))  # besides colours, of every method
LINES = dict(zip(COLOURS, ("-", "--", "-.", "-", "--", ":"), strict=True))  # and of trained ones
BAND = "#EEEEEE"
AGAINST_S2L = ("s2l-r1", "s2l-r4", "s2l-r1-r4", "supervised", "scribble-only")
WHILE_TRAINING = (
    "validation IoU (full masks)",
    "last third, enlarged",
    "wrong pseudo-labels (share)",
)
FAR_BELOW = 0.3  # of IoU; a method that lies further below the best is named at the edge
NOTE = {"textcoords": "offset points", "fontsize": 7, "va": "bottom", "ha": "left"}


@styled
def ablation_bars(runs: pd.DataFrame) -> Figure:
    """IoU and mDice of every method and data set: each test image, the mean, the paper's value.

    Args:
        runs: as given by `results.load_runs`; the checkpoint that Table 1 shows is drawn.
    """
    runs = runs[runs.shown]
    means = table1.summary(runs).set_index(["data", "method"])
    sets = list(dict.fromkeys(runs.data))
    methods = [name for name in METHODS if name in set(runs.method)]
    height = (0.24 * len(methods) + 0.45) * len(sets) + 0.4
    figure = plotting.Picture(figsize=(9, height), layout="constrained")
    figure.run_ids = tuple(sorted(runs.run_id.unique()))

    # A row of panels for each data set; the paper gives mDice first, we IoU.
    grid = figure.subplots(len(sets), 2, squeeze=False, sharey=True, sharex=True)
    for row, data in zip(grid, sets, strict=True):
        for ax, score in zip(row, ("iou", "mdice_official"), strict=True):
            here = runs[runs.data == data]
            _draw_scores(ax, here, means[score][data], score, methods)
            ax.set(title=f"{data}: {table1.TABLE1_SCORES[score]}", xlim=(0, 1))
            ax.set_ylim(len(methods) - 0.4, -0.6)
            ax.set_yticks(range(len(methods)), [METHODS[name].label for name in methods])
            ax.grid(axis="x", color="#E5E5E5")
            ax.set_axisbelow(True)

    _one_legend(figure, ncols=3)
    return figure


def _draw_scores(
    ax: Axes, runs: pd.DataFrame, means: pd.Series, score: str, methods: list[str]
) -> None:
    """Draws the images of one data set, a row for each method."""
    for row, method in enumerate(methods):
        here = runs[runs.method == method]
        if here.empty:
            ax.text(0.01, row, "not run", color=GREY, va="center", fontsize=7)
            continue

        # Dots are spread by the golden ratio: evenly, and the same every time.
        place = row + (np.arange(len(here)) * 0.618 % 1 - 0.5) / 2
        look = {"s": 9, "color": BLUE, "alpha": 0.45, "lw": 0, "label": "test image"}
        ax.scatter(here[score], place, **look)
        look = {"color": "black", "ms": 13, "mew": 2, "label": "mean"}
        ax.plot(means[method], row, "|", **look)
        paper = table1.paper_value(method, here.dataset.iloc[0], score)
        if pd.notna(paper):
            ax.plot(paper, row, "D", mfc="none", mec=RED, ms=6, label="paper")


@styled
def validation_curves(runs: pd.DataFrame, profile: str) -> Figure:
    """How networks learn: validation IoU, its last third once more on a scale of its own, and the
    errors of pseudo-labels, against the step.

    A line is the mean over a method's folds, seeds and annotators; its band reaches from the lowest
    of these runs to the highest.

    Args:
        runs: as given by `results.load_runs`.
        profile: whose runs they are.
    """
    sets = list(dict.fromkeys(runs.data))
    methods = [name for name in COLOURS if name in set(runs.method)]
    figure = plotting.Picture(figsize=(3.2 * max(len(sets), 2) + 0.4, 7), layout="constrained")
    figure.run_ids = tuple(sorted(runs.run_id[runs.method.isin(methods)].unique()))

    # A column of panels for each data set, each with a scale of its own: heights of different data
    # sets are not to be compared, and a common scale would flatten the differences.
    grid = figure.subplots(3, len(sets), squeeze=False)
    for (validation, ending, wrong), data in zip(grid.T, sets, strict=True):
        for method in methods:
            ids = runs.run_id[(runs.data == data) & (runs.method == method)].unique()
            steps = [_steps(paths.run_folder(profile, name)) for name in ids]
            _draw_band(validation, [table.validation_iou for table in steps], method)
            _draw_band(wrong, [table.wrong for table in steps], method)
        _enlarge_last_third(validation, ending)
        validation.set_title(data)
        validation.sharex(wrong)  # both show the whole training
        wrong.set_yscale("log")  # so few pixels of bright field are foreground
    for ax, title in zip(grid[:, 0], WHILE_TRAINING, strict=True):
        ax.set_ylabel(title)
    for ax in grid.flat:
        ax.set_xlabel("step")
        ax.grid(axis="y", color="#E5E5E5")
        ax.set_axisbelow(True)
    figure.align_ylabels(grid[:, 0])
    _one_legend(figure, ncols=3)
    return figure


def _steps(folder: Path) -> pd.DataFrame:
    """Validation IoU and the share of wrong pseudo-labels of a run, by step."""
    steps = results.read_run(folder)[1].set_index("step")
    return steps.assign(wrong=1 - steps.get("accuracy", np.nan))[["validation_iou", "wrong"]]


def _draw_band(ax: Axes, curves: list[pd.Series], method: str) -> None:
    """Draws the mean of a method's runs, and a band from the lowest of them to the highest."""
    curves = [curve.dropna() for curve in curves]
    table = pd.concat(curves, axis=1) if curves else pd.DataFrame()  # (steps, runs)
    if table.empty:
        return
    colour = COLOURS[method]
    low, high = table.min(axis=1), table.max(axis=1)
    ax.fill_between(table.index, low, high, color=colour, alpha=0.1, lw=0)
    look = {"color": colour, "ls": LINES[method], "marker": MARKERS[method], "ms": 4}
    ax.plot(table.mean(axis=1), label=METHODS[method].label, **look)


def _enlarge_last_third(source: Axes, ax: Axes) -> None:
    """Draws the end of the mean lines of `source` again, on scales of their own."""
    last = max((line.get_xdata().max() for line in source.lines), default=0)
    for line in source.lines:
        late = line.get_xdata() > last * 2 / 3
        look = {"color": line.get_color(), "ls": line.get_linestyle(), "marker": line.get_marker()}
        ax.plot(line.get_xdata()[late], line.get_ydata()[late], ms=4, **look)


@styled
def cost_picture(runs: pd.DataFrame, profile: str) -> Figure:
    """What each method costs and how good it is: core-minutes against IoU, a panel for a data set.

    A small mark is a run, a large one the median of a method's runs. A method far below all others
    would squeeze these into a line: its marks stand at the lower edge, beside the IoU in words.

    Args:
        runs: as given by `results.load_runs`; the checkpoint that Table 1 shows is drawn.
        profile: whose runs they are.
    """
    shown = runs[runs.shown]
    points = shown.groupby(["data", "method", "run_id"]).iou.mean().reset_index()
    points["minutes"] = [
        costs.core_minutes(paths.run_folder(profile, name)) for name in points.run_id
    ]

    sets = list(dict.fromkeys(shown.data))
    figure = plotting.Picture(figsize=(3.1 * max(len(sets), 2), 3.3), layout="constrained")
    figure.run_ids = tuple(sorted(points.run_id))
    for ax, data in zip(np.atleast_1d(figure.subplots(1, len(sets))), sets, strict=True):
        here = points[points.data == data]
        medians = here.groupby("method").iou.median()
        far = medians.index[medians < medians.max() - FAR_BELOW]
        edge = here.iou[~here.method.isin(far)].min() - 0.03
        for method in METHODS:
            own = here[here.method == method]
            if own.empty:
                continue
            if method in far:
                note = f"{METHODS[method].label}: {medians[method]:.2f} ↓"
                ax.annotate(note, (own.minutes.median(), edge), (6, 4), **NOTE)
                own = own.assign(iou=edge)
            look = {"color": COLOURS.get(method, "black"), "marker": MARKERS[method], "ls": ""}
            larger = 1.4 if look["marker"] == "*" else 1  # a star has little area for its width
            ax.plot(own.minutes, own.iou, ms=3 * larger, alpha=0.5, mew=0, **look)
            middle = own.minutes.median(), own.iou.median()
            label = METHODS[method].label
            ax.plot(*middle, ms=7 * larger, mec="white", mew=0.5, label=label, **look)
        ax.set(title=data, xlabel="core-minutes", xscale="log")
        ax.grid(color="#E5E5E5")
        ax.set_axisbelow(True)
    figure.axes[0].set_ylabel("IoU, mean over test images")
    _one_legend(figure, ncols=4)
    return figure


def _one_legend(figure: Figure, ncols: int) -> None:
    """One legend below all panels, each label once."""
    handles = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=ncols)


@styled
def difference_forest(runs: pd.DataFrame) -> Figure:
    """Every method's difference from S2L: ours with its interval, each run, and the paper's value.

    The band is the smallest effect of interest. A full mark differs significantly, after correction
    over the rows of its data set. Titles count the groups of test images that are alike; fewer than
    `MIN_GROUPS` have no interval.

    Args:
        runs: as given by `results.load_runs`; the checkpoint that Table 1 shows is drawn.
    """
    shown = runs[runs.shown]
    sets = [name for name in dict.fromkeys(shown.dataset) if "s2l" in _methods(shown, name)]
    pairs = [
        (dataset, method, "s2l", score)
        for dataset in sets
        for method in AGAINST_S2L
        for score in table1.TABLE1_SCORES
    ]
    tests = compare(shown, pairs, "shown")

    figure = plotting.Picture(figsize=(9, 1.75 * max(len(sets), 1) + 0.5), layout="constrained")
    figure.run_ids = tuple(sorted(set(" ".join(tests.run_ids).split())))
    grid = figure.subplots(max(len(sets), 1), 2, squeeze=False, sharey="row", sharex="row")
    for row, dataset in zip(grid, sets, strict=False):
        own = shown[shown.dataset == dataset]
        methods = [name for name in AGAINST_S2L if name in _methods(shown, dataset)]
        for ax, (score, title) in zip(row, table1.TABLE1_SCORES.items(), strict=True):
            label = f"± {SMALLEST_EFFECT:g}"
            ax.axvspan(-SMALLEST_EFFECT, SMALLEST_EFFECT, color=BAND, lw=0, label=label)
            ax.axvline(0, color=GREY, lw=0.8)
            for place, method in enumerate(methods):
                key = dataset, method, "s2l", score
                if key in tests.index:
                    dots = repeated(own, method, "s2l", score)
                    _forest_row(ax, place, tests.loc[key], dots)
                paper = table1.paper_value(method, dataset, score)
                paper -= table1.paper_value("s2l", dataset, score)
                ax.plot(paper, place, "D", mfc="none", mec=RED, ms=6, label="paper")
            ax.set_title(f"{own.data.iloc[0]}: {title}, difference from S2L ({_tested(own)})")
            ax.set_yticks(range(len(methods)), [METHODS[name].label for name in methods])
            ax.set_ylim(len(methods) - 0.5, -0.5)
    _one_legend(figure, ncols=5)
    return figure


def _tested(runs: pd.DataFrame) -> str:
    """How many images of a data set were tested, in how many groups."""
    numbers = groups_of(runs.dataset.iloc[0])
    images = runs.image.unique()
    groups = len({numbers.get(image, image) for image in images})
    alike = "" if groups == len(images) else f" in {groups} groups"
    counted = f"{len(images)} images{alike}"
    return counted if groups >= MIN_GROUPS else f"{counted}: no interval"


def _methods(runs: pd.DataFrame, dataset: str) -> set[str]:
    return set(runs.method[runs.dataset == dataset])


def _forest_row(ax: Axes, place: int, test: pd.Series, dots: pd.Series) -> None:
    """One difference: its runs as dots below, its mean and interval."""
    below = np.full(len(dots), place + 0.22)
    ax.plot(dots, below, ".", color=BLUE, ms=4, alpha=0.6, label="one training")
    ax.plot([test.low, test.high], [place, place], color="black", lw=1.5, label="95 % interval")
    differs = test.p_holm < ALPHA
    fill = "black" if differs else "white"
    label = f"ours (filled: p < {ALPHA:g}, corrected)"
    ax.plot(test.difference, place, "o", color="black", mfc=fill, ms=5, label=label)


@styled
def reading_picture(table: pd.DataFrame) -> Figure:
    """Difference of each reading to the default, with its interval where there is one.

    The band is two standard deviations of what two single trainings differ by, by chance. A full
    red mark differs significantly.
    """
    names = [name for name in dict.fromkeys(table.reading) if name != DEFAULT]
    figure = plotting.Picture(figsize=(8, 0.24 * len(names) + 1.1), layout="constrained")
    figure.run_ids = tuple(sorted(set(" ".join(table.run_ids).split())))
    for ax, score in zip(figure.subplots(1, 2, sharey=True), PANELS.values(), strict=True):
        part = table[table.score == score].set_index("reading")
        ax.axvline(0, color=GREY, lw=0.8)
        band = 2 * part.noise.iloc[0]
        ax.axvspan(-band, band, color=BAND, lw=0)
        for place, name in enumerate(names):
            row = part.loc[name]
            differs = row.p_holm < ALPHA
            colour = RED if differs else BLUE
            ax.plot([row.low, row.high], [place, place], color=colour, lw=1.5)
            fill = colour if differs else "white"
            ax.plot(row.difference, place, "o", color=colour, mfc=fill, ms=5)
        mean = f"{part.loc[DEFAULT, 'mean']:.3f}"
        ax.set_title(f"{score}: difference from the default ({mean})")
        ax.set_xlabel("band: 2 s.d. of what two trainings differ by, by chance")
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
    return figure


@styled
def budget_picture(table: pd.DataFrame) -> Figure:
    """Score against the share of nuclei with a stroke; the supervised network as a line above."""
    figure = plotting.Picture(figsize=(8, 3.1), layout="constrained")
    figure.run_ids = tuple(sorted(set(" ".join(table.run_ids).split())))
    looks = dict(zip(DRAWN, ((BLUE, "o-"), (ORANGE, "s-"), (GREEN, "^-")), strict=True))
    full_masks = f"{METHODS['supervised'].label} (full masks)"
    for ax, score in zip(figure.subplots(1, 2), PANELS.values(), strict=True):
        here = table[table.score == score]

        # Methods are shifted by a percent each, so that their intervals stay apart.
        for shift, (method, (colour, style)) in enumerate(looks.items(), -1):
            part = here[here.method == method]
            place = 100 * part.budget + shift
            ax.plot(place, part["mean"], style, color=colour, ms=4, label=METHODS[method].label)
            ax.vlines(place, part.low, part.high, color=colour, lw=0.8)
        for value in here["mean"][here.method == "supervised"]:
            ax.axhline(value, color=GREY, ls="--", label=full_masks)
        by_chance = f"standard deviation of two trainings' difference: {here.noise.iloc[0]:.3f}"
        ax.set_title(by_chance, fontsize=7)
        ax.set_xlabel("budget: nuclei with a stroke (%)")
        ax.set_xticks([100 * budget for budget in BUDGETS])
        ax.set_ylabel(score)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def trials(kept: pd.DataFrame, choices: "list[Option]") -> Figure:
    """Validation IoU of every trial of an experiment, a dot for each seed, and the mean as a bar.

    Args:
        kept: rows of `recipe.kept_trials` of one experiment and data set.
        choices: of that experiment, from top to bottom; one without a trial stays an empty line.
    """
    height = 0.24 * len(choices) + 0.7
    figure = plotting.Picture(figsize=(7, height), layout="constrained", dpi=110)
    figure.run_ids = tuple(sorted(kept.run.unique()))
    ax = figure.subplots()

    for place, choice in enumerate(choices):
        scores = kept.validation_iou[kept.choice == choice.label]
        colour = COLOURS[choice.method]
        ax.plot(scores, [place] * len(scores), "o", color=colour, ms=4, alpha=0.6, mew=0)
        ax.plot(scores.mean(), place, "|", color=colour, ms=12, mew=2)

    ax.set_yticks(range(len(choices)), [_in_words(choice) for choice in choices])
    ax.set_ylim(len(choices) - 0.4, -0.6)
    ax.set_xlabel("validation IoU: a dot for each seed, a bar at their mean")
    ax.grid(axis="x", color="#E5E5E5")
    ax.set_axisbelow(True)
    return figure


def _in_words(choice: "Option") -> str:
    """A choice as a chart names it: where its label ends in the method, by the method's name."""
    if not choice.label.endswith(choice.method):
        return choice.label
    return choice.label.removesuffix(choice.method) + METHODS[choice.method].label
