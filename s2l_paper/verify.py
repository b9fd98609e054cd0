"""`make verify`: every committed number computed anew from `per_image.csv`,
every run held against its hash.

Needs neither images nor weights nor torch. `--write` writes what it would have expected.
"""

import argparse
import itertools
import json
import os
import re
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from s2l_core.config import TABLE1_METHODS, RunConfig, S2LError, digest
from s2l_core.files import write_text
from s2l_core.profiles import PROFILES
from s2l_paper import paths, results, sensitivity
from s2l_paper.claims import claims_markdown, ledger
from s2l_paper.provenance import reproducibility, run_files
from s2l_paper.table1 import image_scores, summary, table1, table1_html, table1_markdown

MADE_ANEW = ("smoke", "demo")  # on each machine, never committed
BLOCK = re.compile(r"(<!-- (table1|claims) ?([\w-]*) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)
PRODUCTS = ("table1.csv", "table1.md", "table1.html", "scores.csv", "claims.csv", "claims.md")
UNREADABLE = "cannot be read"
SHOWN = "cpu"  # profile of a block in the README that names none


def profiles() -> list[str]:
    """Profiles with committed results."""
    return [name for name in PROFILES if name not in MADE_ANEW and run_files(name)]


def products(profile: str) -> dict[str, str]:
    """Name -> content of every table in a profile's folder.

    Raises:
        S2LError: no finished run.
    """
    runs = results.load_runs(profile)
    table, claims = table1(runs), ledger(runs, profile)
    every = results.load_runs(profile, variants=True)
    wide = summary(every).round(4)
    texts = [
        table.to_csv(index=False),
        table1_markdown(table),
        table1_html(table),
        wide.to_csv(index=False),
    ]
    texts += [claims.to_csv(index=False), claims_markdown(claims)]
    return dict(zip(PRODUCTS, texts, strict=True)) | sensitivity.tables(profile, every)


def run_faults(folder: Path) -> list[str]:
    """Why a run is not what would be run now: configuration, splits, scribbles, numerics,
    or an altered table.
    """
    try:
        record = json.loads((folder / "config.json").read_text())
        config, recorded, inputs = (
            RunConfig.from_dict(record["config"]),
            record["config"],
            record["inputs"],
        )
        stated, table = (
            (record["hash"], record["per_image"]),
            (folder / "per_image.csv").read_bytes(),
        )
        json.loads((folder / "env.json").read_text())
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return [
            f"{_name(folder)}: {UNREADABLE}: {error}. Restore it, or delete the folder and run it"
            " again."
        ]
    stale = []
    if (stated[0], folder.name) != (results.run_hash(config), results.run_id(config)):
        now = config.to_dict()
        stale = [
            f"{name} is {now[name]!r}" for name in now if recorded.get(name, "none") != now[name]
        ]
        stale += [
            f"{name} changed"
            for name, value in results.run_inputs(config).items()
            if inputs.get(name) != value
        ]
        stale = stale or [f"its configuration gives {results.run_id(config)}"]
    again = f"Delete it and run it again: make reproduce PROFILE={config.profile}"
    faults = [f"{_name(folder)}: stale: {', '.join(stale)} now. {again}"] if stale else []
    if digest(table, 16) != stated[1]:
        faults.append(
            f"{_name(folder)}/per_image.csv: altered since the run wrote it. Restore it. {again}"
        )
    return faults


def table_faults(profile: str) -> list[str]:
    """What in a profile's tables, figures and executed notebook does not follow from its finished
    runs.
    """
    folder, faults = paths.results(profile), []
    try:
        expected, runs = products(profile), results.load_runs(profile, variants=True)
    except S2LError as error:
        return [str(error)]
    for name, text in expected.items():
        faults += _text_faults(folder / name, text)
    executed = paths.executed(profile) / "06_table1.ipynb"
    if executed.exists():
        cells = json.loads(executed.read_text())["cells"]
        outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
        shown = ["".join(data.get("text/markdown", "")) for data in outputs]
        for name in ("table1.md", "claims.md"):
            if expected[name].strip() not in [text.strip() for text in shown]:
                faults.append(
                    f"{_name(executed)}: does not show {name} as computed. Execute the notebook"
                    " again."
                )
    for file in sorted(paths.figures(profile).glob("*.png")):
        faults += _figure_faults(file, runs)
    return faults


def _figure_faults(file: Path, runs: pd.DataFrame) -> list[str]:
    info, faults, again = Image.open(file).text, [], "Draw it again: notebook 07."
    ids = info.get("RunIds", "").split()
    if info.get("Hash") != digest(ids) or not set(ids) <= set(runs.run_id):
        return [f"{_name(file)}: made from other runs than those that are finished. {again}"]
    rows = runs[runs.shown].set_index(["run_id", "image"])
    for place, text in json.loads(info.get("Scores", "{}")).items():
        run = tuple(place.split("/", 1))
        computed = image_scores(rows.loc[run]) if run in rows.index else "nothing"
        if text != computed:
            faults.append(
                f"{_name(file)}: prints {text!r} for {place}, computed {computed!r}. {again}"
            )
    usual = (runs.seed == 0) & (runs.annotator == "0") & (runs.variant == "")
    first = runs[runs.method.isin(TABLE1_METHODS) & usual]
    first = first[first.fold == first.groupby("dataset").fold.transform("min")]
    if file.name == "figure2.png" and (set(ids) != set(first.run_id) or "Scores" not in info):
        faults.append(
            f"{_name(file)}: shows {len(ids)} of {first.run_id.nunique()} runs, or no scores."
            f" {again}"
        )
    return faults


def documents(found: list[str]) -> dict[Path, str]:
    """README.md with its blocks filled from the profiles' folders, where it is,
    and REPRODUCIBILITY.md.
    """
    readme = paths.home() / "README.md"
    texts = {paths.home() / "REPRODUCIBILITY.md": reproducibility(found)}

    def fill(block: re.Match) -> str:
        file = paths.results(block[3] or SHOWN) / f"{block[2]}.md"
        return block[1] + (file.read_text() if file.exists() else block[4]) + block[5]

    return texts | ({readme: BLOCK.sub(fill, readme.read_text())} if readme.exists() else {})


def write(found: list[str]) -> None:
    """Writes every table, the blocks of README.md and REPRODUCIBILITY.md;
    a profile without finished runs is left.
    """
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
    lines = [
        fault for name in found for file in run_files(name) for fault in run_faults(file.parent)
    ]
    if any(UNREADABLE in line for line in lines):
        return lines  # tables cannot be made from it
    lines += [fault for name in found for fault in table_faults(name)]
    return lines + [
        fault for file, text in documents(found).items() for fault in _text_faults(file, text)
    ]


def _text_faults(file: Path, expected: str) -> list[str]:
    """The first place where a file differs from what its runs say."""
    again = "Write it from the runs: python -m s2l_paper.verify --write"
    if not file.exists():
        return [f"{_name(file)}: missing. {again}"]
    found = file.read_text()
    if found == expected:
        return []
    lines = itertools.zip_longest(found.splitlines(), expected.splitlines(), fillvalue="")
    number, (old, new) = next((n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1])
    at = max(0, len(os.path.commonprefix([old, new])) - 30)
    return [
        f"{_name(file)}, line {number}: {old[at : at + 60]!r}, computed {new[at : at + 60]!r}."
        f" {again}"
    ]


def _name(path: Path) -> str:
    return str(path.relative_to(paths.home()))


def main(arguments: list[str] | None = None) -> None:
    """Command line: prints what was checked and what does not hold;
    ends with 1 where anything does not.
    """
    parser = argparse.ArgumentParser(
        prog="python -m s2l_paper.verify", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="write the tables and documents first")
    given = parser.parse_args(arguments)
    found = profiles()
    if given.write:
        write(found)
    lines = faults(found)
    for profile in found:
        files = {file.name for file in paths.results(profile).glob("*.*")}
        made = files - {*PRODUCTS, *sensitivity.PRODUCTS}
        print(f"{profile}: {len(run_files(profile))} runs, {len(files - made)} tables")
        print(*(f"  not made from runs, not checked: {name}" for name in sorted(made)), sep="\n")
    print(
        *lines, f"{len(lines)} faults" if lines else "every number follows from the runs", sep="\n"
    )
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
