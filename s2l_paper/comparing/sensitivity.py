"""What the paper leaves open, varied one at a time; and scores against the effort of drawing.
Configurations and tables.

Profile `scratch` trained each reading once, for half its steps; later profiles train it in full,
and again with other seeds and other test images, so that a difference can be held against run
noise.
"""

import dataclasses
import math
from collections.abc import Mapping

import pandas as pd
from scipy import stats

from s2l_core.config import FULL, R1, R4, RunConfig, ScaleTerm
from s2l_core.profiles import PROFILES, ROTATING
from s2l_paper.comparing.statistics import ALPHA, holm
from s2l_paper.comparing.training_noise import Noise, pooled_noise, run_noise
from s2l_paper.running.results import run_id

DEFAULT = "default"
BETWEEN = ScaleTerm(block=4, weight=2.2, temperature=0.2)  # R2x2: between R1x1 and R4x4
COARSER = (
    ScaleTerm(block=2, weight=10.0, temperature=0.1),
    ScaleTerm(block=1, weight=10.0, temperature=0.1),
)
READINGS = {  # what differs from the default reading
    "D1: target and": {"pair_target": "and"},
    "D1: target or": {"pair_target": "or"},
    "D2: balanced mean": {"pair_reduction": "balanced"},
    "D3: 500 regions": {"max_regions": 500},
    "D3: 2000 regions": {"max_regions": 2000},
    "D3: 6000 regions": {"max_regions": 6000},
    "D3: equal classes": {"equalise": True},
    "D4: unanimous regions": {"region_rule": "unanimous"},
    "D5: scribbles alone": {"contrast_labels": "scribbles"},
    "D8: average from zero": {"average_start": "zero"},
    "D16: blind strokes": {"annotator": 0},
    "D16: attentive strokes": {"annotator": "attentive-0"},
    "D16: skeleton strokes": {"annotator": "skeleton"},
    "D18: pairs in one image": {"pairs": "image"},
    "three scales": {"scales": (R1, BETWEEN, R4)},
    "all five blocks": {"scales": (R1, BETWEEN, R4, *COARSER)},
    "no contrast (S2L)": {"method": "s2l", "scales": None},
}
LAST = "D10: last weights"  # another checkpoint of the default's run
BUDGETS = (0.1, 0.3, 0.5, 1.0)  # D16: share of nuclei that carry a stroke
DRAWN = ("s2l", FULL, "random-forest")
READINGS_FILES = ("readings.csv", "budget.csv")
PANELS = {"iou": "IoU", "mdice_official": "mDice"}  # scores that are shown, in this order


REPEATED_ON = {"pretrained": "dsb-bf"}  # profile -> the data set whose readings are repeated
REPEATS = (0, 1, 2)  # seeds, each with another test part


