"""The experiments of notebook 10: which choices are tried, and what the kept trials say.

Needs no PyTorch; the trainings are in `recipe`.
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from s2l_core.config import FULL, R1, R4, RunConfig, S2LError
from s2l_paper import paths

SEEDS = (0, 1, 2)
TRIAL_COLUMNS = ["experiment", "choice", "dataset", "method", "annotator", "budget", "seed"]
TRIAL_COLUMNS += [
    "validation_iou",
    "best_iou",
    "coverage",
    "accuracy",
    "predictions",
    "curve",
    "cpu_seconds",
    "run",
]


@dataclass(frozen=True)
class Option:
    """One choice of an experiment.

    Attributes:
        label: what it is called in tables.
        method: a name in METHODS.
        fields: what it sets otherwise than the profile.
        truth: the covered pixels are labelled by the masks: pseudo-labels that make no mistake.
        seeds: of its trials.
        against: the choice of the same experiment that it is compared with; empty: with none.
    """

    label: str
    method: str
    fields: dict[str, Any] = field(default_factory=dict)
    truth: bool = False
    seeds: tuple[int, ...] = SEEDS
    against: str = ""


def experiments(profile: str = "pretrained", dataset: str = "dsb-bf") -> dict[str, list[Option]]:
    """The experiments, each an answer to one question of the docs.

    Args:
        profile: whose lengths and rates the choices are measured in.
        dataset: likewise, for profiles whose settings depend on it.
    """
    usual = RunConfig(dataset, FULL, profile=profile)
    return {
        "labels": _labels(usual),
        "coarse term": _coarse_term(usual),
        "annotator and budget": _annotator_and_budget(),
        "pretraining": _pretraining(),
        "statistics": _statistics(),
        "output bias": _output_bias(),
        "noise": [Option(name, name, seeds=(0, 1, 2, 3)) for name in ("s2l", "scribble-only")],
    }


def _labels(usual: RunConfig) -> list[Option]:
    """What is learned where nothing is drawn: nothing, one prediction, several, the truth."""
    snapshot = {"average_every": usual.warmup_steps, "averaging": 1.0}
    return [
        Option("scribbles alone", "scribble-only"),
        Option("one snapshot", "s2l", snapshot, against="scribbles alone"),
        Option("six averaged", "s2l", against="one snapshot"),
        Option("truth where labelled", "s2l", truth=True, against="six averaged"),
    ]


def _coarse_term(usual: RunConfig) -> list[Option]:
    """Ways to weigh R4x4 and to bring it in, with few strokes and with many."""
    ramp, alone = usual.main_steps // 3, usual.main_steps // 6
    ways = {
        "lambda 10 (paper)": {},
        "lambda 1": {"scales": (R1, dataclasses.replace(R4, weight=1.0))},
        "lambda 0.3": {"scales": (R1, dataclasses.replace(R4, weight=0.3))},
        "balanced mean": {"pair_reduction": "balanced", "equalise": True},
        f"ramp over {ramp} steps": {"contrast_ramp": ramp},
        f"heads alone for {alone} steps": {"heads_alone": alone},
        "heads three times as fast": {"rate_heads": round(3 * usual.rate_heads, 6)},
    }
    choices = []
    for budget, (label, change) in itertools.product((0.3, 1.0), ways.items()):
        fields = {"budget": budget} | change
        without = f"without (S2L), {budget:.0%}"
        choices.append(Option(f"{label}, {budget:.0%}", FULL, fields, against=without))
    for budget in (0.3, 1.0):
        choices.append(Option(f"without (S2L), {budget:.0%}", "s2l", {"budget": budget}))
    return choices


def _annotator_and_budget() -> list[Option]:
    """Who draws, and how much of it is used."""
    choices = []
    for (way, annotator), (share, budget) in itertools.product(
        (("blind", 0), ("attentive", "attentive-0")), (("30 %", 0.3), ("100 %", 1.0))
    ):
        strokes = {"annotator": annotator, "budget": budget}
        first = way == "blind" and share == "30 %"
        for method in ("scribble-only", "s2l", FULL):
            against = "" if first else f"blind, 30 %: {method}"
            choices.append(Option(f"{way}, {share}: {method}", method, strokes, against=against))
    return choices


def _pretraining() -> list[Option]:
    """The same network with ImageNet's weights and without, each at rates that suit it."""
    scratch = {"encoder_weights": None, "frozen_statistics": False}
    scratch |= {"rate_encoder": 3e-3, "rate_decoder": 9e-3}
    choices = []
    for method in ("supervised", "s2l", FULL):
        label = f"from scratch: {method}"
        choices.append(Option(f"pretrained: {method}", method, against=label))
        choices.append(Option(label, method, scratch))
    return choices


