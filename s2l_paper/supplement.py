"""Beside Fig. 2: the best, the median and the worst test image of every method."""

import numpy as np
from matplotlib.figure import Figure

from s2l_core.config import METHODS, RunConfig, S2LError
from s2l_core.profiles import DATASETS
from s2l_paper import paths, plotting, results, table1
from s2l_paper.datasets import images_of
from s2l_paper.figure2 import first_runs, probability_map
from s2l_paper.plotting import MONUSEG_NOTE, styled

RULE = (
    "Shown: for each method the whole test image with its highest, its median and its lowest IoU;"
    " the title has IoU and mDice (official). First fold with runs, weights as in Table 1."
)


@styled
def extreme_images(profile: str, dataset: str) -> Figure:
    """Input and error map of three test images for each method, chosen by the method's own scores.

    Args:
        profile: a name in PROFILES.
        dataset: a name in DATASETS.

    Raises:
        S2LError: no finished run on this data set, a picture that was not kept,
            or images that are not at hand.
    """
    runs = first_runs(profile, dataset, tuple(METHODS))
    if not runs:
        again = f"make reproduce PROFILE={profile} DATASETS={dataset}"
        raise S2LError(f"{dataset}: no finished run. Make one: {again}")
    monuseg = dataset == "monuseg"
    bottom = 0.66 if monuseg else 0.42
    figure, axes = plotting.panels(len(runs), 6, 1.3, below=0.17, left=0.3, bottom=bottom)
    figure.run_ids, figure.scores = tuple(map(results.run_id, runs.values())), {}
    for row, (method, config) in zip(axes, runs.items(), strict=True):
        plotting.write(row[0], -0.1, 0.5, METHODS[method].label, fontsize=7, rotation=90)
        _draw_row(row, config)
    plotting.legend(figure, 0.5 if monuseg else 0.26)
    plotting.foot(figure, RULE + (f"\n{MONUSEG_NOTE}" if monuseg else ""))
    return figure


def possible(profile: str) -> list[str]:
    """The data sets of a profile that have a page: those with a finished run of the usual seed."""
    return [name for name in DATASETS if first_runs(profile, name, tuple(METHODS))]


def _draw_row(axes: np.ndarray, config: RunConfig) -> None:
    """Draws the best, the median and the worst image of a run, two panels (of 6) each."""
    folder = paths.run_folder(config.profile, results.run_id(config))
    scores = results.read_run(folder)[0]
    selection = config.selection if config.selection in set(scores.checkpoint) else "last"
    scores = scores[scores.checkpoint == selection].set_index("image")

    for place, (name, image) in enumerate(results.extremes(dict(scores.iou)).items()):
        file = folder / "probability" / f"{image}.png"
        if not file.exists():
            again = "Delete the run's folder and run it again: it keeps this picture"
            raise S2LError(f"{file}: not there. {again}.")
        (cell,) = images_of(config, [image])
        left, right = axes[2 * place : 2 * place + 2]
        left.imshow(plotting.display(cell.image))
        left.set_title(f"{name}: {image[:10]}", fontsize=6.5)
        right.imshow(plotting.error_map(cell.instances, probability_map(file)))

        # What is printed is noted in the figure too, so that it can be checked.
        text = table1.image_scores(scores.loc[image])
        axes[0].figure.scores[f"{folder.name}/{image}"] = text
        right.set_title(text, fontsize=6.5)
