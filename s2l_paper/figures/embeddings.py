"""The features of trained networks on real cells, measured from their weights (see `separation`).

Weights are not committed; the table and the picture that are made of them are.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from torch import Tensor

from s2l_core.augment import to_unit
from s2l_core.config import IGNORE, METHODS, RunConfig, S2LError, seed_for
from s2l_core.images import CellImage, intensity_range
from s2l_core.inference import MULTIPLE
from s2l_core.losses import region_labels
from s2l_core.model import ScribbleUNet
from s2l_images.files import write_text
from s2l_images.learning.kept_models import load_model
from s2l_paper import paths
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.figures import plotting
from s2l_paper.figures.plotting import BACKGROUND, FOREGROUND, GREY, styled
from s2l_paper.figures.separation import FACTORS, LAYERS, MEASURED_COLUMNS, RUN_KEYS, measured
from s2l_paper.running import results

MOST = 1000  # vectors of each class that are compared in an image


def measure(profile: str) -> pd.DataFrame:
    """Writes `separation.csv` and `separation.png` anew, from every run whose weights are here.

    Rows of finished runs whose weights are elsewhere are kept as they are.

    Args:
        profile: a name in PROFILES.

    Returns:
        The table: a row for each run and layer. `silhouette` is the mean over the run's test images
        of the silhouette coefficient of nuclei against background, by the cosine distance that
        Eq. 4 compares by: 1 where both classes are far apart and tight, 0 where they overlap.

    Raises:
        S2LError: no finished run has its weights here, or images are not at hand.
    """
    runs = _with_weights(profile)
    rows = []
    for run_id, config in runs.items():
        model, _ = load_model(_weights(profile, run_id))
        found = pd.DataFrame([_of_image(model, cell) for cell in _test_images(config)])
        facts = {name: getattr(config, name) for name in RUN_KEYS[:-1]} | {"run_id": run_id}
        for layer in found:
            scores = found[layer].dropna()
            rows.append(
                facts | {"layer": layer, "images": len(scores), "silhouette": scores.mean()}
            )

    # What was measured elsewhere stays, as long as its run is there.
    table = pd.DataFrame(rows, columns=MEASURED_COLUMNS).round(4)
    before = measured(profile)
    there = {file.name for file in paths.run_folder(profile, "").glob("*/")}
    kept = before[before.run_id.isin(there) & ~before.run_id.isin(table.run_id)]
    table = pd.concat([kept, table]) if len(kept) else table
    table = table.sort_values([*RUN_KEYS[:-1], "layer"], ignore_index=True)

    write_text(paths.separation(profile), table.to_csv(index=False))
    plotting.save(picture(profile), paths.figures(profile) / "separation.png")
    return table


@styled
def picture(profile: str) -> Figure:
    """Two principal components of each method's features of one test image, layer by layer.

    The image is the first test image of the first run that S2L shares with other methods; a dot is
    a region, coloured by the true mask.

    Args:
        profile: whose weights.

    Raises:
        S2LError: no finished run has its weights here, or images are not at hand.
    """
    shown = _beside_s2l(_with_weights(profile))
    if not shown:
        again = f"make reproduce PROFILE={profile} METHODS=s2l"
        raise S2LError(
            f"{paths.results(profile)}: the weights of no S2L run are here. Make one: {again}"
        )
    figure = plotting.Picture(figsize=(8.2, 1.95 * len(shown) + 0.5), layout="constrained")
    figure.run_ids = tuple(shown)
    grid = figure.subplots(len(shown), len(LAYERS), squeeze=False)
    for row, (run_id, config) in zip(grid, shown.items(), strict=True):
        model, _ = load_model(_weights(profile, run_id))
        cell = next(_test_images(config))
        vectors = dict(_vectors(model, cell))
        for ax, layer in zip(row, LAYERS, strict=True):
            ax.set(xticks=[], yticks=[])
            if layer in vectors:
                _draw_components(ax, *_sample(*vectors[layer], cell.id))
            else:
                plotting.write(ax, 0.5, 0.5, "no head", color=GREY)
        label = METHODS[config.method].label
        row[0].set_ylabel(f"{label}\nsecond component", fontsize=8)
    for ax, layer in zip(grid[0], LAYERS, strict=True):
        ax.set_title(f"{layer}\n{ax.get_title()}")
    for ax in grid[-1]:
        ax.set_xlabel("first principal component", fontsize=8)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, markerscale=3)
    return figure


def _with_weights(profile: str) -> dict[str, RunConfig]:
    """Id -> configuration of every finished run whose weights are here, as Table 1 counts runs."""
    found = {}
    for config in results.finished(profile):
        run_id = results.run_id(config)
        if not results.variant(config) and _weights(profile, run_id).exists():
            found[run_id] = config
    if not found:
        again = f"make reproduce PROFILE={profile}"
        raise S2LError(
            f"{paths.results(profile)}: the weights of no run are here. Make one: {again}"
        )
    return found


def _weights(profile: str, run_id: str) -> Path:
    return paths.model(paths.run_folder(profile, run_id))


def _beside_s2l(runs: dict[str, RunConfig]) -> dict[str, RunConfig]:
    """The first run of S2L, and those of its variants on the same test images and strokes."""

    def setting(config: RunConfig) -> tuple:
        return tuple(getattr(config, name) for name in RUN_KEYS if name not in ("method", "run_id"))

    known = {(config.method, setting(config)): run_id for run_id, config in runs.items()}
    settings = sorted(place for method, place in known if method == "s2l")
    order = [name for name in METHODS if name.startswith("s2l")]
    found = [
        known[name, settings[0]] for name in order if settings and (name, settings[0]) in known
    ]
    return {run_id: runs[run_id] for run_id in found}


def _test_images(config: RunConfig) -> Iterator[CellImage]:
    """The test images of a run, in the order of its split."""
    yield from images_of(config, split_of(config).test)


def _of_image(model: ScribbleUNet, cell: CellImage) -> dict[str, float]:
    """Layer -> silhouette of nuclei against background in an image."""
    found = {}
    for layer, (vectors, classes) in _vectors(model, cell):
        vectors, classes = _sample(vectors, classes, cell.id)
        both = 0 < classes.sum() < len(classes)
        found[layer] = silhouette_score(vectors, classes, metric="cosine") if both else np.nan
    return found


@torch.inference_mode()
def _vectors(
    model: ScribbleUNet, cell: CellImage
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Of each layer its name, the vectors (n, C) of an image, and their classes (n,) by the mask.

    A region that is partly nucleus belongs to neither class and is left out.
    """
    model.eval()
    image = to_unit(cell.image, intensity_range(cell.image, model.intensity))  # (3, H, W)
    height, width = image.shape[1:]
    border = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    truth = torch.from_numpy((cell.instances > 0).astype(np.uint8))  # (H, W)
    truth = F.pad(truth, border, value=IGNORE)[None]  # (1, H', W')

    with model.tapped(FACTORS) as features:
        model.logits(F.pad(image[None], border, mode="replicate"))
    for block, factor in FACTORS.items():
        classes = region_labels(truth, torch.full_like(truth, IGNORE), factor)[0]  # (h, w)
        maps = {"features": features[str(block)]}
        if str(block) in model.heads:
            maps["head"] = model.heads[str(block)](features[str(block)])
        for part, values in maps.items():
            known = classes != IGNORE
            yield f"{part}, block {block}", (_rows(values, known), classes[known].numpy())


