"""The figures: Fig. 2 from committed runs, curves and scores; `drawing` and `overview` are offered here too."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from scipy import ndimage

from s2l_core.config import METHODS, RunConfig, S2LError, check_choice, digest
from s2l_core.files import write_atomically
from s2l_core.profiles import DATASETS
from s2l_images.faults import Fault
from s2l_images.pictures import read_values
from s2l_paper import figure1, paths, plotting, results, table1
from s2l_paper.datasets import images_of, split_of
from s2l_paper.plotting import BLUE, GREEN, GREY, MARK, MONUSEG_NOTE, ORANGE, PINK, RED, SKY, styled

if TYPE_CHECKING:  # only named: the trainer loads the network
    from s2l_paper.runs import RunResult

# what else notebooks read here
display, overlay, gallery, figure1 = (
    plotting.display,
    plotting.overlay,
    plotting.gallery,
    figure1.figure1,
)

FIGURE2_METHODS = ("supervised", "s2l", "s2l-r1", "s2l-r4", "s2l-r1-r4")
WINDOW = 256  # side of what a row of Fig. 2 shows, in pixels
RIM = 5  # narrower disagreement, as along every outline, neither chooses a window nor gets a mark
FIGURE2_RULE = f"""\
Shown: of the first {results.SHOWN} test images the window (at most {WINDOW} pixels wide) with the most pairs of \
methods of which one is right and one wrong, in areas {RIM} pixels wide or more.
Arrow: the largest such area outside nuclei, found by some methods only. Circle: the largest inside nuclei, \
missed by some only. IoU and mDice (official) are of the whole image."""


@styled
def test_image(result: "RunResult") -> Figure:
    """Input, truth and prediction of the first test image whose probability the run kept."""
    files = sorted((result.folder / "probability").glob("*.png"))
    if not files:
        raise S2LError(
            f"{result.folder}/probability: no picture. Delete the run's folder and run it anew."
        )
    (cell,) = images_of(result.config, [files[0].stem])
    probability, method = probability_map(files[0]), METHODS[result.config.method].label
    monuseg = result.config.dataset == "monuseg"
    figure, axes = plotting.panels(1, 3, 2.9, bottom=0.6 if monuseg else 0.3)
    figure.run_ids = (result.folder.name,)
    shown = {f"input {cell.id[:24]}": plotting.display(cell.image)}
    if cell.instances is None:
        shown |= {f"{method} (white: nucleus)": plotting.error_map(probability > 0.5, probability)}
    else:
        truth = plotting.colour_instances(cell.instances)
        shown |= {"truth": truth, method: plotting.error_map(cell.instances, probability)}
        plotting.legend(figure, 0.5 if monuseg else 0.2)
    for ax, (title, picture) in zip(axes[0], shown.items(), strict=False):
        ax.imshow(picture)
        ax.set_title(title)
    plotting.foot(figure, MONUSEG_NOTE if monuseg else "")
    return figure


def probability_map(file: Path) -> np.ndarray:
    """A kept probability (H, W) in [0, 1]; S2LError where the picture is damaged, or another than a run keeps."""
    try:
        values = read_values(file)
        if not 0 <= values.min() <= values.max() <= 255:
            raise Fault("label-values", file, f"values from {values.min()} to {values.max()}")
    except Fault as fault:
        again = "Restore it, or delete the run's folder and run it anew"
        raise S2LError(
            f"{file}: no probability of 8 bits ({fault.finding.found}). {again}."
        ) from fault
    return values.astype(np.float32) / 255


def disagreement(truth: np.ndarray, predictions: Sequence[np.ndarray]) -> np.ndarray:
    """How strongly methods differ from each other and from the truth; no method counts more than another.

    Args:
        truth: (H, W) instances.
        predictions: (H, W) bool masks, one for each method.

    Returns:
        (2, H, W), outside and inside nuclei: the pairs of methods of which one is right and the other wrong at a pixel,
        after a grey opening by `RIM`. All 0 for fewer than two methods.
    """
    there = truth > 0
    wrong = np.sum([there, *(mask != there for mask in predictions)], axis=0) - there
    pairs = wrong * (len(predictions) - wrong)
    return np.stack(
        [
            ndimage.grey_opening(np.where(there == kind, pairs, 0), (RIM, RIM))
            for kind in (False, True)
        ]
    )


def best_window(strength: np.ndarray, side: int = WINDOW) -> tuple[int, tuple[slice, slice]]:
    """Largest sum of `strength` (H, W) in any square of `side` pixels (or the shorter side), and that square."""
    side = min(side, *strength.shape)
    sums = np.pad(strength.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    row, column = map(int, np.unravel_index(sums.argmax(), sums.shape))
    return int(sums.max()), np.s_[row : row + side, column : column + side]


def marks(strength: np.ndarray) -> list[tuple[str, tuple[float, float], float]]:
    """Places of Fig. 2's marks: for each kind of `disagreement` (2, H, W) its 8-connected area of largest sum.

    Returns:
        (`arrow` outside or `circle` inside nuclei, its (row, column), radius around the area), in pixels. An arrow
        points at the area's innermost pixel, a circle lies around the area.
    """
    found = []
    for kind, values in zip(("arrow", "circle"), strength, strict=True):
        areas, count = ndimage.label(values > 0, np.ones((3, 3)))
        if count:
            largest = areas == 1 + ndimage.sum_labels(values, areas, range(1, count + 1)).argmax()
            pixels = np.argwhere(largest)
            place = (pixels.min(0) + pixels.max(0)) / 2
            if kind == "arrow":
                depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
                place = np.unravel_index(depth.argmax(), depth.shape)
            found.append(
                (kind, tuple(map(float, place)), float(np.ptp(pixels, axis=0).max() / 2 + 5))
            )
    return found


@styled
def figure2(profile: str, datasets: Sequence[str] | None = None) -> Figure:
    """Fig. 2 of Oh et al. 2022 from a profile's runs, by the rule of `FIGURE2_RULE`; its fold is the first with a run.

    Args:
        profile: a name in PROFILES.
        datasets: names in DATASETS, a row each; None takes all that have a run.

    Raises:
        S2LError: no run at all, an unknown name, or images that are not at hand.
    """
    for name in datasets or ():
        check_choice("datasets", name, DATASETS)
    runs = {name: first_runs(profile, name) for name in datasets or DATASETS}
    if not any(runs.values()):
        raise S2LError(
            f"{paths.results(profile)}: no finished run. Make them: make reproduce PROFILE={profile}"
        )
    rows = [name for name in runs if datasets or runs[name]]
    monuseg = "monuseg" in rows
    figure, axes = plotting.panels(
        len(rows), 7, 1.45, below=0.18, left=0.38, bottom=0.72 if monuseg else 0.5
    )
    figure.run_ids = tuple(
        results.run_id(config) for found in runs.values() for config in found.values()
    )
    figure.scores = {}  # what is printed, by run and image
    for row, name in zip(axes, rows, strict=True):
        _figure2_row(row, runs[name], RunConfig(name, "s2l", profile=profile))
    titles = ["input", "truth, per nucleus", *(METHODS[name].label for name in FIGURE2_METHODS)]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    plotting.legend(figure, 0.6 if monuseg else 0.39)
    plotting.foot(figure, FIGURE2_RULE + (f"\n{MONUSEG_NOTE}" if monuseg else ""))
    return figure


def first_runs(
    profile: str, dataset: str, methods: Sequence[str] = FIGURE2_METHODS
) -> dict[str, RunConfig]:
    """Finished runs of the first fold that has any, by method."""
    for fold in range(DATASETS[dataset][1]):
        configs = {name: RunConfig(dataset, name, fold=fold, profile=profile) for name in methods}
        if found := {name: config for name, config in configs.items() if results.is_done(config)}:
            return found
    return {}


def _figure2_row(axes: np.ndarray, configs: dict[str, RunConfig], config: RunConfig) -> None:
    folders = {name: paths.run_folder(c.profile, results.run_id(c)) for name, c in configs.items()}
    kept = [{file.stem for file in folder.glob("probability/*.png")} for folder in folders.values()]
    views, first = [], split_of(config).test[: results.SHOWN]
    common = set.intersection(*kept) if kept else set(first[:1])
    for cell in images_of(config, sorted(common.intersection(first) or common)):
        maps = {
            name: probability_map(folder / "probability" / f"{cell.id}.png")
            for name, folder in folders.items()
        }
        strength = disagreement(
            cell.instances, [probability > 0.5 for probability in maps.values()]
        )
        views.append((*best_window(strength.sum(0)), cell, maps, strength))
    _, window, cell, maps, strength = max(views, key=lambda view: view[0])
    corner = f"{cell.id[:18]} at {window[0].start}, {window[1].start}"
    for x, text, size in ((-0.17, results.data_label(config), 9), (-0.05, corner, 5.5)):
        axes[0].text(
            x,
            0.5,
            text,
            rotation=90,
            ha="center",
            va="center",
            transform=axes[0].transAxes,
            fontsize=size,
        )
    pictures = {0: plotting.display(cell.image), 1: plotting.colour_instances(cell.instances)}
    for place, name in enumerate(FIGURE2_METHODS, 2):
        ax = axes[place]
        if name not in maps:
            ax.text(0.5, 0.5, "not run", color=GREY, ha="center", transform=ax.transAxes)
            continue
        pictures[place] = plotting.error_map(cell.instances, maps[name])
        scores = results.read_run(folders[name])[0]
        scores = scores[scores.image == cell.id].set_index("checkpoint").loc[config.selection]
        text = ax.figure.scores[f"{folders[name].name}/{cell.id}"] = table1.image_scores(scores)
        ax.text(0.5, -0.02, text, ha="center", va="top", transform=ax.transAxes, fontsize=7)
    for place, picture in pictures.items():
        axes[place].imshow(picture[window])
        for mark in marks(strength[:, *window]) if place != 1 else ():
            _draw_mark(axes[place], *mark, side=window[0].stop - window[0].start)


def _draw_mark(ax, kind: str, place: tuple[float, float], radius: float, side: int) -> None:
    edge = [withStroke(linewidth=2.5, foreground="black")]
    if kind == "circle":
        ax.add_patch(Circle(place[::-1], radius, fill=False, color=MARK, lw=1.2, path_effects=edge))
        return
    inwards = (
        side / 2 - np.array(place) + 1e-6
    )  # the tail lies towards the middle of the picture, so that it fits in
    tail = place + inwards / np.hypot(*inwards) * 0.2 * side
    props = {
        "arrowstyle": "-|>,head_width=0.2,head_length=0.4",
        "color": MARK,
        "lw": 1.2,
        "path_effects": edge,
    }
    ax.annotate("", place[::-1], tail[::-1], arrowprops=props | {"shrinkA": 0, "shrinkB": 0})


def save(
    figure: Figure, path: Path, run_ids: Sequence[str] | None = None, *, dpi: int = 150
) -> Path:
    """Writes a PNG whose metadata names the runs it shows, each id with the run's hash, and the scores it prints.

    Args:
        figure: of this room.
        path: the file.
        run_ids: None takes what the figure itself knows.
        dpi: pixels per inch.
    """
    ids = sorted(getattr(figure, "run_ids", ()) if run_ids is None else run_ids)
    metadata = {"Software": "s2l_core", "RunIds": " ".join(ids), "Hash": digest(ids)}
    if scores := getattr(figure, "scores", None):
        metadata["Scores"] = json.dumps(scores)
    if any(name.startswith("monuseg") for name in ids):
        metadata["Copyright"] = MONUSEG_NOTE
    write_atomically(
        Path(path), functools.partial(figure.savefig, format="png", dpi=dpi, metadata=metadata)
    )
    return path


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
    colours = {
        "labels": BLUE,
        "pseudo": GREEN,
        "r1": PINK,
        "r4": RED,
        "coverage": SKY,
        "accuracy": GREEN,
    }
    names = {"labels": "scribbles or masks", "validation_iou": "mean over images"}
    for ax, (title, columns) in zip(figure.subplots(1, 3), contents.items(), strict=True):
        ax.set(title=title, xlabel="step")
        columns = [name for name in columns if name in steps and steps[name].notna().any()]
        if not columns:
            ax.text(
                0.5,
                0.5,
                "none in this run",
                color=GREY,
                ha="center",
                va="center",
                transform=ax.transAxes,
            )
            ax.set(xticks=[], yticks=[])
            continue
        for column in columns:
            curve = steps.set_index("step")[column].dropna()
            label = f"R{column[1:]}x{column[1:]}" if column in scales else names.get(column, column)
            colour = colours.get(column, SKY)
            if "labels" in columns:  # noisy: each step sees other crops
                ax.plot(curve, color=colour, alpha=0.25, lw=0.6)
                curve = curve.rolling(max(1, len(curve) // 25), center=True, min_periods=1).median()
            ax.plot(curve, color=colour, marker="." if len(curve) < 60 else "", label=label)
        if steps.stage.nunique() == 2:
            ax.axvspan(
                0,
                steps.step[steps.stage == "warm-up"].max(),
                color="#EEEEEE",
                zorder=0,
                label="warm-up",
            )
        ax.set_xlim(0, steps.step.max())
        if "labels" in columns:
            ax.set_yscale("log")
        else:
            ax.set_ylim(top=min(1.0, ax.get_ylim()[1]))
        if columns == ["validation_iou"]:
            best = steps.loc[steps.validation_iou.idxmax()]
            ax.plot(best.step, best.validation_iou, "D", color=ORANGE, label="best weights")
        ax.legend(fontsize=7)
    return figure
