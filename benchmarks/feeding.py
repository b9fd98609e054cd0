"""Steps fed by the real loader, augmentation included, beside steps on a batch that is at hand."""

import copy
from functools import partial

from benchmarks import inputs
from benchmarks.harness import Row, Scale, ratio
from s2l_core.batches import Prefetcher

BLOCK_STEPS = (
    2  # of a block: as long as no averaged prediction is due, the loader is one batch ahead
)


def measure(scale: Scale) -> list[Row]:
    """Grey images, and stained ones, whose colour is jittered too; then the paper's batch,
    cut as for a GPU.
    """
    grey = inputs.run(inputs.config(scale, "s2l", batch=4))
    stained = inputs.run(inputs.config(scale, "s2l", "synthetic-he", batch=4))
    fixed, pseudo = grey.data.batch(0, inputs.averages(grey)), inputs.averages(stained)
    stained.data.colour = True  # also where a smoke test takes other images
    loaders = {"fed": Prefetcher(grey.data, inputs.averages(grey), grey.device)}
    loaders["stained"] = Prefetcher(stained.data, pseudo, stained.device)
    cases = {name: partial(fed, grey, loader) for name, loader in loaders.items()}
    times = scale.turns({"fixed": partial(blocked, grey, fixed)} | cases)
    wide = copy.copy(grey.data)
    wide.size = scale.pick(2, 29)
    cutting = {n: Prefetcher(wide, inputs.averages(grey), grey.device, cutters=n) for n in (0, 2)}
    spent = scale.turns(
        {str(n): partial(loader.batch, 0, prefetch_next=False) for n, loader in cutting.items()}
    )
    for loader in (*loaders.values(), *cutting.values()):
        loader.close()
    name = f"{BLOCK_STEPS} steps of {grey.data.size} crops"
    return [
        ratio(
            f"{name}, {grey.config.dataset}", times["fed"], "fixed batch", times["fixed"], "<= 1.05"
        ),
        ratio(
            f"{name}, {stained.config.dataset}",
            times["stained"],
            "fixed batch",
            times["fixed"],
            "<= 1.05",
        ),
        ratio(f"a batch of {wide.size} crops, by two threads", spent["2"], "by one", spent["0"]),
    ]


def blocked(run, batch) -> None:
    """Steps on one batch."""
    for _ in range(BLOCK_STEPS):
        run._optimise(batch)


def fed(run, loader: Prefetcher) -> None:
    """As many steps and as many batches: the first was prepared at the end of the block before."""
    for step in range(BLOCK_STEPS):
        run._optimise(loader.batch(step, prefetch_next=True))
    loader._waiting.result()
