"""The masks that runs keep of test images: which are shown, and how one is read."""

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


def kept_images(folder: Path) -> dict[str, Path]:
    """Test image -> file of its mask, of all that a run keeps, by name."""
    return {file.stem: file for file in sorted((folder / "masks").glob("*.png"))}


def read_mask(file: Path) -> np.ndarray:
    """What a run called nucleus in a test image: (H, W) bool.

    Raises:
        S2LError: the picture is damaged or is no mask.
    """
    try:
        values = read_values(file)
        if not 0 <= values.min() <= values.max() <= 1:
            raise Fault("label-values", file, f"values from {values.min()} to {values.max()}")
    except Fault as fault:
        again = "Restore it, or delete the run's folder and run it anew"
        raise S2LError(f"{file}: not a 1-bit mask ({fault.finding.found}). {again}.") from fault
    return values > 0