def _rows(values: Tensor, known: Tensor) -> np.ndarray:
    """Vectors (1, C, h, w) at the places `known` (h, w), as (n, C)."""
    return values[0].permute(1, 2, 0)[known].numpy()


def _sample(vectors: np.ndarray, classes: np.ndarray, image: str) -> tuple[np.ndarray, np.ndarray]:
    """As many vectors of one class as of the other, `MOST` at most; the same for every network."""
    rng = np.random.default_rng(seed_for("separation", image))
    places = [np.flatnonzero(classes == value) for value in (0, 1)]
    count = min(MOST, *map(len, places))
    chosen = np.concatenate([rng.choice(own, count, replace=False) for own in places])
    return vectors[chosen], classes[chosen]


def _draw_components(ax: Axes, vectors: np.ndarray, classes: np.ndarray) -> None:
    """Draws two principal components of unit vectors; the title has their silhouette."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    components = PCA(2, random_state=0).fit_transform(vectors / np.maximum(length, 1e-12))
    for value, colour, name in ((0, BACKGROUND, "background"), (1, FOREGROUND, "nucleus")):
        own = components[classes == value]
        ax.scatter(*own.T, s=3, color=colour, alpha=0.4, lw=0, label=name)
    ax.set_title(f"silhouette {silhouette_score(vectors, classes, metric='cosine'):.2f}")
