"""A step of the main stage with both contrastive terms, beside the same step of S2L alone."""

from functools import partial

import torch

from benchmarks import inputs
from benchmarks.harness import Row, Scale, ratio
from s2l_core.config import IGNORE, METHODS
from s2l_core.losses import region_labels
from s2l_core.pseudo_labels import threshold

NETWORKS = {"": {}, "Lite0: ": {"encoder": "efficientnet-lite0"}}  # ResNet-34 has no name before


def measure(scale: Scale) -> list[Row]:
    """Both classes full at every scale, and labels as a good network gives them on real crops;
    for ResNet-34 and for EfficientNet-Lite0.
    """
    return [row for name, settings in NETWORKS.items() for row in beside(scale, name, settings)]


def beside(scale: Scale, name: str, settings: dict) -> list[Row]:
    """The rows of one network."""
    s2l, both = (
        inputs.run(inputs.config(scale, method, **settings)) for method in ("s2l", "s2l-r1-r4")
    )
    real = s2l.data.batch(0, inputs.averages(s2l))
    full = inputs.all_labelled(real)
    cases = {
        "S2L": partial(s2l._optimise, real),
        "full": partial(both._optimise, full),
        "real": partial(both._optimise, real),
    }
    times = scale.turns(cases, rounds=7)
    return [
        ratio(
            f"{name}both terms, classes full ({drawn(full, both.config)})",
            times["full"],
            "S2L",
            times["S2L"],
            "<= 1.35",
        ),
        ratio(
            f"{name}both terms, {both.config.dataset} ({drawn(real, both.config)})",
            times["real"],
            "S2L",
            times["S2L"],
            "<= 1.25",
        ),
    ]


def drawn(batch: dict[str, torch.Tensor], config) -> str:
    """How many regions of each class the terms compare."""
    pseudo = threshold(batch["averaged"], 1 - config.confidence, config.confidence)
    pseudo = pseudo.masked_fill(batch["scribbles"] != IGNORE, IGNORE)
    counts = []
    for term in METHODS["s2l-r1-r4"].scales:
        labels = region_labels(pseudo, batch["scribbles"], term.factor)
        found = [min(int((labels == value).sum()), config.max_regions) for value in (1, 0)]
        counts.append(f"{term.name} {found[0]} + {found[1]}")
    return ", ".join(counts)
