"""What the paper leaves open, varied one at a time;
and scores against the effort of drawing. Configurations, tables.

Every run here is trained for half the profile's steps, on one fold,
so that the whole comparison costs a few hours.
"""

import dataclasses

import pandas as pd

from s2l_core.config import R1, R4, RunConfig, ScaleTerm
from s2l_core.profiles import PROFILES
from s2l_paper.results import run_id
from s2l_paper.statistics import holm, interval, p_value

FULL = "s2l-r1-r4"
DEFAULT = "default"
BETWEEN = ScaleTerm(
    block=4, weight=2.2, temperature=0.2
)  # R2x2: between R1x1 and R4x4 in weight and temperature
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
    "D18: pairs in one image": {"pairs": "image"},
    "three scales": {"scales": (R1, BETWEEN, R4)},
    "all five blocks": {"scales": (R1, BETWEEN, R4, *COARSER)},
    "no contrast (S2L)": {"method": "s2l", "scales": None},
}
LAST = "D10: last weights"  # another checkpoint of the default's run
BUDGETS = (0.1, 0.3, 0.5, 1.0)  # D16: share of nuclei that carry a stroke
DRAWN = ("s2l", FULL, "random-forest")
READINGS_FILES = ("readings.csv", "budget.csv")
SCORES = {"iou": "IoU", "mdice_official": "mDice"}


def default(profile: str) -> RunConfig:
    """The full method, fold 0, half the steps: on fluorescence if the profile has it,
    of real images the subset.
    """
    sets = PROFILES[profile].datasets
    dataset = next((name for name in sets if name.endswith("fluo")), sets[0])
    usual = RunConfig(dataset, FULL, profile=profile, subset=dataset == "dsb-fluo")
    lengths = ("warmup_steps", "main_steps", "average_every", "validate_every")
    return dataclasses.replace(
        usual, **{name: max(1, getattr(usual, name) // 2) for name in lengths}
    )


def readings(profile: str) -> dict[str, RunConfig]:
    """Label -> run, the default first; a reading that is the profile's own is left out."""
    usual = default(profile)
    varied = {label: dataclasses.replace(usual, **change) for label, change in READINGS.items()}
    return {DEFAULT: usual} | {label: run for label, run in varied.items() if run != usual}


def budgets(profile: str) -> dict[tuple[str, float], RunConfig]:
    """(method, budget) -> run; the supervised network, which sees full masks, once."""
    usual = default(profile)
    plan = [(method, budget) for method in DRAWN for budget in BUDGETS] + [
        ("supervised", usual.budget)
    ]
    return {
        (m, share): dataclasses.replace(usual, method=m, budget=share, scales=None)
        for m, share in plan
    }


def batch(profile: str) -> list[RunConfig]:
    """Every run of both comparisons, each once."""
    runs = [*readings(profile).values(), *budgets(profile).values()]
    return list({run_id(run): run for run in runs}.values())


def reading_table(profile: str, runs: pd.DataFrame) -> pd.DataFrame:
    """What each reading changes, image by image, against the default.

    Args:
        profile: whose `readings`.
        runs: as given by `results.load_runs(profile, variants=True)`.

    Returns:
        A row for each reading that has run and score: its mean over the `images`; `difference` to
        the default with its 95 % interval `low`, `high` and `p_holm` of a paired permutation test,
        corrected over all rows (empty for few images); `run_id`.
        Empty where the default has not run.
    """
    shown = runs[runs.shown].groupby("run_id")
    ids = {label: run_id(config) for label, config in readings(profile).items()}
    found = {
        label: shown.get_group(name).set_index("image")
        for label, name in ids.items()
        if name in shown.groups
    }
    if DEFAULT not in found:
        return pd.DataFrame()
    last = runs[(runs.run_id == ids[DEFAULT]) & (runs.checkpoint == "last")]
    rows = []
    for label, table in (found | {LAST: last.set_index("image")}).items():
        for column, score in SCORES.items():
            gain = table[column] - found[DEFAULT][column]
            row = {
                "reading": label,
                "score": score,
                "mean": table[column].mean(),
                "images": gain.count(),
            }
            if label != DEFAULT:
                purpose = "reading", label, column
                low, high = interval(gain, *purpose)
                row |= {
                    "difference": gain.mean(),
                    "low": low,
                    "high": high,
                    "p": p_value(gain, *purpose),
                }
            rows.append(row | {"run_id": table.run_id.iloc[0]})
    table = pd.DataFrame(
        rows, columns="reading score mean images difference low high p run_id".split()
    )
    return table.assign(p_holm=holm(table.pop("p"))).round(4)


def budget_table(profile: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Scores of every method and budget that has run: mean over images with its 95 % interval,
    a row for each score.
    """
    shown, rows = runs[runs.shown].groupby("run_id"), []
    for (method, budget), config in budgets(profile).items():
        if (name := run_id(config)) not in shown.groups:
            continue
        table = shown.get_group(name)
        for column, score in SCORES.items():
            low, high = interval(table[column], "budget", method, str(budget), column)
            row = {"method": method, "budget": budget, "score": score, "mean": table[column].mean()}
            rows.append(
                row | {"low": low, "high": high, "images": table.image.nunique(), "run_id": name}
            )
    return pd.DataFrame(rows).round(4)


def tables(profile: str, runs: pd.DataFrame) -> dict[str, str]:
    """File name -> CSV of the tables that have a row; nothing where no such run is finished."""
    contents = reading_table(profile, runs), budget_table(profile, runs)
    made = dict(zip(READINGS_FILES, contents, strict=True))
    return {name: table.to_csv(index=False) for name, table in made.items() if not table.empty}
