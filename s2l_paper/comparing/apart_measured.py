"""Touching nuclei of runs told apart and scored: settings by validation images, then test images.

What a run found on its test images comes from the masks that it keeps; of older runs, which kept
those of a few images only, from their weights where they are at hand, or from a baseline that is
fitted anew. Settings are tried on validation images, which needs weights or a fit.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from s2l_core.config import METHODS, RunConfig
from s2l_core.images import CellImage
from s2l_core.inference import predict
from s2l_core.metrics import aji, f1, instances
from s2l_core.profiles import DATASETS
from s2l_images.files import write_text
from s2l_images.learning.kept_models import load_model
from s2l_images.nuclei.split import Split, SplitExploded, divided, usual_diameter
from s2l_paper import paths
from s2l_paper.comparing import apart
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.running import results
from s2l_paper.running.baselines import fit_baseline
from s2l_paper.running.kept_masks import kept_images, read_mask

SPACINGS, SMOOTHINGS = (0.3, 0.45, 0.6, 0.8, 1.0), (0.1, 0.2)  # of a diameter
MOST_IMAGES = 12  # validation images of a run that are looked at, spread over all of them

Predictor = Callable[[np.ndarray], np.ndarray]  # image (H, W, 3) uint8 -> probability (H, W)


def measure(profile: str) -> pd.DataFrame:
    """Scores the test images of every run of a profile; writes `apart.csv`.

    A setting for each data set, test part and family of methods (networks, random forest, Otsu) is
    chosen once on validation images, with the first run whose weights are at hand, and is then kept
    in `apart_settings.csv`. Delete its rows to choose anew; what was measured with another setting
    is measured again where it can be had. Of a baseline the first run of each data set and test
    part is measured.

    Args:
        profile: a name in PROFILES.

    Returns:
        The table: a row for each run and test image.

    Raises:
        S2LError: images are not at hand.
    """
    configs = _looked_at(profile)
    before = apart.measured(profile)
    kept = before[before.run_id.isin(list(configs))]

    # Every setting first: the weights that choose it may be of a later run than is scored by it.
    for config in configs.values():
        if _tried_for(config).empty and (ask := _predictor(config)):
            _try_settings(config, ask)

    for run_id, config in configs.items():
        settings = _tried_for(config)
        if settings.empty:
            print(f"{run_id}: no setting was chosen yet: {_family(config)} need weights here")
            continue
        best = apart.chosen(settings)
        there = (kept.run_id == run_id) & (kept[apart.SETTING] == best[apart.SETTING]).all(axis=1)
        if set(kept.image[there]) >= _measurable(config):
            continue

        ask = None if _all_kept(config) else _predictor(config)
        new = pd.DataFrame(_scored(config, ask, best), columns=apart.MEASURED_COLUMNS).round(4)
        kept = kept[(kept.run_id != run_id) | ~kept.image.isin(new.image)]
        kept = pd.concat([kept, new]) if len(kept) else new

        # Written run by run: who stops it loses the last one only.
        kept = kept.sort_values(["run_id", "image"], ignore_index=True)
        write_text(paths.apart(profile), kept.to_csv(index=False))
        print(f"{run_id}: {len(new)} test images", flush=True)
    return kept


def _measurable(config: RunConfig) -> set[str]:
    """The test images whose objects can be had: all, or where weights are elsewhere those kept."""
    if METHODS[config.method].baseline or _weights(config).exists():
        return set(split_of(config).test)
    return set(split_of(config).test) & set(kept_images(results.folder_of(config)))


def _all_kept(config: RunConfig) -> bool:
    """Whether a run keeps what it found on every test image."""
    return set(split_of(config).test) <= set(kept_images(results.folder_of(config)))


def _looked_at(profile: str) -> dict[str, RunConfig]:
    """Id -> configuration of runs of Table 1, of baselines the first of a test part."""
    found, fitted = {}, set()
    for config in sorted(results.finished(profile), key=lambda one: (one.fold, one.rotation)):
        place = (config.dataset, config.method, config.rotation)
        if config.dataset not in DATASETS or results.variant(config) or place in fitted:
            continue
        if METHODS[config.method].baseline:
            fitted.add(place)
        found[results.run_id(config)] = config
    return found


def _family(config: RunConfig) -> str:
    """What a setting is chosen for: one for all networks, and one for each baseline."""
    return config.method if METHODS[config.method].baseline else "networks"


def _tried_for(config: RunConfig) -> pd.DataFrame:
    """The settings that were tried for a data set, test part and family."""
    table = apart.tried()
    own = (table.dataset == config.dataset) & (table["rotation"] == config.rotation)
    return table[own & (table.family == _family(config))]


def _predictor(config: RunConfig) -> Predictor | None:
    """What gives the probabilities of any image; None where the weights are elsewhere."""
    if METHODS[config.method].baseline:
        return fit_baseline(config)
    file = _weights(config)
    return partial(predict, load_model(file)[0]) if file.exists() else None


def _weights(config: RunConfig) -> Path:
    """Where a run's weights are, on the machine that trained it."""
    return paths.model(results.folder_of(config))


