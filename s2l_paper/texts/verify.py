"""`make verify`: every committed number computed anew from `per_image.csv`, every run checked.

A run is held against its hash. Needs neither images nor weights nor torch.
"""

import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from s2l_core.config import FULL, TABLE1_METHODS, RunConfig, S2LError, digest, suggestion
from s2l_core.profiles import PROFILES
from s2l_images.files import write_text
from s2l_paper import paths
from s2l_paper.comparing import apart, comparisons, sensitivity
from s2l_paper.figures import separation
from s2l_paper.figures.plotting import drawn
from s2l_paper.figures.redrawn import redrawn
from s2l_paper.running import results
from s2l_paper.tables import apart_texts
from s2l_paper.tables.claims import all_tests, differences, ledger
from s2l_paper.tables.ledger_text import claims_markdown
from s2l_paper.tables.table1 import (
    TABLE1_SCORES,
    image_scores,
    summary,
    table1,
    table1_html,
    table1_markdown,
)
from s2l_paper.texts import executed, measured_texts
from s2l_paper.texts.provenance import reproducibility, run_files

MADE_ANEW = ("smoke", "demo")  # on each machine, never committed
TABLE_BLOCK = re.compile(r"(<!-- (table1|claims) ?([\w-]*) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)
GENERATED = re.compile(r"(<!-- generated:([\w-]+) -->\n?)(.*?)(<!-- /generated:\2 -->)", re.DOTALL)
PRODUCTS = ("table1.csv", "table1.md", "table1.html", "scores.csv", "factorial.csv", "claims.csv")
PRODUCTS += ("differences.csv", "spreads.csv", "claims.md")
UNREADABLE = "cannot be read"


def profiles() -> list[str]:
    """Profiles with committed results."""
    return [name for name in PROFILES if name not in MADE_ANEW and run_files(name)]


def products(profile: str) -> dict[str, str]:
    """Name -> content of every table in a profile's folder.

    Raises:
        S2LError: no finished run.
    """
    runs = results.load_runs(profile)
    table, tests = table1(runs), all_tests(runs)
    claims, compared = ledger(runs, profile, tests), differences(runs, tests)
    effects = comparisons.factorial(runs[runs.shown], list(TABLE1_SCORES))
    every = results.load_runs(profile, variants=True)
    texts = {
        "table1.csv": table.to_csv(index=False),
        "table1.md": table1_markdown(table),
        "table1.html": table1_html(table),
        "scores.csv": _wide(profile, every).round(4).to_csv(index=False),
        "claims.csv": claims.to_csv(index=False),
        "differences.csv": compared.to_csv(index=False),
        "claims.md": claims_markdown(claims, compared),
    }
    moved = comparisons.spreads(runs, TABLE1_SCORES).stack(level=0).reset_index()
    texts["spreads.csv"] = moved.rename(columns={"level_2": "score"}).to_csv(index=False)
    if not effects.empty:
        texts["factorial.csv"] = effects.round(4).to_csv()
    return texts | sensitivity.tables(profile, every)


def _wide(profile: str, every: pd.DataFrame) -> pd.DataFrame:
    """The mean of every score of all runs, and of those with touching nuclei told apart."""
    return apart_texts.with_columns(summary(every), every, apart.measured(profile))


def run_faults(folder: Path) -> list[str]:
    """Why a run is not what would be run now.

    Its configuration, splits, scribbles or numerics may have changed, or its table was altered.
    """
    try:
        record = json.loads((folder / "config.json").read_text())
        config = RunConfig.from_dict(record["config"])
        stated_hash, stated_table = record["hash"], record["per_image"]
        table = (folder / "per_image.csv").read_bytes()
        changes = _changes(record, config)
        json.loads((folder / "env.json").read_text())
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        restore = "Restore it, or delete the folder and run it again"
        return [f"{_name(folder)}: {UNREADABLE}: {error}. {restore}."]

    faults, again = [], f"Delete it and run it again: make reproduce PROFILE={config.profile}"
    expected = results.run_id(config)
    if stated_hash != results.run_hash(config) or folder.name != expected:
        changes = changes or [f"its configuration gives {expected}"]
        faults.append(f"{_name(folder)}: stale: {', '.join(changes)} now. {again}")
    if digest(table, 16) != stated_table:
        altered = f"{_name(folder)}/per_image.csv: altered since the run wrote it"
        faults.append(f"{altered}. Restore it. {again}")
    return faults


def _changes(record: dict, config: RunConfig) -> list[str]:
    """What a run recorded otherwise than it would be recorded now."""
    recorded, inputs, now = record["config"], record["inputs"], config.to_dict()
    changes = []
    for name in now:
        if name not in recorded or recorded[name] != now[name]:
            changes.append(f"{name} is {now[name]!r}")
    for name, value in results.run_inputs(config).items():
        if inputs.get(name) != value:
            changes.append(f"{name} changed")
    return changes


def table_faults(profile: str) -> list[str]:
    """What in a profile's tables, figures and notebook does not follow from its finished runs."""
    folder = paths.results(profile)
    try:
        expected, runs = products(profile), results.load_runs(profile, variants=True)
    except S2LError as error:
        return [str(error)]

    faults = []
    for name, text in expected.items():
        faults += _text_faults(folder / name, text)
    shown = executed.tables(profile, expected, results.load_runs(profile), runs)
    faults += executed.faults(profile, shown, runs.run_id.unique())
    for word, file, table in (
        ("separation", paths.separation(profile), separation.measured(profile)),
        ("apart", paths.apart(profile), apart.measured(profile)),
    ):
        if gone := sorted(set(table.run_id) - set(runs.run_id)):
            again = f"Measure it again: s2l {word} {profile}"
            faults.append(f"{_name(file)}: names run {gone[0]}, which is not there. {again}")
    charts = redrawn(profile)
    for file in sorted(paths.figures(profile).glob("*.png")):
        faults += _figure_faults(file, runs, profile, charts.get(file.name))
    return faults


def _figure_faults(
    file: Path, runs: pd.DataFrame, profile: str, draw: Callable[[], Figure] | None
) -> list[str]:
    """What a picture says of its runs and scores that does not follow from the finished runs.

    Args:
        file: the picture.
        runs: as given by `results.load_runs`.
        profile: whose runs they are.
        draw: draws it anew, where it is a chart.
    """
    info, again = Image.open(file).text, f"Draw it again: {_drawn_by(file.name, profile)}"
    ids = info.get("RunIds", "").split()
    if info.get("Hash") != digest(ids) or not set(ids) <= set(runs.run_id):
        return [f"{_name(file)}: made from other runs than those that are finished. {again}"]

    wrong = _wrong_scores(json.loads(info.get("Scores", "{}")), runs)

    # A chart is drawn once more; what it would show may have changed with the same runs.
    if draw and info.get("Drawn") != drawn(draw()):
        wrong.append("shows other numbers or words than its runs give")

    if file.name == "figure2.png":
        wanted = _runs_of_figure2(runs, profile)
        if set(ids) != wanted or "Scores" not in info:
            wrong.append(f"shows {len(ids)} of {len(wanted)} runs, or lacks scores")
    return [f"{_name(file)}: {what}. {again}" for what in wrong]


def _wrong_scores(printed: dict[str, str], runs: pd.DataFrame) -> list[str]:
    """Which scores in a picture are not those of the runs.

    Args:
        printed: `RUN/IMAGE` -> what the picture prints.
        runs: as given by `results.load_runs`.
    """
    rows = runs[runs.shown].set_index(["run_id", "image"])
    wrong = []
    for place, text in printed.items():
        run = tuple(place.split("/", 1))
        computed = image_scores(rows.loc[run]) if run in rows.index else "nothing"
        if text != computed:
            wrong.append(f"prints {text!r} for {place}, computed {computed!r}")
    return wrong


def _runs_of_figure2(runs: pd.DataFrame, profile: str) -> set[str]:
    """Ids of the runs in Fig. 2: Table 1's methods on the first fold and test part of each set."""
    own = {
        dataset: str(RunConfig(dataset, FULL, profile=profile).annotator)
        for dataset in runs.dataset.unique()
    }
    usual = (runs.seed == 0) & (runs["rotation"] == 0) & (runs.variant == "")
    usual &= runs.annotator == runs.dataset.map(own)
    first = runs[runs.method.isin(TABLE1_METHODS) & usual]
    first = first[first.fold == first.groupby("dataset").fold.transform("min")]
    return set(first.run_id)


def _drawn_by(picture: str, profile: str) -> str:
    """The command that draws a picture."""
    if picture == "separation.png":
        return f"s2l separation {profile}"
    notebooks = {"costs.png": "05_ablation", "differences.png": "06_table1"}
    notebooks |= dict.fromkeys(("readings.png", "budget.png"), "09_readings")
    name = notebooks.get(picture, "07_figure2")
    executed_copy = paths.executed(profile) / f"{name}.ipynb"
    return f"s2l notebook {name} {_name(executed_copy)} profile={profile}"


def documents(found: list[str]) -> dict[Path, str]:
    """REPRODUCIBILITY.md, and the pages that are there with their blocks filled anew."""
    texts = {paths.home() / "REPRODUCIBILITY.md": reproducibility(found)}
    measured = measured_texts.texts()

    def fill(block: re.Match) -> str:
        begin, name, profile, text, end = block.groups()
        file = paths.results(profile or measured_texts.UNNAMED) / f"{name}.md"
        return begin + (file.read_text() if file.exists() else text) + end

    def renew(block: re.Match) -> str:
        begin, name, text, end = block.groups()
        return begin + measured.get(name, text) + end

    for page in map(paths.home().joinpath, measured_texts.PAGES):
        if page.exists():
            texts[page] = GENERATED.sub(renew, TABLE_BLOCK.sub(fill, page.read_text()))
    return texts


def write(found: list[str]) -> None:
    """Writes every table and document; a profile without finished runs is left as it is."""
    for profile in found:
        try:
            texts = products(profile)
        except S2LError as error:
            print(f"not written: {error}")
            continue
        for name, text in texts.items():
            write_text(paths.results(profile) / name, text)
    for file, text in documents(found).items():
        write_text(file, text)


def faults(found: list[str]) -> list[str]:
    """Everything that does not hold in the profiles found, a line each."""
    lines = _unknown_profiles()
    for profile in found:
        for file in run_files(profile):
            lines += run_faults(file.parent)
    if any(UNREADABLE in line for line in lines):
        return lines  # no table can be made while a run cannot be read

    for profile in found:
        lines += table_faults(profile)
    for profile in paths.profiles():
        if profile in PROFILES:
            lines += executed.faults(profile, executed.recipe_tables(profile), ())
    for file, text in documents(found).items():
        lines += _text_faults(file, text)
    return lines


def _unknown_profiles() -> list[str]:
    """Folders of results whose profile this version does not know, such as one that was renamed."""
    faults = []
    for name in paths.profiles():
        if name not in PROFILES and run_files(name):
            meant = suggestion(name, PROFILES)
            faults.append(f"results/{name}: no profile has this name.{meant} Rename or delete it.")
    return faults


def _text_faults(file: Path, expected: str) -> list[str]:
    """The first place where a file differs from what its runs say."""
    again = "Write it from the runs: s2l verify --write"
    if not file.exists():
        return [f"{_name(file)}: missing. {again}"]
    found = file.read_text()
    if found == expected:
        return []

    # The first line that differs, from a little before the first character that does.
    lines = itertools.zip_longest(found.splitlines(), expected.splitlines(), fillvalue="")
    number, (old, new) = next((n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1])
    start = max(0, len(os.path.commonprefix([old, new])) - 30)
    old, new = old[start : start + 60], new[start : start + 60]
    return [f"{_name(file)}, line {number}: {old!r}, computed {new!r}. {again}"]


def _name(path: Path) -> str:
    return str(path.relative_to(paths.home()))


def report(*, write_first: bool = False) -> int:
    """Prints what was checked and what does not hold.

    Args:
        write_first: write all tables and documents from the runs before.

    Returns:
        1 where anything does not hold, else 0.
    """
    found = profiles()
    if write_first:
        write(found)
    lines = faults(found)

    for profile in found:
        files = {file.name for file in paths.results(profile).glob("*.*")}
        by_hand = files - {*PRODUCTS, *sensitivity.READINGS_FILES}
        print(f"{profile}: {len(run_files(profile))} runs, {len(files - by_hand)} tables")
        for name in sorted(by_hand):
            print(f"  not made from runs, not checked: {name}")
    for line in lines:
        print(line)
    print(f"{len(lines)} faults" if lines else "every number follows from the runs")
    return int(bool(lines))
