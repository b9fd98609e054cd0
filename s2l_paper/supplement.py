"""Beside Fig. 2: the best, the median and the worst test image of every method."""

from matplotlib.figure import Figure

from s2l_core.config import METHODS, S2LError
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
        raise S2LError(
            f"{dataset}: no finished run. Make one: make reproduce PROFILE={profile}"
            f" DATASETS={dataset}"
        )
    monuseg = dataset == "monuseg"
    figure, axes = plotting.panels(
        len(runs), 6, 1.3, below=0.17, left=0.3, bottom=0.66 if monuseg else 0.42
    )
    figure.run_ids, figure.scores = tuple(map(results.run_id, runs.values())), {}
    for row, (method, config) in zip(axes, runs.items(), strict=True):
        folder = paths.run_folder(profile, results.run_id(config))
        scores = results.read_run(folder)[0]
        chosen = config.selection if config.selection in set(scores.checkpoint) else "last"
        scores = scores[scores.checkpoint == chosen].set_index("image")
        label = {"rotation": 90, "ha": "center", "va": "center", "transform": row[0].transAxes}
        row[0].text(-0.1, 0.5, METHODS[method].label, fontsize=7, **label)
        for place, (name, image) in enumerate(results.extremes(dict(scores.iou)).items()):
            file = folder / "probability" / f"{image}.png"
            if not file.exists():
                raise S2LError(
                    f"{file}: not there. Delete the run's folder and run it again: it keeps this"
                    " picture."
                )
            (cell,) = images_of(config, [image])
            left, right = row[2 * place : 2 * place + 2]
            left.imshow(plotting.display(cell.image))
            right.imshow(plotting.error_map(cell.instances, probability_map(file)))
            left.set_title(f"{name}: {image[:10]}", fontsize=6.5)
            text = figure.scores[f"{folder.name}/{image}"] = table1.image_scores(scores.loc[image])
            right.set_title(text, fontsize=6.5)
    plotting.legend(figure, 0.5 if monuseg else 0.26)
    plotting.foot(figure, RULE + (f"\n{MONUSEG_NOTE}" if monuseg else ""))
    return figure
