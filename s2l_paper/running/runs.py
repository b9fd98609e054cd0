"""Runs of the paper: the data of a configuration, trained, scored on its test images, and
written.
"""

import copy
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from s2l_core.config import METHODS, RunConfig, S2LError
from s2l_core.metrics import score
from s2l_core.trainer import Trainer
from s2l_images import checkpoints
from s2l_images.files import alone, write_text
from s2l_images.progress import Progress
from s2l_paper import paths
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.running import results
from s2l_paper.running.baselines import fit_baseline
from s2l_paper.running.calibration import by_bin
from s2l_paper.scribbles.annotators import scribbles_of

Predictor = Callable[[np.ndarray], np.ndarray]  # image (H, W, 3) uint8 -> probability (H, W)


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves: its folder and the scores of every test image."""

    config: RunConfig
    folder: Path
    per_image: pd.DataFrame
    steps: pd.DataFrame


def train(
    config: RunConfig, *, resume=False, warmup: Path | None = None, progress=True, device=None
) -> RunResult:
    """Trains and scores one run; a finished one is read instead, and says so.

    Args:
        config: what to do.
        resume: go on from the run's own checkpoint, if there is one.
        warmup: folder given by `warm_up`; None trains the warm-up here, to the same weights bit for
            bit.
        progress: show a progress bar, or plain lines where there is no terminal.
        device: `auto` or None, or the name of a device.

    Raises:
        S2LError: an unfinished run exists and `resume` is False; or data, splits or scribbles are
            missing; or the run cannot go on (numbers, memory, disk), which leaves its last
            checkpoint.
        KeyboardInterrupt, SystemExit: on SIGINT or SIGTERM, after a checkpoint.
    """
    folder = results.folder_of(config)
    with alone(folder):
        if results.is_done(config):
            print(f"{folder.name}: finished before, reading it. Delete its folder to run it anew.")
            checkpoints.clear(folder)
            return RunResult(config, folder, *results.read_run(folder))

        if METHODS[config.method].baseline:
            _run_baseline(config)
            return RunResult(config, folder, *results.read_run(folder))

        begun = checkpoints.exist(folder)
        if begun and not resume:
            raise S2LError(
                f"{folder}: an unfinished run. Pass resume=True to go on with it, or delete the"
                " folder."
            )
        _run_network(
            config, folder, start=folder if begun else warmup, progress=progress, device=device
        )
        checkpoints.clear(folder)
        return RunResult(config, folder, *results.read_run(folder))


def _run_baseline(config: RunConfig) -> None:
    """Fits, scores and writes a baseline."""
    started = time.perf_counter()
    rows, masks, calibrated = score_test(config, {"last": fit_baseline(config)})
    seconds = time.perf_counter() - started
    results.write_run(config, rows, [], masks, seconds=seconds, calibrated=calibrated)


def _run_network(
    config: RunConfig, folder: Path, *, start: Path | None, progress: bool, device
) -> None:
    """Trains a network, or goes on from the checkpoint in `start`; scores both of its checkpoints
    and writes.
    """
    trainer = new_trainer(config, progress=progress, device=device)
    if start:
        checkpoints.restore(trainer, start)
    try:
        with checkpoints.kept(trainer, folder):
            trainer.fit()
            checkpoints.save_model(folder, trainer.weights("best"), config)
            rows, masks, calibrated = score_test(config, _predictors(trainer))
            if results.run_id(config) != folder.name:
                raise S2LError(
                    f"{config.dataset}: its files changed during the training. Run it again."
                )
            times = trainer.seconds()
            results.write_run(config, rows, trainer.history, masks, calibrated=calibrated, **times)
    except (KeyboardInterrupt, SystemExit):
        # Who stops a long run may want to look at what it has learned.
        if trainer.stage == "main":
            checkpoints.save_model(folder, trainer.weights("best"), config)
        raise


def warm_up(config: RunConfig, *, progress=True, device=None) -> Path:
    """Trains the warm-up that the scribble methods of a fold share, or goes on with it; returns its
    folder.
    """
    config = config.warmup()
    folder = paths.warmup_folder(config.profile, results.warmup_id(config))
    with alone(folder):
        if not (folder / "done").exists():
            trainer = new_trainer(config, progress=progress, device=device)
            if checkpoints.exist(folder):
                checkpoints.restore(trainer, folder)
            with checkpoints.kept(trainer, folder):
                trainer.advance(config.warmup_steps)
                checkpoints.save(trainer, folder)
                write_text(folder / "done", "")
        checkpoints.clear(folder, checkpoints.NAMES[1:])
    return folder


def new_trainer(config: RunConfig, *, progress=True, device=None) -> Trainer:
    """A Trainer with the training images, strokes and validation images of a configuration."""
    split = split_of(config)
    training = images_of(config, split.train)
    trainer = Trainer(
        config,
        training,
        scribbles_of(config, training),
        images_of(config, split.validation),
        device=device,
        progress=False,
    )
    if progress:
        trainer.on_step = Progress(config)
    return trainer


def set_threads(threads: int) -> None:
    """Processor threads from here on; 0 takes as many as `OMP_NUM_THREADS` allows, or else all
    cores. Part of `env.json`, since it can change last digits.
    """
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    usual = int(allowed) if allowed.isdecimal() else os.cpu_count()
    torch.set_num_threads(threads or usual or 1)


def _predictors(trainer: Trainer) -> dict[str, Predictor]:
    """`best` and `last`: functions by a model of their own, so that the trainer's stays
    resumable.
    """
    model = copy.deepcopy(trainer.model)

    def predictor(which: str) -> Predictor:
        def apply(image: np.ndarray) -> np.ndarray:
            model.load_state_dict(trainer.weights(which))
            return trainer.predict(image, model)

        return apply

    return {which: predictor(which) for which in ("best", "last")}


def score_test(
    config: RunConfig, predictors: Mapping[str, Predictor]
) -> tuple[list[dict], dict[str, np.ndarray], list[dict]]:
    """Scores every test image with every checkpoint.

    Args:
        config: names the data set and the fold.
        predictors: checkpoint (`best`, `last`) -> image (H, W, 3) uint8 -> probability (H, W).

    Returns:
        The rows of `per_image.csv`; of the checkpoint that Table 1 shows, image id -> mask (H, W),
        and the rows of `calibration.csv` for the first `CALIBRATED` images.
    """
    fields = ("dataset", "method", "fold", "seed", "annotator", "budget")
    shared = {"run_id": results.run_id(config)} | {name: getattr(config, name) for name in fields}
    rows, masks, calibrated = [], {}, []
    images = images_of(config, split_of(config).test)
    for checkpoint, predictor in predictors.items():
        chosen = checkpoint == results.shown_checkpoint(config.selection, predictors)
        for number, image in enumerate(images):
            probability = predictor(image.image)
            if chosen:
                masks[image.id] = probability > 0.5
            if image.instances is None:
                continue

            scores = score(image.instances, probability)
            rows.append(shared | {"checkpoint": checkpoint, "image": image.id} | scores)
            if chosen and number < results.CALIBRATED:
                calibrated += by_bin(image.id, image.instances, probability)
    return rows, masks, calibrated
