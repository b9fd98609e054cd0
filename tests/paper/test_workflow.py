"""The Snakemake graph: what it plans, what it refuses,
and that committed results leave nothing to do.
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT
from s2l_core.config import METHODS, RunConfig, S2LError
from s2l_core.profiles import PROFILES
from s2l_paper import paths
from s2l_paper.running import costs, results
from s2l_paper.running.planning import plan

NOTHING = "Nothing to be done"


def snakemake(home, *arguments, **options):
    """Runs Snakemake beside a results folder of its own; returns the finished process."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        str(ROOT / "workflow" / "Snakefile"),
        "--cores",
        "1",
    ]
    environment = os.environ | {
        "S2L_HOME": str(home),
        "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
    }
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "workflow")])
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment['PATH']}"
    settings = [f"{name}={value}" for name, value in options.items()]
    return subprocess.run(
        [*command, *arguments, "--config", *settings],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )


def jobs(process):
    """Number of jobs of each rule in a dry run's table."""
    lines = [line.split() for line in process.stdout.splitlines()]
    return {
        line[0]: int(line[1])
        for line in lines
        if len(line) == 2 and line[0].isidentifier() and line[1].isdigit()
    }


def test_plan_is_the_product():
    batch = plan("scratch", ["dsb-bf"], [0, 1], ["s2l", "otsu"], [0, 5])
    assert len(batch) == 8 and len({results.run_id(config) for config in batch}) == 8
    drawn = plan("scratch", ["dsb-bf"], [0], ["s2l", "otsu"], annotators=[0, 2])
    assert [(config.method, config.annotator) for config in drawn] == [
        ("s2l", 0),
        ("otsu", 0),
        ("s2l", 2),
        ("otsu", 2),
    ]
    assert len({results.run_id(config) for config in drawn}) == 4
    turned = plan(
        "scratch", ["dsb-bf"], [0], ["s2l"], annotators=["attentive-0"], rotations=range(5)
    )
    assert [config.rotation for config in turned] == [0, 1, 2, 3, 4]
    assert len({results.run_id(config) for config in turned}) == 5
    assert len({results.warmup_id(config) for config in turned}) == 5
    assert {config.method for config in plan("demo")} == set(METHODS)
    assert {config.dataset for config in plan("demo")} == set(PROFILES["demo"].datasets)
    assert len(plan("paper")) == (4 + 4 + 5) * len(METHODS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scratchx",), "PROFILE = 'scratchx' .*'scratch'"),
        (("scratch", ["dsb"]), "DATASETS = 'dsb' .*dsb-bf"),
        (("scratch", ["dsb-bf"], [0], ["s3l"]), "METHODS = 's3l' "),
        (("scratch", ["dsb-bf"], [7]), "fold = 7: .*0 to 3"),
    ],
)
def test_plan_names_what_does_not_exist(arguments, message):
    with pytest.raises(S2LError, match=message):
        plan(*arguments)


def test_paper_profile_is_listed_not_run(tmp_path):
    """All runs of a fold share its warm-up."""
    process = snakemake(tmp_path, "--dry-run", "--quiet", "host", "reason", profile="paper")
    assert process.returncode == 0, process.stderr
    found = jobs(process)
    total = found.pop("total")
    assert found == {"all": 1, "train": 13 * len(METHODS), "warmup": 13, "tables": 1}
    assert total == sum(found.values())
    assert not list(tmp_path.glob("results/paper/runs/*"))


def test_cores_gpus_and_hours_of_a_cluster_reach_the_jobs(tmp_path):
    """Twice what the cost model expects and ten minutes, but no more than the cluster gives."""
    options = {"profile": "paper", "datasets": "dsb-bf", "folds": "0", "methods": "s2l otsu"}
    said = snakemake(tmp_path, "--dry-run", "--cores", "8", **options, cores=8, gpus=1).stdout
    asked = [line for line in said.splitlines() if "runtime=" in line and "gpu=1" in line]
    assert len(asked) == 3 and said.count("threads: 8") == 3
    run = next(config for config in plan("paper", ["dsb-bf"], [0], ["s2l"]))
    expected = [costs.estimate_seconds(run, "cuda", warmup=warmup) for warmup in (False, True)]
    found = {int(re.search(r"runtime=(\d+)", line)[1]) for line in asked}
    assert {math.ceil(2 * seconds / 60 + 10) for seconds in expected} <= found
    capped = snakemake(tmp_path, "--dry-run", **options, hours=0.1).stdout
    assert {int(minutes) for minutes in re.findall(r"runtime=(\d+)", capped)} == {
        6,
        60,
    }  # the tables take what they take


