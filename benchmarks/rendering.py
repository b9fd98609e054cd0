"""Rendering the embedded data set, each kind of image on one core."""

from functools import partial

from benchmarks.harness import Row, Scale, absolute
from s2l_paper.data.synthetic import MODALITIES, generate


def measure(scale: Scale) -> list[Row]:
    """A hundred images of 256 x 256 pixels, and their truth."""
    count, side = scale.pick((2, 64), (100, 256))
    times = scale.turns(
        {modality: partial(generate, modality, count, side) for modality in MODALITIES}, rounds=3
    )
    return [
        absolute(f"synthetic-{name}, {count} of {side} x {side}", times[name], "<= 10")
        for name in MODALITIES
    ]
