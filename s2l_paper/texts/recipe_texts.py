"""What the trials of the recipe answer, for docs/results.md: a table, and sentences beside it.

What was not tried yet has no text.
"""

import pandas as pd

from s2l_core.config import METHODS
from s2l_paper.comparing.recipe_plan import experiments, summary
from s2l_paper.tables.table1 import TO, markdown
from s2l_paper.texts.wording import share

DATASET = "dsb-bf"  # whose validation images judge the recipe
LONG = "coarse term"  # has too many choices for the table
EFFECT_COLUMNS = ["question", "choice", "against", "seeds", "difference in IoU", "95 % interval"]


def texts(kept: pd.DataFrame) -> dict[str, str]:
    """Name of a block -> what stands in it.

    Args:
        kept: the trials, as `recipe_plan.kept_trials` returns them.
    """
    known = experiments(dataset=DATASET)
    told = {
        name: summary(kept[(kept.experiment == name) & (kept.dataset == DATASET)], choices)
        for name, choices in known.items()
    }
    found = {
        "recipe-answers": _compared({name: told[name] for name in told if name != LONG}),
        "recipe-coarse": _coarse(told[LONG]),
        "recipe-noise": _noise(kept[kept.experiment == "noise"]),
    }
    return {name: text for name, text in found.items() if text}


def _compared(told: dict[str, pd.DataFrame]) -> str:
    """A row for each choice that was compared with another, seed by seed."""
    table = []
    for question, rows in told.items():
        for row in rows.dropna(subset="difference").to_dict("records"):
            names = [_readable(row["choice"]), _readable(row["against"])]
            interval = f"{share(row['from'], signed=True)}{TO}{share(row['to'], signed=True)}"
            table.append(
                [question, *names, row["runs"], share(row["difference"], signed=True), interval]
            )
    return markdown(pd.DataFrame(table, columns=EFFECT_COLUMNS)) if table else ""


def _readable(choice: str) -> str:
    """A choice with its method by the name that tables have for it."""
    start, _, method = choice.rpartition(": ")
    return f"{start}: {METHODS[method].label}" if method in METHODS else choice


def _coarse(rows: pd.DataFrame) -> str:
    """How all ways to weigh the coarse term compare with S2L."""
    rows = rows.dropna(subset="difference")
    if rows.empty:
        return ""
    below, seeds = int((rows.difference < 0).sum()), int(rows.runs.min())
    sure = int(((rows["from"] > 0) | (rows["to"] < 0)).sum())
    return (
        f"{len(rows) // 2} ways to weigh R4x4 or to bring it in were tried beside R1x1, each with "
        f"strokes in 30 % of the nuclei and in all, with {seeds} seeds: {below} of {len(rows)} "
        f"means are below S2L (differences from {share(rows.difference.min(), signed=True)} to "
        f"{share(rows.difference.max(), signed=True)}), and the intervals of {sure} leave 0 out."
    )


def _noise(rows: pd.DataFrame) -> str:
    """How far trainings with different seeds lie apart."""
    seeds = rows.groupby("method").validation_iou
    if set(seeds.groups) != {"s2l", "scribble-only"}:
        return ""
    spread = seeds.std()
    return (
        f"With {seeds.size().min()} seeds the standard deviation of validation IoU is "
        f"{share(spread['s2l'])} for S2L and {share(spread['scribble-only'])} for scribbles alone."
    )
