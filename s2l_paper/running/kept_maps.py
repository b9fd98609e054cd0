"""The probability maps that runs keep of test images: which are shown, and how one is read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s2l_core.config import RunConfig, S2LError
from s2l_core.profiles import DATASETS
from s2l_images.faults import Fault
from s2l_images.reading.label_images import read_values
from s2l_paper.running import results


def first_runs(profile: str, dataset: str, methods: Sequence[str]) -> dict[str, RunConfig]:
    """Finished runs of the first fold that has any, by method."""
    for fold in range(DATASETS[dataset][1]):
        configs = {name: RunConfig(dataset, name, fold=fold, profile=profile) for name in methods}
        finished = {name: config for name, config in configs.items() if results.is_done(config)}
        if finished:
            return finished
    return {}


def probability_map(file: Path) -> np.ndarray:
    """A kept probability (H, W) in [0, 1]; S2LError where the picture is damaged
    or is not such a map.
    """
    try:
        values = read_values(file)
        if not 0 <= values.min() <= values.max() <= 255:
            raise Fault("label-values", file, f"values from {values.min()} to {values.max()}")
    except Fault as fault:
        again = "Restore it, or delete the run's folder and run it anew"
        raise S2LError(
            f"{file}: not an 8-bit probability map ({fault.finding.found}). {again}."
        ) from fault
    return values.astype(np.float32) / 255
