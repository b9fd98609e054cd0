"""Training in rounds on a folder of one's own: draw, let it learn, correct, go on."""

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from s2l_core.config import RunConfig, S2LError, digest
from s2l_core.images import CellImage
from s2l_core.model import ScribbleUNet
from s2l_core.profiles import PROFILES
from s2l_core.pseudo_labels import PseudoLabels
from s2l_core.trainer import Trainer
from s2l_core.weights import PACKAGED
from s2l_images import checkpoints
from s2l_images.checkpoints import kept
from s2l_images.files import write_json
from s2l_images.folders.folder import read_folder
from s2l_images.folders.roles import split_folder
from s2l_images.learning.answers import LARGEST_SHARE, hold_out
from s2l_images.learning.kept_models import load_model, rounds_folder
from s2l_images.learning.verdicts import Guess, Round, judged
from s2l_images.progress import Progress, Report

UPDATES = 6  # parts of a round: how often there is something to watch
LATER = 0.3  # of the learning rates, in a round that goes on from a model
# Times the rates of profile `pretrained`, which are for 450 steps: RAdam takes a fraction of a step
# in its first hundred, and a round has no more. The encoder's batch statistics stay ImageNet's.
SHORT = 3.0
UNFINISHED = "interrupted-round"  # beside the models of all rounds: what an interrupted one needs

Watch = Callable[[ScribbleUNet], object] | None


def train_round(
    folder: Path,
    *,
    steps: int,
    guess: Guess = None,
    start: Path | None = None,
    watch: Watch = None,
    report: Report | None = None,
    stop: threading.Event | None = None,
    largest: float = LARGEST_SHARE,
    **settings,
) -> Round:
    """Trains on the images of a folder that carry scribbles, and keeps the model in `own_results`.

    The network begins with an encoder that knows ImageNet (profile `pretrained`), or goes on from
    `start`. `profile="scratch"` begins from random weights, as the first version did.

    The pseudo-labels of a round (Eq. 3) come from a guess and stay, since what a network says in
    its first few hundred steps is worth less: believing it, short rounds grew surer of their
    mistakes (docs/obstacles.md). Without a guess a round has warm-up and averages, as any run.

    A fifth of the strokes is not learned from: it judges the result. The new network comes into use
    where it is as good as the one in use. One whose training was interrupted has to be better than
    both that one and the guess; the same call then goes on where it was interrupted. A network
    whose masks are absurd is refused where there is another answer. Every model is kept
    (`kept_models`), in use or not.

    Args:
        folder: `images/` and `scribbles/`, as `read_folder` reads them.
        steps: optimiser steps; a few hundred are a few minutes on two cores.
        guess: image id -> foreground probability (H, W) of a model that learns quickly, as the
            random forest; to be comparable it has learned from `hold_out(scribbles).kept`.
        start: a `model.safetensors` to go on from; None: an encoder with ImageNet's weights.
        watch: called now and then with the network as it is, for `predict`.
        report: told how far it is, instead of a line or a bar; the result is not printed.
        stop: ends the round when it is set, as an interrupt does; for one that learns in a thread.
        largest: share of an image that one object may cover; more is absurd.
        settings: other fields of `RunConfig`, such as the `seed` of weights and crops.

    Raises:
        S2LError: nothing is drawn, or only one class; `guess` lacks an image that is drawn on;
            `start` is no model of ours; steps are too few.
    """
    if steps < 2 * UPDATES:
        raise S2LError(
            f"steps = {steps}: expected {2 * UPDATES} at least for a round. Raise steps."
        )
    before = load_model(start) if start else None
    config = _config(folder, steps, before and before[1], guess is not None, settings)

    # What judges the result must not be learned from.
    cells = _drawn_on(folder)
    parts = hold_out({cell.id: cell.scribbles for cell in cells})
    trainer = Trainer(config, cells, parts.kept, progress=False)
    if before:
        _take_weights(trainer, before[0])
    interrupted = rounds_folder(folder) / UNFINISHED
    _go_on(trainer, interrupted, start)
    if guess is not None:
        _believe(trainer, guess)

    trainer.on_step = _shown(trainer, steps, guess is not None, watch, report)
    stopped = _learn(trainer, interrupted, stop)
    result = judged(
        trainer, folder, parts.held, guess=guess, start=start, stopped=stopped, largest=largest
    )
    if not stopped:
        shutil.rmtree(interrupted, ignore_errors=True)
    if report is None:
        print(result.said, flush=True)
    return result


