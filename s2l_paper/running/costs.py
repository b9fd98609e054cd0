"""What a run will take, before it starts: seconds of each kind of work, times how much there is.

It is in this package and not beside the Snakefile, since the benchmarks that measure the constants
and the page about clusters import it as well, and workflow/ is no package.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from s2l_core.config import METHODS, RunConfig, ScaleTerm
from s2l_core.profiles import SYNTHETIC
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.running import results

# Of an image, in units of 256 x 256 pixels.
AREAS = {"dsb-bf": 16.0, "dsb-fluo": 2.2, "monuseg": 15.3}
SIZES = {"resnet18": 0.7, "efficientnet-lite0": 0.6}  # time of a network, ResNet-34's is 1
# Seconds for 256 x 256 pixels, training and test images together.
BASELINES = {"otsu": 0.01, "random-forest": 0.2}
START = 15.0  # seconds that the notebook of a run takes for libraries, scores and pictures


@dataclass(frozen=True)
class Cost:
    """Seconds of one step, of 256 x 256 pixels trained on, with a head, predicted, or cut out;
    of a pair of regions.
    """

    step: float  # whatever the crops: the optimiser
    train: float
    head: float  # at full resolution
    forward: float
    crop: float
    pair: float  # of a contrastive term, N^2 of them


COSTS = {
    # `python -m benchmarks cost` on one of two cores of an AMD EPYC with AVX2,
    # the other busy too; PyTorch 2.14
    "cpu": Cost(step=0.1, train=0.75, head=0.03, forward=0.22, crop=0.004, pair=2.4e-9),
    # estimated, not measured: 2e13 operations and 1e12 bytes a second;
    # one thread of a processor cuts the crops
    "cuda": Cost(step=0.005, train=2.4e-3, head=2e-4, forward=8e-4, crop=0.01, pair=3e-11),
}


def estimate_seconds(
    config: RunConfig, device: str = "cpu", *, warmup=False, cost: Cost | None = None
) -> float:
    """Seconds that a run takes on one core, or on one GPU; a warm-up that it shares is not in it.

    Args:
        config: the run.
        device: `cpu` or `cuda`.
        warmup: of the shared warm-up instead; 0 where the run has none.
        cost: measured seconds, where those of `COSTS` are not wanted.
    """
    cost, method = cost or COSTS[device], METHODS[config.method]
    if warmup and not method.forks:
        return 0.0
    areas, images = _areas(config)
    if method.baseline:
        return START + (areas["train"] + areas["test"]) * BASELINES[config.method]

    def predictions(part: str, times: int) -> float:
        return times * areas[part] * SIZES.get(config.encoder, 1.0) * cost.forward

    def warm_up_steps() -> float:
        return config.warmup_steps * _step(config, cost, images, ())

    if warmup:
        updates = config.warmup_steps // config.average_every
        return START + warm_up_steps() + predictions("train", updates)

    # The main stage, validated now and then; both of its checkpoints predict the test images.
    scales = config.scales if method.pseudo else ()
    total = START + config.main_steps * _step(config, cost, images, scales)
    total += predictions("test", 2)
    total += predictions("validation", -(-config.main_steps // config.validate_every))
    if method.pseudo:
        every = config.average_every_main or config.average_every
        total += predictions("train", config.main_steps // every)

    # A method that shares no warm-up trains through it.
    return total if method.forks else total + warm_up_steps()


def _step(config: RunConfig, cost: Cost, images: int, scales: tuple[ScaleTerm, ...]) -> float:
    """Seconds of one optimiser step with these contrastive terms."""
    size = SIZES.get(config.encoder, 1.0)
    batch = min(config.batch, images) * (config.crop / 256) ** 2  # in units of 256 x 256 pixels
    seconds = size * (cost.step + batch * cost.train)
    for scale in scales:
        regions = min(2 * config.max_regions, batch * (256 / scale.factor) ** 2)
        seconds += batch * cost.head / scale.factor**2 + cost.pair * regions**2

    # Crops are cut while the step before computes, so only the slower of the two counts.
    return max(seconds, batch * cost.crop)


def _areas(config: RunConfig) -> tuple[dict[str, float], int]:
    """Pixels of each part of the split in units of 256 x 256, and the number of training images."""
    split = split_of(config)
    parts = asdict(split)
    if config.dataset in AREAS or config.dataset in SYNTHETIC:
        each = AREAS.get(config.dataset) or (config.image_size / 256) ** 2
        return {part: each * len(ids) for part, ids in parts.items()}, len(split.train)
    sizes = {
        part: sum(image.image[..., 0].size for image in images_of(config, ids))
        for part, ids in parts.items()
    }
    return {part: size / 256**2 for part, size in sizes.items()}, len(split.train)


def core_minutes(folder: Path) -> float:
    """Minutes of one core that a finished run took, its warm-up included, as its record says.

    Wall time of a run whose threads had their cores to themselves; elsewhere more.

    Args:
        folder: of the run.
    """
    with results.reading(folder):
        env = json.loads((folder / "env.json").read_text())
        return (env["seconds"] + env.get("warmup_seconds", 0)) * env["threads"] / 60


def batch_minutes(folders: Iterable[Path]) -> float:
    """Core-minutes of finished runs of one fold, whose warm-up they share: it counts once."""
    alone, shared = 0.0, 0.0
    for folder in folders:
        with results.reading(folder):
            env = json.loads((folder / "env.json").read_text())
        alone += env["seconds"] * env["threads"] / 60
        shared = max(shared, env.get("warmup_seconds", 0) * env["threads"] / 60)
    return alone + shared


def announce(runs: Iterable[RunConfig], warmups: Iterable[RunConfig], cores: int) -> str:
    """One line about a batch: how many runs, and how long."""
    runs, warmups = list(runs), list(warmups)

    def hours(device: str) -> float:
        shared = sum(estimate_seconds(run, device, warmup=True) for run in warmups)
        return (sum(estimate_seconds(run, device) for run in runs) + shared) / 3600

    here = hours("cpu") / cores
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    where = "1 core" if cores == 1 else f"{cores} cores"
    line = f"{count}, about {_spoken(here)} on {where}"
    if here > 24:
        line += f", or {_spoken(hours('cuda'))} on one GPU (estimated, not measured)"
    return line


def _spoken(hours: float) -> str:
    if hours < 2:
        return f"{max(60 * hours, 2):.0f} minutes"
    return f"{hours:.2g} hours" if hours < 100 else f"{round(hours, -1):,.0f} hours"
