"""REPRODUCIBILITY.md: what each run and each cell of Table 1 was made from, on which machine,
in what time, and how.
"""

import json
import shlex
from pathlib import Path

import pandas as pd

from s2l_core.config import METHODS, TABLE1_METHODS, RunConfig
from s2l_paper import paths, results

INTRODUCTION = """# Reproducibility

Written by `python -m s2l_paper.verify --write` from the folders of the runs; `make verify` fails where it differs.
Every random draw has a generator of its own, seeded by (seed, purpose, step). The hash that ends a run's name covers
its configuration, splits, scribbles and the version of the numerics; the commit is provenance only.

The same seed, number of threads, library versions and machine give the same bits; docs/faults.md shows it. Other
processors, operating systems, library versions and GPUs (which compute in bfloat16) may give other digits: these were
not compared.
"""
RUN_COLUMNS = "run fold seed annotator minutes warm-up threads peak_MiB commit command".split()


def run_files(profile: str) -> list[Path]:
    """The record of every run of a profile, finished or stale."""
    return sorted((paths.results(profile) / "runs").glob("*/config.json"))


def command(config: RunConfig) -> str:
    """The command line that makes one run."""
    words = [f"{name}={getattr(config, name)}" for name in ("dataset", "method", "profile")]
    words += [f"{name}={value!r}" for name, value in config.changed().items()]
    return f"python -m s2l_paper.notebooks train {shlex.join(words)}"


def reproducibility(profiles: list[str]) -> str:
    """The document: inputs, machines, versions, the command of every cell, and every run;
    no profile, no section.
    """
    parts = [INTRODUCTION]
    for profile in profiles:
        runs = pd.DataFrame([_facts(file) for file in run_files(profile)])
        hours = (runs.minutes.sum() + runs.drop_duplicates("warm-up of")["warm-up"].sum()) / 60
        own = runs[runs.method.isin(TABLE1_METHODS) & (runs.variant == "")]
        parts += [
            (
                f"## Profile `{profile}`\n\n{len(runs)} runs, {hours:.1f} hours with each warm-up"
                " counted once.\n"
            ),
            f"### Machines and versions\n\n{_markdown(_counted(runs, ['machine', 'versions']))}",
            (
                f"### Inputs\n\n{_markdown(_counted(runs, ['data', 'splits', 'scribbles', 'numerics']))}"
            ),
            (
                "### Cells of Table 1\n\nBoth scores of a row and data"
                f" set.\n\n{_markdown(_cells(own, profile))}"
            ),
            (
                "### Runs\n\nMinutes of wall time; runs of a fold share a"
                f" warm-up.\n\n{_markdown(runs[RUN_COLUMNS])}"
            ),
        ]
    return "\n".join(parts)


def _facts(file: Path) -> dict:
    """One run: its record (`config.json`) and its machine (`env.json`)."""
    with results._reading(file.parent):
        record, env = (
            json.loads(file.read_text()),
            json.loads((file.parent / "env.json").read_text()),
        )
        config, inputs = RunConfig.from_dict(record["config"]), record["inputs"]
        memory = f", {env['memory_gib']} GiB" if "memory_gib" in env else ""
        versions = {"Python": env["python"], **env["packages"]}
        return {
            "run": record["run_id"], "data": results.data_label(config), "dataset": config.dataset,
            "method": config.method, "variant": results.variant(config), "fold": config.fold, "seed": config.seed,
            "rotation": config.rotation,
            "annotator": config.annotator, "minutes": round(env["seconds"] / 60, 1),
            "warm-up": round(env.get("warmup_seconds", 0) / 60, 1),
            "warm-up of": results.warmup_id(config) if METHODS[config.method].forks else record["run_id"],
            "machine": f"{env['machine']}, {env['device']}, {env['cores']} cores{memory}", "threads": env["threads"],
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
            "peak_MiB": env["peak_memory_mib"], "commit": env["commit"], "command": f"`{command(config)}`",
            "splits": inputs["splits"], "scribbles": inputs["scribbles"] or "not read", "numerics": inputs["numerics"],
        }  # fmt: skip


def _cells(runs: pd.DataFrame, profile: str) -> pd.DataFrame:
    """The `make` command of each row of Table 1 on each data set;
    other annotators' runs have their own, below.
    """
    rows = []
    for (data, dataset, method), own in runs.groupby(["data", "dataset", "method"], sort=False):
        folds, seeds = (" ".join(map(str, sorted(set(own[name])))) for name in ("fold", "seed"))
        make = (
            f'make reproduce PROFILE={profile} DATASETS={dataset} METHODS={method} FOLDS="{folds}"'
            f' SEEDS="{seeds}"'
        )
        if any(own.rotation):
            make += f' ROTATIONS="{" ".join(map(str, sorted(set(own.rotation))))}"'
        rows.append({"data": data, "row": METHODS[method].label, "command": f"`{make}`"})
    return pd.DataFrame(rows, columns=["data", "row", "command"])


def _counted(runs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return runs.groupby(columns, sort=False).size().rename("runs").reset_index()


def _markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"
