"""REPRODUCIBILITY.md: from what, on which machine and in what time each run was made, and how."""

import json
import shlex
from pathlib import Path

import pandas as pd

from s2l_core.config import METHODS, TABLE1_METHODS, RunConfig
from s2l_paper import paths
from s2l_paper.running import results
from s2l_paper.tables.table1 import markdown

INTRODUCTION = """# Reproducibility

Written by `s2l verify --write` from the folders of the runs; `make verify` fails where it differs.
Every random draw has a generator of its own, seeded by (seed, purpose, step). The hash that ends a run's name covers
its configuration, splits, scribbles and the version of the numerics; the commit is provenance only.

The same seed, number of threads, library versions and machine give the same bits; docs/faults.md shows it. Other
processors, operating systems, library versions and GPUs (which compute in bfloat16) may give other digits: these were
not compared.
"""  # noqa: E501 lines of a document
RUN_COLUMNS = [
    "run",
    "fold",
    "seed",
    "annotator",
    "minutes",
    "warm-up",
    "threads",
    "peak_MiB",
    "commit",
    "command",
]


def run_files(profile: str) -> list[Path]:
    """The record of every run of a profile, finished or stale."""
    return sorted(paths.runs(profile).glob("*/config.json"))


def command(config: RunConfig) -> str:
    """The command line that makes one run."""
    return f"s2l train {shlex.join(results.words(config))}"


def reproducibility(profiles: list[str]) -> str:
    """The document: inputs, machines, versions, commands, and every run; a section per profile."""
    parts = [INTRODUCTION]
    for profile in profiles:
        runs = pd.DataFrame([_facts(file) for file in run_files(profile)])
        warmups = runs.drop_duplicates("warm-up of")["warm-up"].sum()
        hours = (runs.minutes.sum() + warmups) / 60
        own = runs[runs.method.isin(TABLE1_METHODS) & (runs.variant == "")]
        machines = _counted(runs, ["machine", "versions"])
        inputs = _counted(runs, ["data", "splits", "scribbles", "numerics"])
        parts += [
            f"## Profile `{profile}`\n",
            f"{len(runs)} runs, {hours:.1f} hours with each warm-up counted once.\n",
            f"### Machines and versions\n\n{markdown(machines)}",
            f"### Inputs\n\n{markdown(inputs)}",
            "### Cells of Table 1\n\nBoth scores of a row and data set.\n",
            markdown(_cells(own, profile)),
            "### Runs\n\nMinutes of wall time; runs of a fold share a warm-up.\n",
            markdown(runs[RUN_COLUMNS]),
        ]
    return "\n".join(parts)


def _facts(file: Path) -> dict:
    """One run: its record (`config.json`) and its machine (`env.json`)."""
    record, config = results.recorded(file.parent)
    with results.reading(file.parent):
        env, inputs = json.loads((file.parent / "env.json").read_text()), record["inputs"]
        return {
            "run": record["run_id"],
            "data": results.data_label(config),
            "dataset": config.dataset,
            "method": config.method,
            "variant": results.variant(config),
            "fold": config.fold,
            "seed": config.seed,
            "rotation": config.rotation,
            "annotator": config.annotator,
            "minutes": round(env["seconds"] / 60, 1),
            "warm-up": round(env.get("warmup_seconds", 0) / 60, 1),
            # A run that shares no warm-up counts as one of its own.
            "warm-up of": results.warmup_id(config)
            if METHODS[config.method].forks
            else record["run_id"],
            "machine": _machine(env),
            "threads": env["threads"],
            "versions": _versions(env),
            "peak_MiB": env["peak_memory_mib"],
            "commit": env["commit"],
            "command": f"`{command(config)}`",
            "splits": inputs["splits"],
            "scribbles": inputs["scribbles"] or "not read",
            "numerics": inputs["numerics"],
        }


def _machine(env: dict) -> str:
    """System, device, cores and memory; early runs did not record their memory."""
    words = [env["machine"], env["device"], f"{env['cores']} cores"]
    if "memory_gib" in env:
        words.append(f"{env['memory_gib']} GiB")
    return ", ".join(words)


def _versions(env: dict) -> str:
    """Python and the packages that numbers depend on."""
    versions = {"Python": env["python"], **env["packages"]}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _cells(runs: pd.DataFrame, profile: str) -> pd.DataFrame:
    """The `make` command of each row of Table 1 on each data set, for the usual annotator."""
    rows = []
    for (data, dataset, method), own in runs.groupby(["data", "dataset", "method"], sort=False):
        folds = " ".join(map(str, sorted(set(own.fold))))
        seeds = " ".join(map(str, sorted(set(own.seed))))
        what = f"PROFILE={profile} DATASETS={dataset} METHODS={method}"
        make = f'make reproduce {what} FOLDS="{folds}" SEEDS="{seeds}"'
        if any(own.rotation):
            make += f' ROTATIONS="{" ".join(map(str, sorted(set(own.rotation))))}"'
        rows.append({"data": data, "row": METHODS[method].label, "command": f"`{make}`"})
    return pd.DataFrame(rows, columns=["data", "row", "command"])


def _counted(runs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """How many runs have the same values in these columns."""
    return runs.groupby(columns, sort=False).size().rename("runs").reset_index()