def _config(
    folder: Path, steps: int, before: RunConfig | None, guessed: bool, settings: dict[str, Any]
) -> RunConfig:
    """The configuration of a round: lengths that fit its steps, and rates that fit its weights."""
    given = dict(settings)
    profile = given.pop("profile", "pretrained")
    same: dict[str, Any] = {}
    if before:
        # A network of an earlier round keeps its architecture; its weights come from its file.
        profile = "pretrained" if before.encoder in PACKAGED else "scratch"
        same = {"encoder": before.encoder, "encoder_weights": None, "intensity": before.intensity}

    factor = LATER if before else 1.0
    if profile == "pretrained":
        factor *= SHORT
        same["frozen_statistics"] = True
    if not before:
        # From one half, a short round first unlearns nuclei where strokes are rare (D27).
        same["output_bias"] = "labels"
    chosen = _rates(profile, factor) | same | given

    # Without a guess the network is its own teacher, so it needs a warm-up; a model that goes on
    # needs a short one.
    every = steps // UPDATES
    warmup = 1
    if not guessed:
        warmup = every if before else 3 * every
    lengths = {
        "warmup_steps": warmup,
        "main_steps": steps - warmup,
        "average_every": steps if guessed else every,
        "average_every_main": 0,
        "validate_every": steps,
        "crop": 160,
        "max_regions": 1000,
    }
    return RunConfig(str(folder), "s2l-r1-r4", profile=profile, **lengths | chosen)


def _rates(profile: str, factor: float) -> dict[str, float]:
    """Learning rates of a profile, times a factor."""
    usual = PROFILES[profile].settings
    return {name: factor * value for name, value in usual.items() if name.startswith("rate_")}


def _take_weights(trainer: Trainer, model: ScribbleUNet) -> None:
    """Starts a training from a network, whose heads stay behind: new ones begin with the round."""
    weights = model.state_dict()
    trainer.model.load_state_dict({name: weights[name] for name in trainer.model.state_dict()})


def _go_on(trainer: Trainer, folder: Path, start: Path | None) -> None:
    """Restores an interrupted round of the same configuration and start; forgets any other."""
    key = digest([trainer.config.to_dict(), str(start)], 16)
    note = folder / "round.json"
    try:
        same = json.loads(note.read_text(encoding="utf-8")) == key
    except (OSError, ValueError):
        same = False

    if same and checkpoints.exist(folder):
        checkpoints.restore(trainer, folder)
        return
    shutil.rmtree(folder, ignore_errors=True)
    write_json(note, key)


def _learn(trainer: Trainer, interrupted: Path, stop: threading.Event | None) -> bool:
    """Trains to the end, or until an interrupt; True if it was interrupted.

    An interrupt ends the training and not the round: what was learned is judged and kept.
    """
    try:
        with kept(trainer, interrupted, stop):
            trainer.fit()
    except KeyboardInterrupt:
        return True
    return False


def _drawn_on(folder: Path) -> list[CellImage]:
    """The training images of a folder that carry strokes.

    Raises:
        S2LError: there is none.
    """
    cells = read_folder(folder, split_folder(folder)["train"])
    drawn = [cell for cell in cells if cell.scribbles is not None]
    if not drawn:
        raise S2LError(
            f"{folder}: none of {len(cells)} training images carries a stroke. "
            "Draw on one of them first."
        )
    return drawn


def _believe(trainer: Trainer, guess: Mapping[str, np.ndarray]) -> None:
    """Takes a guess for the averaged predictions, from the first step to the last.

    Strokes may have been added since an interruption, so the guess is always the newest.
    """
    trainer.pseudo = PseudoLabels(trainer.config.averaging, trainer.config.average_start)
    for image in trainer.data.images:
        found = guess.get(image.id)
        shape, expected = np.shape(found) or "missing", image.image.shape[:2]
        if shape != expected:
            raise S2LError(
                f"guess of {image.id} is {shape}: expected {expected}. "
                "Guess for every image drawn on."
            )
        trainer.pseudo.update(image.id, found)


def _shown(
    trainer: Trainer, steps: int, guessed: bool, watch: Watch, report: Report | None
) -> Callable[[dict], None]:
    """What is called after each step: it shows how far the round is, and the network as it is."""
    every = steps // UPDATES
    progress = Progress(trainer.config, losses=False, report=report)

    def show(row: dict) -> None:
        if not guessed or row["stage"] == "main":  # a warm-up of one step needs no bar
            progress(row)
        if watch and row["step"] % every == 0 and row["step"] < steps:
            watch(trainer.model)

    return show