def test_wrong_word_ends_with_an_error(tmp_path):
    process = snakemake(tmp_path, "--dry-run", profile="smoke", methods="s3l")
    assert process.returncode != 0
    assert "METHODS = 's3l' " in process.stderr + process.stdout
    process = snakemake(tmp_path, "--dry-run", profile="smoke", method="otsu")
    assert process.returncode != 0
    assert "'method' is not known. Did you mean 'methods'?" in process.stderr + process.stdout


PASSING = {"smoke", "demo"}  # profiles whose results are one's own, never committed
COMMITTED = sorted((ROOT / "results").glob("*/runs/*/config.json"))
COMMITTED = [file for file in COMMITTED if file.parents[2].name not in PASSING]
# One data set of each profile: that all runs are those of today is tested below.
BATCHES = {
    profile: min(
        json.loads(file.read_text())["config"]["dataset"]
        for file in COMMITTED
        if file.parents[2].name == profile
    )
    for profile in sorted({file.parents[2].name for file in COMMITTED})
}


@pytest.mark.parametrize("profile", BATCHES)
def test_committed_results_leave_nothing_to_do(tmp_path, profile):
    """As in a fresh clone: files copied anew, so that their times say nothing."""
    dataset = BATCHES[profile]
    for folder in ("results", "figures"):
        ignored = shutil.ignore_patterns("*.pt", "*.safetensors", "warmups", "logs", ".*")
        shutil.copytree(
            ROOT / folder / profile,
            tmp_path / folder / profile,
            ignore=ignored,
            copy_function=shutil.copy,
        )
    runs = [
        json.loads(file.read_text())["config"]
        for file in COMMITTED
        if file.parents[2].name == profile
    ]
    runs = [run for run in runs if run["dataset"] == dataset]
    wanted = {name: sorted({str(run[name]) for run in runs}) for name in ("fold", "method", "seed")}
    options = {f"{name}s": " ".join(values) for name, values in wanted.items()}
    process = snakemake(tmp_path, "--dry-run", profile=profile, datasets=dataset, **options)
    assert process.returncode == 0, process.stderr
    assert NOTHING in process.stdout + process.stderr, process.stdout


@pytest.mark.long
def test_a_batch_runs_once_and_never_again(tmp_path):
    options = {"profile": "smoke", "methods": "s2l otsu"}
    first = snakemake(tmp_path, "--logger", "s2l", **options)
    assert first.returncode == 0, first.stdout + first.stderr
    said = first.stdout.splitlines()
    assert len(said) == 4, said  # the warm-up, two runs, the tables
    assert [line[:6] for line in said if "IoU ." in line] == ["1 of 2", "2 of 2"]
    assert any("Synthetic Fluo  warm-up" in line for line in said)
    assert "tables and figures" in said[-1] and " left" not in said[-1]
    folder = tmp_path / "results" / "smoke"
    assert (folder / "table1.md").exists() and (
        tmp_path / "figures" / "smoke" / "figure2.png"
    ).exists()
    for run in folder.glob("runs/[!.]*"):
        assert (run / "notebook.ipynb").exists() and (run / "per_image.csv").exists()
    again = snakemake(tmp_path, **options)
    assert NOTHING in again.stdout + again.stderr
    run = next(folder.glob("runs/[!.]*_otsu_*"))
    (run / "per_image.csv").write_text("altered")
    assert (
        jobs(snakemake(tmp_path, "--dry-run", "--quiet", "host", "reason", **options))["train"] == 1
    )


def test_config_of_a_committed_run_is_what_would_be_run_now():
    for file in (ROOT / "results").glob("*/runs/*/config.json"):
        record = json.loads(file.read_text())
        config = RunConfig.from_dict(record["config"])
        assert results.run_id(config) == record["run_id"] == file.parent.name, (
            f"{file}: stale, run it again"
        )
        if os.environ.get("S2L_HOME") is None:
            assert paths.run_folder(config.profile, record["run_id"]) == file.parent
