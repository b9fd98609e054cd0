"""Warm-up, main stage, supervised and scribble-only training: one loop and one step."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from s2l_core.batches import Prefetcher, TrainingSet
from s2l_core.config import IGNORE, METHODS, RunConfig, S2LError
from s2l_core.images import CellImage
from s2l_core.inference import pick_device, predict
from s2l_core.metrics import iou
from s2l_core.model import ScribbleUNet
from s2l_core.objective import learning_rate, loss_terms, scale_labels
from s2l_core.pseudo_labels import PseudoLabels


class Trainer:
    """A training in progress. It is handed its images and scribbles, and owns its state.

    `fit` trains to the end; `advance` and `fork` are its parts, for who wants to look in between.

    Args:
        config: everything that decides the numbers; its data set and fold are names only.
        images: to learn from; `instances` are needed by the method `supervised` alone.
        scribbles: image id -> (H, W) uint8 {0, 1, IGNORE}; None: those that the images bring.
        validation: images with `instances`: the best weights are chosen on them (D10). May be
            empty.
        device: None or "auto", or the name of a device.
        progress: show a bar.

    Attributes:
        model, pseudo: the network, and the averaged predictions.
        step: optimiser steps taken.
        history: a dict for each finished step: its losses and, where due, coverage and scores.
        best: the best validation IoU, its step and weights.
        on_step: called with the row of each finished step.
        on_pause: called wherever the state is whole; what it raises ends the training there.

    Raises:
        S2LError: no image, or no stroke of a class; an image without mask in supervised training.
    """

    def __init__(
        self,
        config: RunConfig,
        images: Sequence[CellImage],
        scribbles: Mapping[str, np.ndarray] | None = None,
        validation: Sequence[CellImage] = (),
        *,
        device: str | torch.device | None = None,
        progress: bool = True,
    ):
        self.config, self.method = config, METHODS[config.method]
        self.device, self.progress = pick_device(device), progress
        self.on_step: Callable[[dict[str, Any]], object] = lambda row: None
        self.on_pause: Callable[[], object] = lambda: None

        if scribbles is None:
            scribbles = {
                image.id: image.scribbles for image in images if image.scribbles is not None
            }
        _check_images(config, images, scribbles)
        self.validation = [image for image in validation if image.instances is not None]
        self.data = TrainingSet(images, scribbles, config, masks=self.method.masks)
        if self.data.size == 1 and config.crop == 32:
            raise S2LError(
                "crop = 32 and one crop in a step: too little to normalise by. "
                "Choose crop = 64 or batch = 2."
            )

        self.model = ScribbleUNet(
            config.encoder,
            encoder_weights=config.encoder_weights,
            intensity=config.intensity,
            seed=config.seed,
            frozen_statistics=config.frozen_statistics,
        ).to(self.device)
        if config.output_bias == "labels":
            self.model.expect(self.data.foreground_share())
        parts = [self._group("encoder", config.rate_encoder)]
        parts.append(self._group("decoder", config.rate_decoder))
        self.optimiser = torch.optim.RAdam(parts, weight_decay=config.weight_decay)
        self.pseudo = PseudoLabels(config.averaging, config.average_start)

        self.step = 0
        self.row: dict[str, Any] = {}  # of a step whose averages or validation are still to come
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"iou": -1.0, "step": -1, "weights": {}}
        self.spent = {"warm-up": 0.0, "main": 0.0}  # seconds, over all resumes
        self._ticked = time.monotonic()

    def fit(self) -> ScribbleUNet:
        """Trains through both stages; returns the network with the weights of the last step."""
        self.advance(self.config.warmup_steps)
        self.fork()
        self.advance(self.config.total_steps)
        return self.model

    def fork(self) -> None:
        """Creates the projection heads as the main stage begins; before it they do not exist."""
        if not self.config.scales or len(self.model.heads):
            return
        self.model.add_heads(self.config.scales, self.config.seed)
        self.model.to(self.device)
        self.optimiser.add_param_group(self._group("heads", self.config.rate_heads))

    def _group(self, part: str, rate: float) -> dict[str, Any]:
        """A part of the network for the optimiser; its schedule starts from `rate`."""
        return {"params": self.model.parameter_groups()[part], "rate": rate, "lr": rate}

    @property
    def stage(self) -> str:
        """`warm-up` or `main`: where the step under way belongs."""
        finished = self.step - 1 if self.row else self.step
        return "warm-up" if finished < self.config.warmup_steps else "main"

    def advance(self, until: int) -> None:
        """Trains until so many steps are taken, all of one stage.

        A step has two phases: the optimiser's step, and what follows from it (averages,
        validation). Between them the state is whole as well, so a training that was cut there
        finishes its last step first.
        """
        if self.step > until or (self.step == until and not self.row):
            return

        # Region labels are made beside the crops, so that no step waits for them.
        learns_averages = self.method.pseudo and self.stage == "main"
        loader = Prefetcher(
            self.data,
            self.pseudo if learns_averages else None,
            self.device,
            partial(scale_labels, config=self.config),
        )

        finished = self.step - 1 if self.row else self.step
        bar = tqdm(
            total=until, initial=finished, desc=self.stage, unit="step", disable=not self.progress
        )
        with closing(loader), bar:
            # A step whose second phase was cut off is finished first.
            if self.row:
                self._finish_step()
                bar.update()

            while self.step < until:
                self._take_step(loader, until)
                bar.set_postfix(loss=self.row["loss"], refresh=False)
                self._finish_step()
                bar.update()

    def _take_step(self, loader: Prefetcher, until: int) -> None:
        """First phase: the optimiser's step."""
        stage, step = self.stage, self.step + 1
        # The next batch is cut along the averages, so it waits where they are about to change.
        begin_next = step < until and not self._averages_are_due(step, stage)
        batch = loader.batch(self.step, prefetch_next=begin_next)
        losses = self._optimise(batch)
        self.step, self.row = step, {"step": step, "stage": stage} | losses

    def _finish_step(self) -> None:
        """Second phase: averaged predictions and validation, where they are due."""
        config, stage = self.config, self.stage
        if self._averages_are_due(self.step, stage):
            self.row |= self._update_averages()
        if stage == "main" and (
            self.step % config.validate_every == 0 or self.step == config.total_steps
        ):
            self.row |= self._validate()

        self.tick()
        self.history.append(self.row)
        self.on_step(self.row)
        self.row = {}
        self.on_pause()

    def _averages_are_due(self, step: int, stage: str) -> bool:
        """Every so many steps, but for the last one, after which nobody learns from them."""
        # The warm-up averages for whichever method goes on from it.
        learns = self.method.pseudo or (self.method.forks and stage == "warm-up")
        period = self._main_period if stage == "main" else self.config.average_every
        return learns and step % period == 0 and step < self.config.total_steps

    @property
    def _main_period(self) -> int:
        """Steps between two updates of the averages in the main stage."""
        return self.config.average_every_main or self.config.average_every

    def _updates_due(self) -> int:
        """How many predictions of each image the averages should rest on after this step."""
        warmup = self.config.warmup_steps
        if self.step <= warmup:
            return self.step // self.config.average_every
        in_main = self.step // self._main_period - warmup // self._main_period
        return warmup // self.config.average_every + in_main

    def _optimise(self, batch: dict[str, Any]) -> dict[str, float]:
        """One step, the same for every method and stage; returns the loss and its terms."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, group["rate"], self.step)

        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            terms = loss_terms(self.model, batch, self.config, self.step)
        total = sum(terms.values(), torch.zeros((), device=self.device))
        total.backward()
        self.optimiser.step()

        # One transfer of all terms: the only wait for the device in a step.
        gathered = torch.stack([term.detach().float() for term in (total, *terms.values())])
        values = dict(zip(("loss", *terms), gathered.tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            names = [image.id for image in self.data.images_at(self.step)]
            raise S2LError(
                f"step {self.step}: the loss is {values['loss']} ({values}), images {names}. "
                "Lower rate_encoder and rate_decoder, or look at these images and their scribbles."
            )
        return values

    def _update_averages(self) -> dict[str, float]:
        """Predicts every training image, and says what pseudo-labels this gives."""
        due = self._updates_due()
        for image in self.data.images:
            if self.pseudo.count(image.id) < due:  # the others were updated before a cut
                self.pseudo.update(image.id, self.predict(image.image))
        return self.pseudo_labelled()

    def pseudo_labelled(self) -> dict[str, float]:
        """How much of the training images is pseudo-labelled, on what, and how well.

        Returns:
            `coverage` (share of pixels), `accuracy` (share of the covered pixels that agree with
            the masks; NaN without masks) and `predictions` (the fewest that the label of an image
            rests on).
        """
        low, high = 1 - self.config.confidence, self.config.confidence
        covered = total = labelled = right = 0
        for image in self.data.images:
            labels = self.pseudo.labels(image.id, low, high).numpy()  # (H, W)
            known = labels != IGNORE
            covered += int(known.sum())
            total += known.size
            if image.instances is not None:
                labelled += int(known.sum())
                right += int(((labels == 1) == (image.instances > 0))[known].sum())
        return {
            "coverage": covered / total,
            "accuracy": right / labelled if labelled else math.nan,
            "predictions": min(self.pseudo.count(image.id) for image in self.data.images),
        }

    def _validate(self) -> dict[str, float]:
        """Mean IoU on the fully annotated validation images; keeps the best weights (D10)."""
        if not self.validation:
            return {}
        scores = []
        for image in self.validation:
            assert image.instances is not None  # which `__init__` saw to
            scores.append(iou(image.instances, self.predict(image.image) >= 0.5))
        value = float(np.mean(scores))
        if value > self.best["iou"]:
            state = self.model.state_dict()
            weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            self.best = {"iou": value, "step": self.step, "weights": weights}
        return {"validation_iou": value}

    def predict(self, image: np.ndarray, model: ScribbleUNet | None = None) -> np.ndarray:
        """Foreground probability (H, W) of an image (H, W, 3) uint8, by the network as it is or by
        another.

        Raises:
            S2LError: a probability is not finite.
        """
        self.on_pause()
        probability = predict(model or self.model, image)
        if not np.isfinite(probability).all():
            raise S2LError(
                f"step {self.step}: a prediction is not finite. "
                "Lower rate_encoder and rate_decoder."
            )
        return probability

    def weights(self, which: str) -> dict[str, Tensor]:
        """State of the `best` or `last` model; without validation images the best is the last."""
        if which == "best" and self.best["weights"]:
            return self.best["weights"]
        return self.model.state_dict()

    def seconds(self) -> dict[str, float]:
        """Wall time over all resumes, and apart from it that of the warm-up the run shares."""
        self.tick()
        shared = self.spent["warm-up"] if self.method.forks else 0.0
        return {"seconds": sum(self.spent.values()) - shared, "warmup_seconds": shared}

    def tick(self) -> None:
        """Books the time since the last tick on the stage under way."""
        now = time.monotonic()
        self.spent[self.stage] += now - self._ticked
        self._ticked = now

    def state_dict(self) -> dict[str, Any]:
        """All that decides how it goes on, for `torch.load(weights_only=True)`; not a copy."""
        self.tick()
        return {
            "step": self.step,
            "row": self.row,
            "forked": len(self.model.heads) > 0,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "pseudo": self.pseudo.state_dict(),
            "history": self.history,
            "best": self.best,
            "spent": self.spent,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict`, to the same weights, bit for bit."""
        if state["forked"]:
            self.fork()
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.pseudo.load_state_dict(state["pseudo"])
        self.step, self.history, self.best = state["step"], state["history"], state["best"]
        self.row, self.spent = state["row"], state["spent"]


def _check_images(
    config: RunConfig, images: Sequence[CellImage], scribbles: Mapping[str, np.ndarray]
) -> None:
    """Raises an S2LError where an image lacks what the method learns from."""
    for image in images:
        if METHODS[config.method].masks and image.instances is None:
            raise S2LError(
                f"{config.dataset}: supervised training needs masks for every image; "
                f"{image.id!r} has none. Name others under train in splits.json, or choose "
                "s2l-r1-r4."
            )
        if not METHODS[config.method].masks and image.id not in scribbles:
            raise S2LError(
                f"{image.id}: no scribbles. Draw at least one stroke, or leave the image out."
            )

        # Maps of another size would be learned from in the wrong place.
        shape = image.image.shape[:2]
        for name, labels in (("scribbles", scribbles.get(image.id)), ("mask", image.instances)):
            if labels is not None and labels.shape != shape:
                raise S2LError(
                    f"{image.id}: its {name} are of shape {labels.shape}, the image of {shape}. "
                    "Save both at the same size, labels with one channel."
                )
