"""Whether the network of a round comes into use: held against what was there before it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2l_core.config import S2LError
from s2l_core.images import CellImage
from s2l_core.inference import pick_device, predict
from s2l_core.model import ScribbleUNet
from s2l_core.trainer import Trainer
from s2l_images.learning.answers import absurd, agreement
from s2l_images.learning.kept_models import keep_model, load_model, model_in_use

Guess = Mapping[str, np.ndarray] | None


@dataclass(frozen=True)
class Round:
    """What came of a round.

    Attributes:
        model: the network that is in use now: the new one, or the one before; None: neither is.
        number: of the round; its model lies in `s2l/rounds/`, in use or not.
        accepted: the new network is in use.
        score: balanced share of the held-out strokes that it got right; NaN where none are held.
        before: the same of the best that it was compared with.
        said: all this as a sentence.
    """

    model: ScribbleUNet | None
    number: int
    accepted: bool
    score: float
    before: float
    said: str


def judged(
    trainer: Trainer,
    folder: Path,
    held: Mapping[str, np.ndarray],
    *,
    guess: Guess,
    start: Path | None,
    stopped: bool,
    largest: float,
) -> Round:
    """Compares the network with what was there before, keeps it, and says which of them is used.

    Args:
        trainer: with the network, and the images that were learned from.
        folder: of one's own.
        held: image id -> strokes (H, W) uint8 of 0, 1 and IGNORE that were not learned from.
        guess: image id -> foreground probability (H, W) that the pseudo-labels came from.
        start: the `model.safetensors` that the network went on from.
        stopped: the training was interrupted.
        largest: share of an image that one object may cover; more is absurd.
    """
    images = {image.id: image for image in trainer.data.images}
    answers = {name: predict(trainer.model, cell.image) for name, cell in images.items()}
    score = agreement(answers, held)

    # What is already there: the model in use; for half a round also what was on the screen.
    used = _in_use(folder)
    rivals = [used] if used else []
    if stopped and start and Path(start) != model_in_use(folder):
        rivals.append(load_model(start)[0])
    before = _best_before(rivals, guess if stopped else None, images, held)

    # Where there is no other answer, an absurd one is used, with a warning.
    alone = not rivals and guess is None
    refused, warning = _absurdity(answers, images, largest), ""
    if refused and alone:
        warning, refused = f" Look at it before you trust it. {refused}", ""
    if not refused:
        refused = _not_better(score, before, trainer.step, stopped, alone)

    record = keep_model(
        folder,
        trainer.model.state_dict(),
        trainer.config,
        score=score,
        steps=trainer.step,
        refused=refused,
    )
    said = f"Round {record.number}: "
    if stopped:
        said += (
            f"stopped after step {trainer.step} of {trainer.config.total_steps}; what was learned "
            "is kept. Run the cell again to go on. "
        )
    if refused:
        said += f"The new network is not used, and what was there before stays. {refused}"
        return Round(used, record.number, False, score, before, said.strip())
    said += f"The new network is in use, beside the forest. {_compared(score, before)}{warning}"
    return Round(trainer.model, record.number, True, score, before, said.strip())


def _best_before(
    rivals: list[ScribbleUNet],
    guess: Guess,
    images: Mapping[str, CellImage],
    held: Mapping[str, np.ndarray],
) -> float:
    """The best score of the networks and of the guess on held-out strokes; NaN without any."""
    scores = []
    for rival in rivals:
        answers = {name: predict(rival, images[name].image) for name in held}
        scores.append(agreement(answers, held))
    if guess is not None:
        scores.append(agreement(guess, held))
    return max(scores, default=math.nan)


def _absurdity(
    answers: Mapping[str, np.ndarray], images: Mapping[str, CellImage], largest: float
) -> str:
    """What is absurd in the first image of which anything is, as a sentence; else nothing."""
    for name, probability in answers.items():
        wrong = absurd(probability, images[name].scribbles, largest=largest)
        if wrong:
            return f"{name}: {wrong}"
    return ""


def _not_better(score: float, before: float, step: int, stopped: bool, alone: bool) -> str:
    """Why a network is refused that is not absurd, as a sentence; else nothing.

    Args:
        score: of the network on held-out strokes; NaN where there are none.
        before: of the best that was there; NaN where nothing was.
        step: how many it has taken.
        stopped: its training was interrupted, so it has to be better, and not only as good.
        alone: there is nothing else to use.
    """
    if not stopped:
        return _compared(score, before, "less than the model in use") if score < before else ""
    if not step:
        return "No step was taken."
    if not alone and not score > before:
        return _compared(score, before, "not better than what was there before")
    return ""


def _compared(score: float, before: float, verdict: str = "") -> str:
    """Scores on held-out strokes, as a sentence."""
    if math.isnan(score):
        return "No stroke could be held out to judge it by: draw two of each class at least."
    text = f"It gets {score:.1%} of the held-out strokes right"
    if not math.isnan(before):
        text += f" (before: {before:.1%})"
    return f"{text}, {verdict}." if verdict else f"{text}."


def _in_use(folder: Path) -> ScribbleUNet | None:
    """The model in use, if there is one that can be read; a harmed one is kept as a round."""
    file = model_in_use(folder)
    if not file.exists():
        return None
    try:
        return load_model(file)[0].to(pick_device())
    except S2LError as error:
        print(error, flush=True)
        return None
