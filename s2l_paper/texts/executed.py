"""Compares what executed notebooks show with what the committed runs give now.

Tables are found by the id of their cell and compared as the notebook shows them, digit by digit.
"""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pandas as pd

from s2l_paper import paths
from s2l_paper.comparing import comparisons, recipe_plan, sensitivity
from s2l_paper.figures import separation
from s2l_paper.tables import table1

AGAIN = "Execute the notebook again"
HTML, MARKDOWN = "text/html", "text/markdown"
RUN = re.compile(r"\b[a-z0-9-]+_(?!warmup_)[a-z0-9-]+_f\d+_s\d+_[0-9a-f]{8}\b")


@dataclass(frozen=True)
class Shown:
    """A table that a cell of a notebook has to show.

    Attributes:
        notebook: its name, without its ending.
        cell: the cell's id.
        text: the table as HTML or Markdown.
        kind: which of both.
    """

    notebook: str
    cell: str
    text: str
    kind: str = HTML


def tables(
    profile: str, texts: dict[str, str], runs: pd.DataFrame, every: pd.DataFrame
) -> list[Shown]:
    """The tables of notebooks 03, 05, 06 and 09 for a profile.

    Args:
        profile: whose runs they are.
        texts: the profile's files, as `verify.products` gives them.
        runs: as given by `results.load_runs`.
        every: the same with variants.
    """
    found = [
        Shown("06_table1", "table", texts["table1.html"]),
        Shown("06_table1", "claims", texts["claims.md"], MARKDOWN),
        Shown("06_table1", "summary", texts["table1.md"], MARKDOWN),
    ]
    if "s2l" in set(runs.method):
        found.append(_frame("05_ablation", "difference", comparisons.gains(runs, "iou")))
        found += _notebook_06(runs, every)
    separated = separation.shown()
    if len(separated):
        found.append(_frame("03_method", "real-cells", separation.summary(separated)))
    return found + _notebook_09(profile, every)


def _frame(notebook: str, cell: str, frame: pd.DataFrame) -> Shown:
    return Shown(notebook, cell, frame._repr_html_())


def _notebook_06(runs: pd.DataFrame, every: pd.DataFrame) -> list[Shown]:
    """What notebook 06 shows besides Table 1 and the ledger."""
    counted = ("fold", "rotation", "seed", "annotator", "image")
    counts = runs.groupby(["data", "method"]).agg(**{name: (name, "nunique") for name in counted})
    moves = comparisons.spreads(runs, table1.TABLE1_SCORES).astype(object).fillna("")

    columns = ["difference", "low", "high", "p_holm", "p_equal_holm", "detectable"]
    samples = ["groups", "repetitions", "noise", "kinds_above", "kinds"]
    against = table1.against_s2l(runs).droplevel("other")
    effects = comparisons.factorial(runs[runs.shown], list(table1.TABLE1_SCORES))
    wide = table1.summary(every)
    frames = {
        "gather": counts,
        "tests": table1.for_a_page(against[columns]).round(4),
        "samples": table1.for_a_page(against[samples]).round(4),
        "factorial": table1.for_a_page(effects[columns]).round(4),
        "drawn": moves,
        "wide": table1.every_score(wide[wide.variant == ""]).round(3),
    }
    return [_frame("06_table1", cell, frame) for cell, frame in frames.items()]


def _notebook_09(profile: str, every: pd.DataFrame) -> list[Shown]:
    """What notebook 09 shows of readings and budgets."""
    found = []
    readings = sensitivity.reading_table(profile, every)
    if len(readings):
        own = readings[readings.score == "IoU"].drop(columns=["score", "run_ids"])
        found.append(_frame("09_readings", "effects", own))
    budgets = sensitivity.budget_table(profile, every)
    if len(budgets):
        own = budgets[budgets.score == "IoU"]
        wide = own.pivot(index="method", columns="budget", values="mean")
        found.append(_frame("09_readings", "effort", wide))
    return found


