"""Warm-up, main stage, supervised and scribble-only training: one loop and one `step`."""

import copy
import math
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from s2l_core import checkpoints, paths, results
from s2l_core.batches import Prefetcher, TrainingSet, scribbles_of
from s2l_core.config import IGNORE, METHODS, RunConfig, S2LError
from s2l_core.datasets import images_of, split_of
from s2l_core.evaluation import fit_rival, score_test
from s2l_core.inference import pick_device, predict
from s2l_core.metrics import iou
from s2l_core.model import ScribbleUNet
from s2l_core.objective import learning_rate, loss_terms, scale_labels
from s2l_core.progress import Progress
from s2l_core.pseudo_labels import PseudoLabels


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
        S2LError: an unfinished run exists and `resume` is False; or data, splits or scribbles are missing; or the
            run cannot go on (numbers, memory, disk), which leaves its last checkpoint.
        KeyboardInterrupt, SystemExit: on SIGINT or SIGTERM, after a checkpoint.
    """
    folder = paths.run_folder(config.profile, results.run_id(config))
    with checkpoints.alone(folder):
        if results.is_done(config):
            print(f"{folder.name}: finished before, reading it. Delete its folder to run it anew.")
        elif METHODS[config.method].rival:
            started = time.perf_counter()
            rows, shown = score_test(config, {"last": fit_rival(config)})
            results.write_run(config, rows, [], shown, seconds=time.perf_counter() - started)
        elif checkpoints.exist(folder) and not resume:
            raise S2LError(f"{folder}: an unfinished run. Pass resume=True to go on with it, or delete the folder.")
        else:
            run = _Run(config, pick_device(device), progress, folder)
            if checkpoints.exist(folder) or warmup is not None:
                run.restore(folder if checkpoints.exist(folder) else warmup)
            with run.kept():
                run.advance(config.warmup_steps)
                run.fork()
                run.advance(config.total_steps)
                results.save_model(folder, run.weights("best"), config)
                rows, shown = score_test(config, run.predictors())
                if results.run_id(config) != folder.name:
                    raise S2LError(f"{config.dataset}: its files changed while they were learned from. Run it again.")
                results.write_run(config, rows, run.history, shown, **run.seconds())
        checkpoints.clear(folder)
    return RunResult(config, folder, *results.read_run(folder))


def warm_up(config: RunConfig, *, progress=True, device=None) -> Path:
    """Trains the warm-up that the scribble methods of a fold share, or goes on with it; returns its folder."""
    config = config.warmup()
    folder = paths.warmup_folder(config.profile, results.warmup_id(config))
    with checkpoints.alone(folder):
        if not (folder / "done").exists():
            run = _Run(config, pick_device(device), progress, folder)
            if checkpoints.exist(folder):
                run.restore(folder)
            with run.kept():
                run.advance(config.warmup_steps)
                run.save()
                results.write_text(folder / "done", "")
        checkpoints.clear(folder, checkpoints.NAMES[1:])
    return folder


def learning_curve(config: RunConfig, *, progress=True, device=None) -> pd.DataFrame:
    """Trains without ever touching a test image and returns the rows of `steps.csv`: how a recipe is chosen."""
    run = _Run(config, pick_device(device), progress)
    with run.kept():
        run.advance(config.warmup_steps)
        run.fork()
        run.advance(config.total_steps)
    return pd.DataFrame(run.history)


def set_threads(threads: int) -> None:
    """Processor threads from here on; 0 takes all cores. Part of `env.json`, since it can change last digits."""
    torch.set_num_threads(threads or os.cpu_count() or 1)


class _Run(checkpoints.Resumable):
    """A training in progress: data, network, optimiser and averages, the loop and the step."""

    def __init__(self, config: RunConfig, device: torch.device, progress: bool, folder: Path | None = None):
        super().__init__(config, folder)
        self.device, self.progress = device, progress
        split = split_of(config)
        training = images_of(config, split.train)
        if self.method.masks and (bare := [image.id for image in training if image.instances is None]):
            hint = f"{bare[0]!r} has none. Name others under train in splits.json, or choose s2l-r1-r4"
            raise S2LError(f"{config.dataset}: supervised training needs masks for every image; {hint}.")
        self.validation = [image for image in images_of(config, split.validation) if image.instances is not None]
        self.data = TrainingSet(training, scribbles_of(config, training), config, masks=self.method.masks)
        if self.data.size == 1 and config.crop == 32:
            raise S2LError(
                "crop = 32 and one crop in a step: too little to normalise by. Choose crop = 64 or batch = 2."
            )
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

    def fork(self) -> None:
        """Creates the projection heads at the start of the main stage; before it they have no state of any kind."""
        if self.config.scales and not len(self.model.heads):
            self.model.add_heads(self.config.scales, self.config.seed)
            self.model.to(self.device)
            rate = self.config.rate_heads
            self.optimiser.add_param_group({"params": self.model.parameter_groups()["heads"], "rate": rate, "lr": rate})

    def advance(self, until: int) -> None:
        """The loop: steps, averaged predictions, validation; a cut row is finished first."""
        config, main, start = self.config, self.stage == "main", self.step
        if start > until or start == until and not self.row:
            return
        averages = self.method.pseudo or (self.method.forks and not main)
        regions = partial(scale_labels, config=config)
        loader = Prefetcher(self.data, self.pseudo if averages and main else None, self.device, regions)
        bar = Progress(f"{config.dataset} {config.method}", start - bool(self.row), until) if self.progress else None
        try:
            while self.step < until or self.row:
                step = self.step + (not self.row)
                update = averages and step % config.average_every == 0 and step < config.total_steps
                if not self.row:
                    batch = loader.batch(self.step, prefetch_next=not update and step < until)
                    row = {"step": step, "stage": self.stage} | self._step(batch)
                    self.step, self.row = step, row
                if update:
                    self.row |= self._update_averages()
                if main and (step % config.validate_every == 0 or step == config.total_steps):
                    self.row |= self._validate()
                if bar:
                    bar.show(self.row)
                self.tick()
                self.history.append(self.row)
                self.row = {}
                self.pause()
        finally:
            loader.close()
            if bar:
                bar.close()

    def _step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """One optimiser step; the same for every method and stage."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, group["rate"], self.step)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            terms = loss_terms(self.model, batch, self.config, self.step)
        total = sum(terms.values())
        total.backward()
        self.optimiser.step()
        gathered = torch.stack([term.detach().float() for term in (total, *terms.values())])
        values = dict(zip(("loss", *terms), gathered.tolist(), strict=True))  # the only wait for the device in a step
        if not math.isfinite(values["loss"]):
            names = [image.id for image in self.data.images_at(self.step)]
            raise S2LError(
                f"step {self.step}: the loss is {values['loss']} ({values}), images {names}. "
                "Lower rate_encoder and rate_decoder, or look at these images and their scribbles."
            )
        return values

    def _update_averages(self) -> dict[str, float]:
        """Predicts every training image, and says what pseudo-labels this gives."""
        due, done = self.step // self.config.average_every, self.pseudo.state_dict()["counts"]
        for image in self.data.images:
            if done.get(image.id, 0) < due:  # the others were updated before a cut
                self.pseudo.update(image.id, self._predict(self.model, image.image))
        return self._pseudo_labelled()

    def _pseudo_labelled(self) -> dict[str, float]:
        """How much of the training images is pseudo-labelled and, where truth exists, how well."""
        covered = labelled = right = total = 0
        for image in self.data.images:
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
        scores = [iou(image.instances, self._predict(self.model, image.image) >= 0.5) for image in self.validation]
        value = float(np.mean(scores))
        if value > self.best["iou"]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
            self.best = {"iou": value, "step": self.step, "weights": weights}
        return {"validation_iou": value}

    def predictors(self) -> dict:
        """Functions image -> probability for both checkpoints, by a model of their own: the run's stays resumable."""
        model = copy.deepcopy(self.model)

        def predictor(which):
            def apply(image):
                model.load_state_dict(self.weights(which))
                return self._predict(model, image)

            return apply

        return {which: predictor(which) for which in ("best", "last")}

    def _predict(self, model: ScribbleUNet, image: np.ndarray) -> np.ndarray:
        self.pause()
        probability = predict(model, image)
        if not np.isfinite(probability).all():
            raise S2LError(f"step {self.step}: a prediction is not finite. Lower rate_encoder and rate_decoder.")
        return probability