def _diameter(config: RunConfig) -> float:
    """Width in pixels of a usual nucleus, by the masks of the run's validation images."""
    areas: list[int] = []
    for cell in images_of(config, split_of(config).validation):
        areas += np.unique(cell.instances[cell.instances > 0], return_counts=True)[1].tolist()
    return round(usual_diameter(np.array(areas)), 1)


def _try_settings(config: RunConfig, ask: Predictor) -> None:
    """Scores every setting on a run's validation images, and writes `apart_settings.csv`."""
    ids = split_of(config).validation
    ids = ids[:: -(-len(ids) // MOST_IMAGES)]
    width = _diameter(config)
    settings = [None, *(Split(*pair) for pair in product(SPACINGS, SMOOTHINGS))]
    scores, refused = [], set()
    for cell in images_of(config, ids):
        objects = instances(ask(cell.image))
        for number, setting in enumerate(settings):
            pieces, exploded = _pieces(objects, width, setting)
            if exploded:
                refused.add(number)
            scores.append((number, aji(cell.instances, pieces), f1(cell.instances, pieces)))

    means = pd.DataFrame(scores, columns=["number", "aji", "f1"]).groupby("number").mean()

    # A setting that one of these images refuses is none for others.
    settings = [one for number, one in enumerate(settings) if number not in refused]
    means = means.drop(index=list(refused))
    rows = means.assign(
        dataset=config.dataset,
        rotation=config.rotation,
        family=_family(config),
        spacing=[apart.TOGETHER if one is None else one.spacing for one in settings],
        smoothing=[0.0 if one is None else one.smoothing for one in settings],
        images=len(ids),
        run_ids=results.run_id(config),
    )
    rows, table = rows[apart.TRIED_COLUMNS].round(4), apart.tried()
    table = pd.concat([table, rows]) if len(table) else rows
    table = table.sort_values([*apart.TRIED_KEYS, *apart.SETTING], ignore_index=True)
    write_text(paths.apart_settings(), table.to_csv(index=False))


def _objects(
    config: RunConfig, ask: Predictor | None
) -> Iterator[tuple[CellImage, np.ndarray, str]]:
    """The test images of a run, each with its objects (H, W) and where these come from."""
    folder, test = results.folder_of(config), split_of(config).test
    if ask is None or _all_kept(config):
        kept = kept_images(folder)
        for cell in images_of(config, [name for name in test if name in kept]):
            yield cell, instances(read_mask(kept[cell.id])), "kept mask"
        return
    source = "fitted" if METHODS[config.method].baseline else "weights"
    for cell in images_of(config, test):
        yield cell, instances(ask(cell.image)), source


def _scored(config: RunConfig, ask: Predictor | None, best: pd.Series) -> Iterator[dict]:
    """A row for each test image whose objects can be had, told apart with the setting `best`."""
    split = None if best.spacing == apart.TOGETHER else Split(best.spacing, best.smoothing)
    width = _diameter(config)
    for cell, objects, source in _objects(config, ask):
        pieces, exploded = _pieces(objects, width, split)
        if exploded:
            print(f"{results.run_id(config)}: {cell.id} stays together, since {exploded}")
        yield {
            "run_id": results.run_id(config),
            "image": cell.id,
            "source": source,
            "diameter": width,
            "spacing": best.spacing,
            "smoothing": best.smoothing,
            "refused": bool(exploded),
            "aji_together": aji(cell.instances, objects),
            "aji_apart": aji(cell.instances, pieces),
            "f1_together": f1(cell.instances, objects),
            "f1_apart": f1(cell.instances, pieces),
        }


def _pieces(objects: np.ndarray, width: float, setting: Split | None) -> tuple[np.ndarray, str]:
    """Objects (H, W) told apart, and ""; or left together, and why the setting was refused."""
    if setting is None:
        return objects, ""
    try:
        return divided(objects, width, setting), ""
    except SplitExploded as error:
        return objects, str(error)
