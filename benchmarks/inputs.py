"""What is measured on: nuclei of made-up images, runs that stand at the start of a stage,
batches with known labels.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from benchmarks.harness import Scale
from s2l_core.config import IGNORE, RunConfig, seed_for
from s2l_core.pseudo_labels import PseudoLabels
from s2l_core.trainer import Trainer
from s2l_paper import paths
from s2l_paper.data.sources import locate
from s2l_paper.running.runs import new_trainer


def nuclei(side: int, count: int, radius: tuple[float, float], seed: int = 0) -> np.ndarray:
    """Ellipses (side, side) int32, labelled 1 to `count` or less;
    the first of two that overlap is cut.
    """
    rng = np.random.default_rng(seed_for("benchmarks", "nuclei", seed))
    instances = np.zeros((side, side), np.int32)
    for label in range(1, count + 1):
        centre, reach = rng.uniform(0, side, 2), rng.uniform(*radius, 2)
        rows, columns = (
            slice(max(0, int(c - r)), int(c + r) + 2) for c, r in zip(centre, reach, strict=True)
        )
        window = instances[rows, columns]
        grid = np.indices(window.shape) + np.array([rows.start, columns.start])[:, None, None]
        window[(((grid - centre[:, None, None]) / reach[:, None, None]) ** 2).sum(0) <= 1] = label
    return instances


def fluorescence() -> str:
    """DSB-Fluo where its archive is at hand, else the synthetic set."""
    return "dsb-fluo" if locate("dsb-fluo", paths.raw_data()) else "synthetic-fluo"


def config(scale: Scale, method: str, dataset: str | None = None, **settings) -> RunConfig:
    """The network of the paper and its 6000 regions on crops of 256 x 256,
    learning from scratch.
    """
    if scale.name == "smoke":
        return RunConfig("synthetic-fluo", method, profile="smoke", **{"warmup_steps": 1})
    usual = {"subset": True, "batch": 8, "crop": 256, "max_regions": 6000, "warmup_steps": 1}
    return RunConfig(dataset or fluorescence(), method, profile="scratch", **usual | settings)


def run(config: RunConfig, *, main: bool = True) -> Trainer:
    """A run on the CPU, at the first step of its main stage or of its warm-up."""
    run = new_trainer(config, device="cpu", progress=False)
    if main:
        run.step = config.warmup_steps
        run.fork()
    return run


def averages(run: Trainer) -> PseudoLabels:
    """Averaged predictions as a good network would leave them: the masks, blurred by 2 px."""
    pseudo = PseudoLabels(run.config.averaging)
    for image in run.data.images:
        pseudo.update(
            image.id, ndimage.gaussian_filter((image.instances > 0).astype(np.float32), 2)
        )
    return pseudo


def all_labelled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with every pixel labelled, half of them foreground:
    both classes are full at every scale.
    """
    averaged = torch.zeros_like(batch["averaged"])
    averaged[:, : averaged.shape[1] // 2] = 1
    return batch | {"averaged": averaged, "scribbles": torch.full_like(batch["scribbles"], IGNORE)}
