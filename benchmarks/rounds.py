"""Short rounds on one's own images: what the network learns from its own averages,
and from the forest's guess.

In each of three trials a simulated annotator draws on three other training images of fold 0; IoU is
the mean over the test images, which nobody drew on, and its median over the trials is shown. The
second round goes on from the first, and nobody draws in between.
"""

import contextlib
import io
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.first_mask import write_folder
from benchmarks.harness import Row, Scale, absolute
from s2l_core.inference import predict
from s2l_core.metrics import iou
from s2l_images.learning.forest import fit_random_forest, predict_random_forest
from s2l_images.learning.kept_models import load_model, round_file
from s2l_images.learning.rounds import train_round
from s2l_paper.data.datasets import load_dataset, splits

ROUND_STEPS = 72  # of notebook 08


def measure(scale: Scale) -> list[Row]:
    """IoU of the forest, and of the network after one round and after two,
    by what its pseudo-labels are.
    """
    name, trials, steps = scale.pick(("synthetic-fluo", 1, 12), ("dsb-bf", 3, ROUND_STEPS))
    settings = scale.pick({"crop": 64, "max_regions": 100}, {})
    found: dict[str, list[float]] = {}
    for trial in range(trials):
        with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, S2L_PLAIN="1"):
            for case, value in learned(
                name, trial, Path(home) / "cells", steps=steps, **settings
            ).items():
                found.setdefault(case, []).append(value)
    return [
        absolute(f"{name}, {steps} steps a round: IoU of {case}", each, unit="IoU")
        for case, each in found.items()
    ]


def learned(name: str, trial: int, folder: Path, **settings) -> dict[str, float]:
    """Case -> mean IoU on the test images."""
    if name.startswith("synthetic"):
        cells = load_dataset(name, images=4, image_size=96)
        drawn, test = cells[:3], cells[3:]
    else:
        split, real = splits(name, 0), {cell.id: cell for cell in load_dataset(name)}
        drawn, test = (
            [real[i] for i in part] for part in (split.train[3 * trial :][:3], split.test)
        )
    write_folder(folder, drawn)
    given = load_dataset(str(folder))
    forest = fit_random_forest([cell.image for cell in given], [cell.scribbles for cell in given])
    guess = {cell.id: predict_random_forest(forest, cell.image) for cell in given}

    def score(answer) -> float:
        return float(np.mean([iou(cell.instances, answer(cell.image) > 0.5) for cell in test]))

    found = {"the random forest": score(lambda image: predict_random_forest(forest, image))}
    for source, held in (("the forest's guess", guess), ("its own averages", None)):
        done = None
        for turn, number in enumerate(("one round", "two rounds")):
            start = round_file(folder, done.number) if done else None
            with contextlib.redirect_stdout(io.StringIO()):
                done = train_round(folder, guess=held, start=start, seed=turn, **settings)
            # The network of this round, whether or not it came into use.
            model, _ = load_model(round_file(folder, done.number))
            found[f"the network after {number} on {source}"] = score(
                lambda image, model=model: predict(model, image)
            )
    return found
