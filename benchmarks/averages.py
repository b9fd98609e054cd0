"""Updating the averaged predictions of a data set,
beside the bare forward passes over the same pixels.
"""

from functools import partial

import torch
import torch.nn.functional as F

from benchmarks import inputs
from benchmarks.harness import Row, Scale, ratio
from s2l_core.augment import to_unit
from s2l_core.inference import MULTIPLE


def measure(scale: Scale) -> list[Row]:
    """The trainer's own update, of prediction, average, coverage and accuracy."""
    run = inputs.run(inputs.config(scale, "s2l"))
    run.data.images = run.data.images[: scale.pick(2, 6, 40)]
    ready = []
    for image in run.data.images:
        pixels = to_unit(image.image, run.data.limits[image.id])[None]
        height, width = pixels.shape[2:]
        ready.append(F.pad(pixels, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="reflect"))
    times = scale.turns(
        {"update": partial(update, run), "forward": partial(forward, run.model, ready)}
    )
    name = f"{len(ready)} images, {run.config.dataset}"
    return [ratio(name, times["update"], "bare forward passes", times["forward"], "<= 1.1")]


def update(run) -> None:
    """What the loop does each `average_every` steps."""
    run.step += run.config.average_every
    run._update_averages()


@torch.inference_mode()
def forward(model, images: list[torch.Tensor]) -> None:
    """The network, on images that are already padded tensors."""
    model.eval()
    for image in images:
        model.logits(image)
