"""Warm-up, main stage, supervised and scribble-only training: one loop and one `step`."""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from s2l_core import paths, results
from s2l_core.batches import Prefetcher, TrainingSet, scribbles_of
from s2l_core.config import IGNORE, METHODS, RunConfig, S2LError
from s2l_core.datasets import images_of, split_of
from s2l_core.evaluation import fit_rival, score_test
from s2l_core.inference import pick_device, predict
from s2l_core.metrics import iou
from s2l_core.model import ScribbleUNet
from s2l_core.objective import loss_terms, rate_factor
from s2l_core.progress import Progress
from s2l_core.pseudo_labels import PseudoLabels

CHECKPOINT_SECONDS = 120


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves: its folder and the scores of every test image."""

    config: RunConfig
    folder: Path
    per_image: pd.DataFrame
    steps: pd.DataFrame


def train(config: RunConfig, *, resume=False, warmup: Path | None = None, progress=True, device=None) -> RunResult:
    """Trains and scores one run; a finished one is read instead, and says so.

    Args:
        config: what to do.
        resume: go on from the run's own checkpoint, if there is one.
        warmup: folder given by `warm_up`; None trains the warm-up here, to the same weights bit for bit.
        progress: show a progress bar, or plain lines where there is no terminal.
        device: `auto` or None, or the name of a device.

    Raises:
        S2LError: an unfinished run exists and `resume` is False; or data, splits or scribbles are missing.
    """
    folder = paths.run_folder(config.profile, results.run_id(config))
    if results.is_done(config):
        print(f"{folder.name}: finished before, reading it. Delete its folder to run it anew.")
        return RunResult(config, folder, *results.read_run(folder))
    if (folder / "checkpoint.pt").exists() and not resume:
        raise S2LError(f"{folder}/checkpoint.pt: an unfinished run. Pass resume=True to go on, or delete the folder.")
    started = time.perf_counter()
    if METHODS[config.method].rival:
        predictors, steps = {"last": fit_rival(config)}, []
    else:
        run = _Run(config, pick_device(device), progress)
        if (folder / "checkpoint.pt").exists():
            run.restore(folder / "checkpoint.pt")
        elif warmup is not None:
            run.restore(warmup / "checkpoint.pt")
        run.advance(config.warmup_steps, folder)
        run.fork()
        run.advance(config.total_steps, folder)
        predictors, steps = run.predictors(), run.history
        results.save_model(folder, run.weights("best"), config)
    rows, shown = score_test(config, predictors)
    results.write_run(config, rows, steps, shown, seconds=time.perf_counter() - started)
    return RunResult(config, folder, *results.read_run(folder))


def warm_up(config: RunConfig, *, progress=True, device=None) -> Path:
    """Trains the warm-up that the scribble methods of a fold share, or goes on with it; returns its folder."""
    config = config.warmup()
    folder = paths.warmup_folder(config.profile, results.warmup_id(config))
    if (folder / "done").exists():
        return folder
    run = _Run(config, pick_device(device), progress)
    if (folder / "checkpoint.pt").exists():
        run.restore(folder / "checkpoint.pt")
    run.advance(config.warmup_steps, folder)
    run.save(folder / "checkpoint.pt")
    (folder / "done").touch()
    return folder


def learning_curve(config: RunConfig, *, progress=True, device=None) -> pd.DataFrame:
    """Trains without ever touching a test image and returns the rows of `steps.csv`: how a recipe is chosen."""
    run = _Run(config, pick_device(device), progress)
    run.advance(config.warmup_steps)
    run.fork()
    run.advance(config.total_steps)
    return pd.DataFrame(run.history)


def set_threads(threads: int) -> None:
    """Processor threads from here on; 0 takes all cores. Part of `env.json`, since it can change last digits."""
    torch.set_num_threads(threads or os.cpu_count() or 1)


class _Run:
    """A training in progress: everything that a checkpoint holds."""

    def __init__(self, config: RunConfig, device: torch.device, progress: bool):
        self.config, self.device, self.progress = config, device, progress
        self.method = METHODS[config.method]
        split = split_of(config)
        training = images_of(config, split.train)
        if self.method.masks and any(image.instances is None for image in training):
            raise S2LError(f"{config.dataset}: supervised training needs masks for every image. Choose s2l-r1-r4.")
        self.validation = [image for image in images_of(config, split.validation) if image.instances is not None]
        self.data = TrainingSet(training, scribbles_of(config, training), config, masks=self.method.masks)
        self.model = ScribbleUNet(
            config.encoder, (), config.encoder_weights, intensity=config.intensity, seed=config.seed
        ).to(device)
        groups = self.model.parameter_groups()
        rates = {"encoder": config.rate_encoder, "decoder": config.rate_decoder}
        self.optimiser = torch.optim.RAdam(
            [{"params": groups[name], "rate": rate, "lr": rate} for name, rate in rates.items()],
            weight_decay=config.weight_decay,
        )
        self.pseudo = PseudoLabels(config.averaging, config.average_start)
        self.step, self.history, self.best = 0, [], {"iou": -1.0, "step": -1, "weights": {}}

    def fork(self) -> None:
        """Creates the projection heads at the start of the main stage; before it they have no state of any kind."""
        if self.config.scales and not len(self.model.heads):
            self.model.add_heads(self.config.scales, self.config.seed)
            self.model.to(self.device)
            rate = self.config.rate_heads
            self.optimiser.add_param_group({"params": self.model.parameter_groups()["heads"], "rate": rate, "lr": rate})

    def advance(self, until: int, folder: Path | None = None) -> None:
        """The loop: steps, averaged predictions, validation, and checkpoints where there is a folder for them."""
        if self.step >= until:
            return
        config, saved, main = self.config, time.monotonic(), self.step >= self.config.warmup_steps
        averages = self.method.pseudo or (self.method.forks and not main)
        loader = Prefetcher(self.data, self.pseudo if averages and main else None, self.device)
        bar = Progress(f"{config.dataset} {config.method}", self.step, until) if self.progress else None
        try:
            while self.step < until:
                step = self.step + 1
                update = averages and step % config.average_every == 0 and step < config.total_steps
                batch = loader.batch(self.step, prefetch_next=not update and step < until)
                row = {"step": step, "stage": "main" if main else "warm-up"} | self._step(batch)
                self.step += 1
                if update:
                    row |= self._update_averages()
                if main and (self.step % config.validate_every == 0 or self.step == until):
                    row |= self._validate()
                self.history.append(row)
                if bar:
                    bar.show(row)
                if folder and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self.save(folder / "checkpoint.pt")
                    saved = time.monotonic()
        except KeyboardInterrupt:
            if folder:
                self.save(folder / "checkpoint.pt")
            raise
        finally:
            loader.close()
            if bar:
                bar.close()

    def _step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One optimiser step; the same for every method and stage."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * rate_factor(self.config, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            terms = loss_terms(self.model, batch, self.config, self.step)
        total = sum(terms.values())
        total.backward()
        self.optimiser.step()
        values = {"loss": total.item()} | {name: term.item() for name, term in terms.items()}
        if not math.isfinite(values["loss"]):
            raise S2LError(
                f"step {self.step}: the loss is {values['loss']} ({values}), images {self.data.ids(self.step)}. "
                "Lower rate_encoder and rate_decoder, or look at these images and their scribbles."
            )
        return values

    def _update_averages(self) -> dict[str, float]:
        """Predicts every training image; says how much is pseudo-labelled and, where truth exists, how well."""
        covered = labelled = right = total = 0
        for image in self.data.images:
            self.pseudo.update(image.id, predict(self.model, image.image))
            labels = self.pseudo.labels(image.id, 1 - self.config.confidence, self.config.confidence).numpy()
            known = labels != IGNORE
            covered, total = covered + known.sum(), total + known.size
            if image.instances is not None:
                labelled += known.sum()
                right += ((labels == 1) == (image.instances > 0))[known].sum()
        return {"coverage": float(covered / total), "accuracy": float(right / labelled) if labelled else math.nan}

    def _validate(self) -> dict[str, float]:
        """Mean IoU on the fully annotated validation images; keeps the best weights (D10)."""
        if not self.validation:
            return {}
        scores = [iou(image.instances, predict(self.model, image.image) >= 0.5) for image in self.validation]
        value = float(np.mean(scores))
        if value > self.best["iou"]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
            self.best = {"iou": value, "step": self.step, "weights": weights}
        return {"validation_iou": value}

    def weights(self, which: str) -> dict[str, Tensor]:
        """State of the `best` or `last` model; without validation images the best is the last."""
        return self.best["weights"] if which == "best" and self.best["weights"] else self.model.state_dict()

    def predictors(self) -> dict:
        """Functions image -> probability for both checkpoints; the last weights first, so that one model serves."""

        def predictor(weights):
            def apply(image):
                self.model.load_state_dict(weights)
                return predict(self.model, image)

            return apply

        last = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return {"best": predictor(self.weights("best")), "last": predictor(last)}

    def save(self, file: Path) -> None:
        """Writes a checkpoint under a temporary name and renames it."""
        state = {
            "config": self.config.to_dict(),
            "step": self.step,
            "forked": len(self.model.heads) > 0,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "pseudo": self.pseudo.state_dict(),
            "history": self.history,
            "best": self.best,
        }
        results.write_atomically(file, lambda temporary: torch.save(state, temporary))

    def restore(self, file: Path) -> None:
        """Loads a checkpoint of this run or of its warm-up.

        Raises:
            S2LError: the file is missing, damaged, or belongs to another configuration (the differing field is named).
        """
        try:
            state = torch.load(file, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise S2LError(f"{file}: not a readable checkpoint ({error}). Delete it and run again.") from error
        saved, mine = RunConfig.from_dict(state["config"]), self.config
        if saved != mine and (saved != mine.warmup() or state["step"] != mine.warmup_steps):
            ours, theirs = mine.to_dict(), state["config"]
            differ = [
                f"{name} ({theirs[name]} there, {ours[name]} here)" for name in ours if ours[name] != theirs[name]
            ]
            raise S2LError(f"{file}: made with another configuration: {', '.join(differ)}. Delete it or change back.")
        if state["forked"]:
            self.fork()
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.pseudo.load_state_dict(state["pseudo"])
        self.step, self.history, self.best = state["step"], state["history"], state["best"]
        print(f"{file.parent.name}: going on from step {self.step} of {mine.total_steps}", flush=True)