def default(profile: str, method: str = FULL) -> RunConfig:
    """A run of a method, of the full one where none is named, fold 0.

    Where readings are repeated it is the profile's own run. Else it is on fluorescence if the
    profile has it, of real images the subset, and takes half the steps.
    """
    if profile in REPEATED_ON:
        return RunConfig(REPEATED_ON[profile], method, profile=profile)
    sets = PROFILES[profile].datasets
    dataset = next((name for name in sets if name.endswith("fluo")), sets[0])
    usual = RunConfig(dataset, method, profile=profile, subset=dataset == "dsb-fluo")
    lengths = ("warmup_steps", "main_steps", "average_every", "validate_every")
    halves = {name: max(1, getattr(usual, name) // 2) for name in lengths}
    return dataclasses.replace(usual, **halves)


def readings(profile: str) -> dict[str, RunConfig]:
    """Label -> first run, the default first; a reading that is the profile's own is left out.

    Who drew was not varied in profile `scratch`.
    """
    usual = default(profile)
    varied = {DEFAULT: usual}
    for label, change in READINGS.items():
        run = dataclasses.replace(usual, **change)
        if run != usual and (profile in REPEATED_ON or "annotator" not in change):
            varied[label] = run
    return varied


def budgets(profile: str) -> dict[tuple[str, float], RunConfig]:
    """(method, budget) -> first run; the supervised network, which sees full masks, once."""
    plan = [(method, budget) for method in DRAWN for budget in BUDGETS]
    plan.append(("supervised", default(profile).budget))
    return {
        (method, share): dataclasses.replace(default(profile, method), budget=share)
        for method, share in plan
    }


def repeats(run: RunConfig) -> list[RunConfig]:
    """A run and its repetitions, each with a seed and a test part of its own."""
    if run.profile not in REPEATED_ON:
        return [run]
    turns = run.dataset in ROTATING
    return [
        dataclasses.replace(run, seed=number, rotation=number if turns else 0) for number in REPEATS
    ]


def batch(profile: str) -> list[RunConfig]:
    """Every run of both comparisons, each once."""
    first = [*readings(profile).values(), *budgets(profile).values()]
    runs = [repeated for run in first for repeated in repeats(run)]
    return list({run_id(run): run for run in runs}.values())


def reading_table(profile: str, runs: pd.DataFrame) -> pd.DataFrame:
    """What each reading changes against the default.

    A run is its mean over the test images, and its difference is taken to the default's run with
    the same seed and test images. Its error is the noise that is left of all readings after
    reading + repetition; that of the last weights, which belong to the default's own trainings, is
    the spread of their differences. Readings that were trained once have no test: beside them
    stands the noise of the profile's other runs on the data set.

    Args:
        profile: whose `readings`.
        runs: as given by `results.load_runs(profile, variants=True)`.

    Returns:
        A row for each reading that has run, and score: `mean`, `images`, `repetitions`; the
        `difference` to the default, its 95 % interval `low`, `high` and `p_holm`, corrected over
        all rows; `noise`, the standard deviation that a difference of two single trainings has by
        chance; `run_ids`. Empty where the default has not run.
    """
    chosen = {label: repeats(run) for label, run in readings(profile).items()}
    chosen[LAST] = chosen[DEFAULT]
    rows = []
    for column, score in PANELS.items():
        means = _means(runs[runs.shown], chosen, column)
        means[LAST] = _means(runs[runs.checkpoint == "last"], chosen, column)[LAST]
        means = means.dropna(axis=1, how="all")
        if DEFAULT not in means:
            return pd.DataFrame()
        noise = pooled_noise([means.drop(columns=LAST, errors="ignore").to_numpy()])
        shown = noise if noise.df else _noise_of_others(profile, runs, column)
        for label in means:
            row = {"reading": label, "score": score, "mean": means[label].mean()}
            row |= _facts(runs, chosen[label]) | {"noise": shown.sd * math.sqrt(2)}
            if label != DEFAULT:
                gains = means[label] - means[DEFAULT]
                row |= _difference(gains, _own_noise(gains) if label == LAST else noise)
            rows.append(row)
    columns = ["reading", "score", "mean", "images", "repetitions", "difference", "low", "high"]
    table = pd.DataFrame(rows, columns=[*columns, "p", "noise", "run_ids"])
    return table.assign(p_holm=holm(table.p)).drop(columns="p").round(4)


def budget_table(profile: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Scores of every method and budget that has run, a row for each score.

    Repetitions have test images of their own, so only those count that all of these have.

    Returns:
        `mean` over repetitions, `low` and `high`, its 95 % interval over them with the noise that
        is pooled over all methods and budgets (nan where each was trained once); `images`,
        `repetitions`; `noise` as in `reading_table`; `run_ids`.
    """
    chosen = {key: repeats(run) for key, run in budgets(profile).items()}
    rows = []
    for column, score in PANELS.items():
        means = _means(runs[runs.shown], chosen, column).dropna(axis=1, how="all").dropna()
        if means.empty:
            return pd.DataFrame()
        noise = pooled_noise([means.to_numpy()], paired=False)
        between = pooled_noise([means.to_numpy()])
        shown = between if between.df else _noise_of_others(profile, runs, column)
        for (method, budget), values in means.items():
            row = {"method": method, "budget": budget, "score": score, "mean": values.mean()}
            half = stats.t.isf(ALPHA / 2, noise.df) if noise.df else math.nan
            half *= noise.sd / math.sqrt(values.count())
            row |= {"low": row["mean"] - half, "high": row["mean"] + half}
            facts = _facts(runs, [chosen[method, budget][number] for number in means.index])
            rows.append(row | facts | {"noise": shown.sd * math.sqrt(2)})
    return pd.DataFrame(rows).round(4)


def _means(rows: pd.DataFrame, chosen: Mapping, column: str) -> pd.DataFrame:
    """Mean over images of each run: a row for each repetition, a column for each choice."""
    means = rows.groupby("run_id")[column].mean()
    table = {key: [means.get(run_id(run)) for run in runs] for key, runs in chosen.items()}
    return pd.DataFrame(table, dtype=float)


def _facts(runs: pd.DataFrame, chosen: list[RunConfig]) -> dict:
    """How many images and repetitions a choice has, and its runs."""
    found = runs[runs.run_id.isin(map(run_id, chosen))]
    names = sorted(found.run_id.unique())
    return {
        "images": found.image.nunique(),
        "repetitions": len(names),
        "run_ids": " ".join(names),
    }


def _difference(gains: pd.Series, noise: Noise) -> dict:
    """Mean of the repetitions' differences, with interval and p where the noise is known."""
    gains = gains.dropna()
    found = {"difference": gains.mean()}
    if not noise.sd > 0 or gains.empty:
        return found
    error = noise.sd * math.sqrt(2 / len(gains))
    half = stats.t.isf(ALPHA / 2, noise.df) * error
    found |= {"low": found["difference"] - half, "high": found["difference"] + half}
    return found | {"p": 2 * stats.t.sf(abs(found["difference"]) / error, noise.df)}


def _own_noise(gains: pd.Series) -> Noise:
    """Noise of what two weights of the same trainings score, which differs by less than trainings
    do; from the repetitions' differences alone.
    """
    count = gains.count()
    return Noise(gains.std() / math.sqrt(2), count - 1) if count > 1 else Noise(math.nan, 0)


def _noise_of_others(profile: str, runs: pd.DataFrame, column: str) -> Noise:
    """Run noise of the profile's own runs on the data set of the readings."""
    usual = default(profile)
    own = runs[runs.shown & (runs.variant == "") & (runs.dataset == usual.dataset)]
    return run_noise(own, column)


def tables(profile: str, runs: pd.DataFrame) -> dict[str, str]:
    """File name -> CSV of the tables that have a row; nothing where no such run is finished."""
    contents = reading_table(profile, runs), budget_table(profile, runs)
    made = dict(zip(READINGS_FILES, contents, strict=True))
    return {name: table.to_csv(index=False) for name, table in made.items() if not table.empty}
