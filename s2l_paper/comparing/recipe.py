"""Trials of the recipe of profile `pretrained` (notebook 10): what each choice is worth.

Only validation images decide: nothing here can reach a test image. A trial is one training with one
seed; it is kept as a row of `recipe.csv` and, with the same settings, never made again.
"""

import math
import time
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from s2l_core.config import IGNORE, RunConfig
from s2l_core.objective import loss_terms
from s2l_core.pseudo_labels import PseudoLabels, threshold
from s2l_images import checkpoints
from s2l_images.files import alone, write_csv
from s2l_paper import paths
from s2l_paper.comparing.recipe_plan import (  # noqa: F401 (notebook 10 reads them here)
    SEEDS,
    TRIAL_COLUMNS,
    Option,
    experiments,
    kept_trials,
    summary,
    table_file,
    trials,
)
from s2l_paper.running import results
from s2l_paper.running.runs import new_trainer, warm_up


def configuration(choice: Option, seed: int, *, profile: str, dataset: str) -> RunConfig:
    """The run of one trial, on fold 0; blind strokes, unless the choice says who drew."""
    fields = {"annotator": 0} | choice.fields
    return RunConfig(dataset, choice.method, profile=profile, seed=seed, **fields)


class TruthfulLabels(PseudoLabels):
    """Averages whose pseudo-labels are right: the same pixels are covered, but the masks say of
    which class they are.
    """

    def __init__(self, like: PseudoLabels, truth: dict[str, Any], confidence: float):
        super().__init__(like.averaging, like.start)
        self.truth, self.confidence = truth, confidence

    def average(self, id: str):
        """0 or 1 as the mask says where the average is sure, one half elsewhere; (H, W) float32."""
        averaged = super().average(id)
        covered = threshold(averaged, 1 - self.confidence, self.confidence) != IGNORE
        return averaged.new_tensor(self.truth[id]).where(covered, averaged.new_tensor(0.5))


def run_trial(experiment: str, choice: Option, seed: int, *, profile: str, dataset: str) -> None:
    """Trains one trial, unless it is kept already, and keeps its row; another process at work on it
    is waited for.
    """
    config = configuration(choice, seed, profile=profile, dataset=dataset)
    trial = results.run_id(config) + ("_truth" if choice.truth else "")
    question = {"experiment": experiment, "choice": choice.label}
    folder = paths.warmup_folder(profile, f"trial_{trial}")
    with alone(folder):
        kept = kept_trials(profile)
        same = kept[kept.run == trial]
        answered = (same.experiment == experiment) & (same.choice == choice.label)
        if answered.any():
            return

        # One training may answer two questions.
        if len(same):
            row = same.iloc[0].to_dict() | question
        else:
            row = _train(config, choice) | question | {"run": trial}
        with alone(table_file(profile)):
            table = pd.concat([kept_trials(profile), pd.DataFrame([row], columns=TRIAL_COLUMNS)])
            write_csv(table_file(profile), table)


def _train(config: RunConfig, choice: Option) -> dict[str, Any]:
    """One training from the shared warm-up; its last and best validation IoU, and what its labels
    were worth.
    """
    started = time.process_time()
    trainer = new_trainer(config)
    if trainer.method.forks:
        checkpoints.restore(trainer, warm_up(config))
    if choice.truth:
        truth = {image.id: (image.instances > 0).astype("uint8") for image in trainer.data.images}
        truthful = TruthfulLabels(trainer.pseudo, truth, config.confidence)
        truthful.load_state_dict(trainer.pseudo.state_dict())
        trainer.pseudo = truthful
    trainer.fit()

    history = pd.DataFrame(trainer.history).set_index("step")
    curve = history.validation_iou.dropna()
    labels = history.reindex(columns=["coverage", "accuracy", "predictions"]).dropna(how="all")
    row = {
        name: getattr(config, name) for name in ("dataset", "method", "annotator", "budget", "seed")
    }
    row |= {"validation_iou": round(curve.iloc[-1], 4), "best_iou": round(curve.max(), 4)}
    if len(labels):  # a method without pseudo-labels has none
        row |= {name: round(float(labels[name].iloc[-1]), 4) for name in labels}
    row["curve"] = " ".join(f"{step}:{value:.4f}" for step, value in curve.items())
    row["cpu_seconds"] = round(time.process_time() - started)
    return row


def fork_gradients(config: RunConfig) -> pd.DataFrame:
    """How strongly each term of Eq. 6 pulls at each part of the network in the first main step.

    The warm-up of the configuration is read or trained; nothing is learned from the step.

    Returns:
        A row for each term, a column for each group of parameters: the norm of the term's gradient
            as a share of that of the segmentation terms (scribbles and pseudo-labels together) on
            the same group. Heads have no gradient of the segmentation, so theirs is the norm
            itself.
    """
    trainer = new_trainer(config, progress=False)
    checkpoints.restore(trainer, warm_up(config))
    trainer.fork()
    trainer.model.train()
    batch = trainer.data.batch(trainer.step, trainer.pseudo)
    terms = loss_terms(trainer.model, batch, config, trainer.step)

    groups = trainer.model.parameter_groups()
    norms = {name: _gradient_norms(term, groups) for name, term in terms.items()}
    norms["segmentation"] = _gradient_norms(terms["labels"] + terms["pseudo"], groups)
    table = pd.DataFrame(norms).T  # (terms, groups)
    for group in ("encoder", "decoder"):
        table[group] /= table.loc["segmentation", group]
    return table.drop(index="segmentation")


def _gradient_norms(term: Tensor, groups: dict[str, list]) -> dict[str, float]:
    """Length of one term's gradient with respect to each group of parameters."""
    norms = {}
    for name, parameters in groups.items():
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        squares = [float(g.square().sum()) for g in gradients if g is not None]
        norms[name] = math.sqrt(sum(squares))
    return norms
