"""Cells that are made in a moment, and a training on them that takes a second: for the core."""

import numpy as np

from s2l_core.config import IGNORE, RunConfig, seed_for
from s2l_core.images import CellImage
from s2l_core.trainer import Trainer

SIDE = 64
ENCODER = "tu-lcnet_050"  # a fortieth of ResNet-34


def cell(name: str, nuclei: int = 6, side: int = SIDE) -> CellImage:
    """Bright discs on dark, noisy ground; all nuclei but the last have a stroke, the ground two."""
    rng = np.random.default_rng(seed_for("tiny", name))
    rows, columns = np.indices((side, side))
    instances = np.zeros((side, side), np.int32)
    scribbles = np.full((side, side), IGNORE, np.uint8)
    for label in range(1, nuclei + 1):
        row, column = rng.integers(8, side - 8, 2)
        disc = np.hypot(rows - row, columns - column) < rng.integers(4, 8)
        instances[disc & (instances == 0)] = label
        if label < nuclei:
            scribbles[row, column - 2 : column + 3] = 1
    scribbles[(scribbles == 1) & (instances == 0)] = IGNORE
    scribbles[2][instances[2] == 0] = scribbles[:, 2][instances[:, 2] == 0] = 0

    grey = 40 + 120 * (instances > 0) + rng.normal(0, 12, (side, side))
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return CellImage(name, image, instances, scribbles)


def cells(*names: str) -> list[CellImage]:
    """Three images to learn from, unless others are named."""
    return [cell(name) for name in names or ("a", "b", "c")]


def config(method: str = "s2l-r1-r4", **fields) -> RunConfig:
    """Four steps of warm-up and four of the main stage, two crops each."""
    small = {"encoder": ENCODER, "crop": SIDE, "max_regions": 200}
    return RunConfig("cells", method, profile="smoke", **small | fields)


def trainer(method: str = "s2l-r1-r4", **fields) -> Trainer:
    """A training that has not begun, with one image to validate on."""
    return Trainer(config(method, **fields), cells(), validation=cells("v"), progress=False)
