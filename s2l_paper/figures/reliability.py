"""Are probabilities what they say? Predicted probability against the share of nucleus pixels."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s2l_core.config import METHODS, S2LError
from s2l_core.profiles import DATASETS
from s2l_paper import paths
from s2l_paper.figures import plotting
from s2l_paper.figures.charts import COLOURS, LINES, MARKERS
from s2l_paper.figures.plotting import GREY, styled
from s2l_paper.running import results
from s2l_paper.running.kept_masks import first_runs

FEWEST_PIXELS = 500  # pixels; the share of a bin with fewer says little
ASKED = tuple(name for name, method in METHODS.items() if name != "otsu")  # which gives 0 or 1


def table(profile: str, datasets: Sequence[str] | None = None) -> pd.DataFrame:
    """Predicted probability and share of nucleus pixels, by bin of the probability.

    Of each data set the first fold that has runs, and those of its first test images that all of
    these runs counted.

    Args:
        profile: a name in PROFILES.
        datasets: names in DATASETS; None takes all that have a run.

    Returns:
        A row for each data set, method and bin: `predicted`, the mean probability; `share` of
        pixels that are nucleus; number of `pixels` and `images`; `run_id`.

    Raises:
        S2LError: no run, runs that counted no common image, or a damaged file.
    """
    rows = []
    for dataset in datasets or DATASETS:
        runs = first_runs(profile, dataset, ASKED)
        ids = _counted_by_all(runs)
        if runs and not ids:
            again = "Delete their folders and run them anew: new runs count them"
            raise S2LError(
                f"{dataset}: its runs counted no probability of a common image. {again}."
            )
        for method, config in runs.items():
            folder = results.folder_of(config)
            counts = results.read_calibration(folder)
            found = _summed(counts[counts.image.isin(ids)])
            facts = {"data": results.data_label(config), "method": method, "images": len(ids)}
            rows += [facts | row | {"run_id": folder.name} for row in found]
    if not rows:
        again = f"make reproduce PROFILE={profile}"
        raise S2LError(f"{paths.results(profile)}: no finished run. Make them: {again}")
    return pd.DataFrame(rows)


def _counted_by_all(runs: dict) -> set[str]:
    """The test images whose probabilities every run counted."""
    folders = [results.folder_of(config) for config in runs.values()]
    counted = [set(results.read_calibration(folder).image) for folder in folders]
    return set.intersection(*counted) if counted else set()


def _summed(counts: pd.DataFrame) -> list[dict]:
    """Means by bin of the probability, over images; empty bins have no row."""
    rows = []
    for _, own in counts.groupby("bin"):
        pixels = int(own.pixels.sum())
        row = {"predicted": np.average(own.predicted, weights=own.pixels)}
        rows.append(row | {"share": own.nuclei.sum() / pixels, "pixels": pixels})
    return rows


def off_diagonal(rows: pd.DataFrame) -> float:
    """Mean distance of predicted probability and share, each pixel counted once."""
    return float(np.average((rows.predicted - rows.share).abs(), weights=rows.pixels))


@styled
def picture(curves: pd.DataFrame) -> Figure:
    """A panel for each data set: a curve for each method, and the diagonal.

    Args:
        curves: what `table` gives.
    """
    sets = list(dict.fromkeys(curves.data))
    figure = plotting.Picture(figsize=(3.1 * max(len(sets), 2), 4.4), layout="constrained")
    figure.run_ids = tuple(sorted(curves.run_id.unique()))
    for ax, data in zip(np.atleast_1d(figure.subplots(1, len(sets))), sets, strict=True):
        ax.plot([0, 1], [0, 1], ":", color=GREY)
        own = curves[curves.data == data]
        for method, rows in own.groupby("method", sort=False):
            drawn = rows[rows.pixels >= FEWEST_PIXELS]
            label = f"{METHODS[method].label} ({off_diagonal(rows):.3f})"
            look = {"color": COLOURS.get(method, "black"), "marker": MARKERS[method], "ms": 4}
            style = LINES.get(method, "--")
            ax.plot(drawn.predicted, drawn.share, style, label=label, lw=1, **look)
        ax.set(title=f"{data}: {own.images.iloc[0]} test images", aspect="equal", anchor="N")
        ax.set(xlabel="predicted probability", xlim=(0, 1), ylim=(0, 1))
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}
        title = "in brackets: mean distance from the diagonal"
        ax.legend(fontsize=6, title=title, title_fontsize=6, **place)
    figure.axes[0].set_ylabel("share of nucleus pixels")
    return figure
