"""Prediction of large images in tiles: time beside its bare forward passes, memory,
and what tiles change.
"""

import time
from functools import partial

import numpy as np

from benchmarks import inputs
from benchmarks.harness import Case, Row, Scale, absolute, in_fresh_process, ratio, seconds
from s2l_core.inference import predict
from s2l_core.model import ScribbleUNet
from s2l_paper.data.synthetic import render


def measure(scale: Scale) -> list[Row]:
    """Time, memory, and the largest difference to an untiled prediction for a few overlaps."""
    model = trained(scale)
    side, tile = scale.pick((160, 64), (2048, 1024), (10_000, 1024))
    forwards, image = timed(model), picture(side)
    totals, bare = [], []
    for _ in range(scale.pick(1, 2, 1)):
        forwards.clear()
        totals.append(seconds(partial(predict, model, image, tile=tile, overlap=tile // 16)))
        bare.append(sum(forwards))
    memory = in_fresh_process(prepare, side, tile)[1]
    return [
        ratio(
            f"{side} x {side} in tiles of {tile}",
            totals,
            f"bare passes of its {len(forwards)} tiles",
            bare,
            "<= 1.15",
        ),
        absolute(f"{side} x {side}, extra peak memory", [memory], "<= 1536", "MiB"),
        *differences(
            model,
            *scale.pick(
                (96, 64, (0, 16)),
                (1024, 512, (0, 32, 64, 128)),
                (3072, 1024, (0, 32, 64, 96, 128, 192)),
            ),
        ),
    ]


def differences(model, side: int, tile: int, overlaps: tuple[int, ...]) -> list[Row]:
    """Largest difference of probability to an untiled prediction."""
    image = picture(side)
    whole = predict(model, image, tile=side + -side % 32, overlap=0)
    rows = []
    for overlap in overlaps:
        far = np.abs(predict(model, image, tile=tile, overlap=overlap) - whole)
        name = f"{side} x {side}, tiles of {tile}, overlap {overlap}"
        rows += [absolute(f"{name}: largest difference", [float(far.max())], unit="probability")]
        rows += [
            absolute(
                f"{name}: pixels off by 0.05 or more",
                [float((far >= 0.05).mean())],
                unit="of pixels",
            )
        ]
    return rows


def trained(scale: Scale) -> ScribbleUNet:
    """A network that has learned a little: what it sees around a pixel matters more than in random
    weights.
    """
    steps = scale.pick(2, 40, 150)
    run = inputs.run(
        inputs.config(scale, "supervised", "synthetic-fluo", batch=4, crop=128, warmup_steps=steps),
        main=False,
    )
    run.advance(run.config.warmup_steps)
    return run.model


def picture(side: int) -> np.ndarray:
    """A synthetic fluorescence image (side, side, 3), repeated to that size."""
    image = render("fluo", 512, 0)[0]
    times = -(-side // 512)
    return np.tile(image, (times, times, 1))[:side, :side].copy()


def prepare(side: int, tile: int) -> Case:
    """One prediction, after a small one that loads the libraries."""
    model = ScribbleUNet(intensity="stretch")
    predict(model, picture(64))
    return partial(predict, model, picture(side), tile=tile, overlap=tile // 16)


def timed(model: ScribbleUNet) -> list[float]:
    """Seconds of each forward pass from here on."""
    bare, spent = model.logits, []

    def logits(image):
        start = time.perf_counter()
        result = bare(image)
        spent.append(time.perf_counter() - start)
        return result

    model.logits = logits
    return spent