def recipe_tables(profile: str) -> list[Shown]:
    """The tables of notebook 10, from the trials that are kept; none where there are none.

    Args:
        profile: whose `recipe.csv`.
    """
    kept = recipe_plan.kept_trials(profile)
    if kept.empty:
        return []
    dataset = kept.dataset.iloc[0]
    kept = kept[kept.dataset == dataset]
    known = recipe_plan.experiments(profile, dataset)
    cells = {"labels": "labels", "coarse": "coarse term", "annotator": "annotator and budget"}
    cells |= {"pretraining": "pretraining", "statistics": "statistics"}
    cells |= {"output-bias": "output bias"}
    found = []
    for cell, name in cells.items():
        frame = recipe_plan.summary(kept[kept.experiment == name], known[name]).round(3)
        found.append(_frame("10_recipe", cell, frame))
    same = kept[kept.experiment == "noise"].groupby("choice").validation_iou
    noise = same.agg(["count", "mean", "std", "min", "max"]).round(3)
    return [*found, _frame("10_recipe", "noise", noise)]


def faults(profile: str, expected: Iterable[Shown], runs: Iterable[str]) -> list[str]:
    """Every table of an executed notebook that is not what was computed, a line each.

    Args:
        profile: whose executed notebooks.
        expected: the tables; those of notebooks that are not there are passed over.
        runs: ids of the runs that are there; a notebook that prints another is named.
    """
    lines, known = [], set(runs)
    by_notebook = sorted(expected, key=lambda shown: shown.notebook)
    for name, tables_of_it in itertools.groupby(by_notebook, key=lambda shown: shown.notebook):
        file = paths.executed(profile) / f"{name}.ipynb"
        if not file.exists():
            continue
        outputs = _outputs(file)
        for shown in tables_of_it:
            lines += _table_faults(file, shown, outputs.get(shown.cell, []))
        printed = set(RUN.findall(json.dumps(list(outputs.values()))))
        if known and (gone := sorted(printed - known)):
            lines.append(f"{_name(file)}: names run {gone[0]}, which is not there. {AGAIN}.")
    return lines


def _outputs(file: Path) -> dict[str, list[dict]]:
    """What each cell of an executed notebook shows, by its id: kind -> text."""
    found = {}
    for cell in json.loads(file.read_text())["cells"]:
        data = [output.get("data", {}) for output in cell.get("outputs", [])]
        found[cell.get("id")] = [
            {kind: "".join(text) for kind, text in one.items() if kind in (HTML, MARKDOWN)}
            for one in data
        ]
    return found


def _table_faults(file: Path, shown: Shown, outputs: list[dict]) -> list[str]:
    """Where a table differs from what was computed: the first field that does."""
    found = [one[shown.kind] for one in outputs if shown.kind in one]
    place = f"{_name(file)}, cell {shown.cell!r}"
    if not found:
        return [f"{place}: shows no table. {AGAIN}."]
    now = _fields(shown.text)
    ours = min((_fields(text) for text in found), key=lambda fields: _differing(fields, now))
    for old, new in itertools.zip_longest(ours, now, fillvalue="nothing"):
        if old != new:
            return [f"{place}: shows {old[:60]!r}, computed {new[:60]!r}. {AGAIN}."]
    return []


def _differing(fields: list[str], now: list[str]) -> int:
    return sum(a != b for a, b in itertools.zip_longest(fields, now))


def _fields(text: str) -> list[str]:
    """The fields of a table in HTML or Markdown, and the lines between, without any mark-up."""
    pieces = re.split(r"</t[dh]>|</caption>|</p>|\||\n", text)
    plain = [unescape(re.sub(r"<[^>]*>", "", piece)).strip() for piece in pieces]
    return [piece for piece in plain if piece]


def _name(file: Path) -> str:
    return str(file.relative_to(paths.home()))
