"""Training in rounds on a folder of one's own: draw, let it learn, correct, go on. Scribbles are all it needs."""

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from s2l_core import paths, results
from s2l_core.config import RunConfig, S2LError
from s2l_core.inference import pick_device
from s2l_core.model import ScribbleUNet
from s2l_core.trainer import _Run

UPDATES = 6  # averaged predictions in a round: how often the picture fills in

Watch = Callable[[Mapping[str, np.ndarray]], object]


def train_round(
    folder: Path, *, steps: int, start: Path | None = None, watch: Watch | None = None, seed: int = 0, **settings
) -> ScribbleUNet:
    """Trains on the images of a folder that carry scribbles, and saves the model in `paths.own_results`.

    A round has a warm-up and a main stage, as any run. It averages predictions anew: those of the round before were
    made without the strokes that have been drawn since. Interrupted, it keeps what was learned so far, and says so.

    Args:
        folder: `images/` and `scribbles/`, as `load_dataset` reads them.
        steps: optimiser steps; a few hundred are a few minutes on two cores.
        start: a `model.safetensors` to go on from; None: random weights.
        watch: called now and then with image id -> averaged probability (H, W) of the images that are learned from.
        seed: of the weights and crops.
        settings: other fields of `RunConfig`.

    Raises:
        S2LError: nothing is drawn, or only one class; `start` is no model of ours; steps are too few.
    """
    if steps < 2 * UPDATES:
        raise S2LError(f"steps = {steps}: a round has {2 * UPDATES} at least. Raise steps.")
    before = load_model(start) if start else None
    if before:
        settings = {"encoder": before[1].encoder, "intensity": before[1].intensity} | settings
    every = steps // UPDATES
    lengths = {"average_every": every, "warmup_steps": every if before else 3 * every, "validate_every": steps}
    lengths["main_steps"] = steps - lengths["warmup_steps"]
    config = RunConfig(str(folder), "s2l-r1-r4", profile="demo", seed=seed, **lengths | settings)
    with contextlib.redirect_stdout(io.StringIO()):  # what is said of validation and test means nothing here
        run = _Round(config, pick_device(), True)
    run.watch = watch or (lambda averaged: None)
    if before:
        weights = before[0].state_dict()
        run.model.load_state_dict({name: weights[name] for name in run.model.state_dict()})
    try:
        with run.kept():
            run.advance(config.warmup_steps)
            run.fork()
            run.advance(config.total_steps)
    except KeyboardInterrupt:
        print(f"stopped after step {run.step} of {steps}; what was learned is kept. Run the cell again to go on.")
    results.save_model(paths.own_results(folder), run.model.state_dict(), run.config)
    return run.model


def load_model(file: Path) -> tuple[ScribbleUNet, RunConfig]:
    """A model that a run or a round saved, and the configuration it was trained with.

    Raises:
        S2LError: no such file, or not one of ours.
    """
    try:
        with safe_open(file, "pt") as stored:
            config = RunConfig.from_dict(json.loads(stored.metadata()["config"]))
            weights = {name: stored.get_tensor(name) for name in stored.keys()}
        scales = config.scales if any(name.startswith("heads") for name in weights) else ()
        model = ScribbleUNet(config.encoder, scales, intensity=config.intensity)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise S2LError(f"{file}: no model that was saved here ({reason}). Choose another, or start anew.") from error
    return model, config


class _Round(_Run):
    """A run that shows its averaged predictions while it goes on."""

    watch: Watch

    def _update_averages(self) -> dict[str, float]:
        row = super()._update_averages()
        self.watch({image.id: self.pseudo.average(image.id).numpy() for image in self.data.images})
        return row