def _statistics() -> list[Option]:
    """Batch normalisation with each batch's own statistics, or with those of ImageNet (D22)."""
    choices = []
    for method in ("supervised", "s2l"):
        own = f"own: {method}"
        choices.append(Option(own, method, {"frozen_statistics": False}))
        frozen = {"frozen_statistics": True}
        choices.append(Option(f"frozen: {method}", method, frozen, against=own))
    return choices


def _output_bias() -> list[Option]:
    """Where the last layer's bias starts (D27), for labels of which few are foreground (masks) and
    of which many are (strokes).
    """
    choices = []
    for method in ("supervised", "s2l"):
        zero = f"zero: {method}"
        choices.append(Option(zero, method, {"output_bias": "zero"}))
        labels = {"output_bias": "labels"}
        choices.append(Option(f"of the labels: {method}", method, labels, against=zero))
    return choices


def table_file(profile: str) -> Path:
    """Where the trials of a profile are kept."""
    return paths.results(profile) / "recipe.csv"


def kept_trials(profile: str) -> pd.DataFrame:
    """The trials made so far; empty before the first."""
    file = table_file(profile)
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=TRIAL_COLUMNS)


def trials(
    profile: str, dataset: str, names: list[str] | None = None
) -> list[tuple[str, Option, int]]:
    """(experiment, choice, seed) of every trial, one seed of all choices after the other.

    Raises:
        S2LError: an experiment that does not exist.
    """
    known = experiments(profile, dataset)
    for name in names or []:
        if name not in known:
            raise S2LError(
                f"experiment = {name!r} is not known. Choose one of: {', '.join(known)}."
            )
    plan = [
        (name, choice, seed)
        for name in names or known
        for choice in known[name]
        for seed in choice.seeds
    ]
    return sorted(plan, key=lambda trial: trial[2])


def summary(kept: pd.DataFrame, choices: list[Option]) -> pd.DataFrame:
    """What the trials of one experiment say; choices without a trial are left out.

    Args:
        kept: rows of `kept_trials` of one experiment and data set.
        choices: of that experiment, in the order of the rows returned.

    Returns:
        A row for each choice: runs, mean, lowest and highest validation IoU of its last weights,
        and the mean paired difference from the choice it is compared with, seed by seed, between
        the ends of its 95 % interval (Student's t); NaN where fewer than two seeds have both.
    """
    scores = kept.pivot_table(index="seed", columns="choice", values="validation_iou")
    rows = []
    for choice in choices:
        if choice.label not in scores:
            continue
        own = scores[choice.label].dropna()
        row = {"choice": choice.label, "runs": len(own), "IoU": own.mean()}
        row |= {"lowest": own.min(), "highest": own.max(), "against": choice.against}
        if choice.against in scores:
            paired = (own - scores[choice.against]).dropna()
            row |= {"difference": paired.mean(), **_interval(paired)}
        rows.append(row)
    columns = ["choice", "runs", "IoU", "lowest", "highest", "against", "difference", "from", "to"]
    return pd.DataFrame(rows, columns=columns)


def _interval(differences: pd.Series) -> dict[str, float]:
    """The ends of the 95 % interval of a mean difference."""
    n = len(differences)
    if n < 2:
        return {"from": math.nan, "to": math.nan}
    half = stats.t.ppf(0.975, n - 1) * differences.std() / math.sqrt(n)
    return {"from": differences.mean() - half, "to": differences.mean() + half}
