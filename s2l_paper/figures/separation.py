"""The mechanism on real cells: how well a trained network separates nuclei from background.

The table is made of weights by `embeddings`; what is here reads it, and needs no PyTorch.
"""

import pandas as pd
from matplotlib.figure import Figure

from s2l_core.config import METHODS
from s2l_paper import paths
from s2l_paper.figures import plotting
from s2l_paper.figures.charts import COLOURS, MARKERS
from s2l_paper.figures.plotting import styled

FACTORS = {3: 4, 5: 1}  # decoder block -> side of the region that one of its vectors stands for
LAYERS = tuple(f"{part}, block {block}" for block in FACTORS for part in ("features", "head"))
RUN_KEYS = ["dataset", "method", "fold", "rotation", "seed", "annotator", "run_id"]
SHOWN, SHOWN_DATASET = "pretrained", "dsb-bf"  # whose networks notebook 03 shows
MEASURED_COLUMNS = [*RUN_KEYS, "layer", "images", "silhouette"]


def measured(profile: str) -> pd.DataFrame:
    """The committed table of a profile, empty if nothing was measured."""
    file = paths.separation(profile)
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=MEASURED_COLUMNS)


def shown() -> pd.DataFrame:
    """The committed rows that notebook 03 and docs/results.md show, empty if there are none."""
    table = measured(SHOWN)
    return table[table.dataset == SHOWN_DATASET]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean silhouette by method and layer, with the number of runs; rounded.

    Args:
        table: rows of `measured`, of one data set.
    """
    order = [name for name in METHODS if name in set(table.method)]
    means = table.pivot_table("silhouette", "method", "layer").reindex(order)
    means = means.reindex(columns=[name for name in LAYERS if name in means])
    means.insert(0, "runs", table.groupby("method").run_id.nunique())
    return means.rename(index={name: METHODS[name].label for name in order}).round(3)


@styled
def differences(table: pd.DataFrame) -> Figure:
    """Silhouette of every run, layer by layer; a thin line joins runs with the same test images.

    Args:
        table: rows of `measured`, of one data set, not empty.
    """
    methods = [name for name in METHODS if name in set(table.method)]
    layers = [name for name in LAYERS if name in set(table.layer)]
    figure = plotting.Picture(figsize=(2.3 * len(layers) + 0.4, 2.7), layout="constrained")
    figure.run_ids = tuple(sorted(table.run_id.unique()))
    axes = figure.subplots(1, len(layers), squeeze=False, sharey=True)[0]
    for ax, layer in zip(axes, layers, strict=True):
        own = table[table.layer == layer]
        for _, same in own.groupby(["dataset", "fold", "rotation", "seed", "annotator"]):
            # A method without this layer is passed over, so that the line joins its neighbours.
            same = same.set_index("method").silhouette.reindex(methods).dropna()
            places = [methods.index(name) for name in same.index]
            ax.plot(places, same, color="#BBBBBB", lw=0.7, zorder=0)
        for place, method in enumerate(methods):
            scores = own.silhouette[own.method == method]
            look = {"color": COLOURS[method], "marker": MARKERS[method], "ls": "", "ms": 5}
            ax.plot([place] * len(scores), scores, alpha=0.7, mew=0, **look)
        ax.set_xlim(-0.5, len(methods) - 0.5)
        ticks = [METHODS[name].label.replace("S2L + ", "+ ") for name in methods]
        ax.set_xticks(range(len(methods)), ticks, rotation=30, ha="right")
        ax.set_title(layer)
        ax.grid(axis="y", color="#E5E5E5")
        ax.set_axisbelow(True)
    figure.axes[0].set_ylabel("silhouette, a dot for each run")
    return figure
