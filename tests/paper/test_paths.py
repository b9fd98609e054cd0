"""A path is one word: the checkout, `S2L_HOME` and `S2L_DATA` may lie in folders of any name."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from s2l_core.config import S2LError

sys.path.insert(0, str(ROOT / "workflow"))
import guard  # noqa: E402

# Spaces, quotes, what a shell would fill in, letters that ASCII lacks, a leading dash, a wildcard.
NAMES = ["My Drive; echo & c > *", '-it\'s $HOME `id` "für Ärzte" 細胞 %j']


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A clone of what is committed here, with what is not yet committed."""
    clone = tmp_path_factory.mktemp("clone") / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *NEEDED],
        cwd=ROOT,
        capture_output=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to it cannot be listed")
    for name in filter(None, listed.stdout.split(b"\0")):
        source, target = ROOT / os.fsdecode(name), clone / os.fsdecode(name)
        if source.is_file() and ".venv" not in source.parts:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return clone


NEEDED = (
    "Makefile",
    "workflow",
    "s2l_*",
    "notebooks",
    "data",
    "pyproject.toml",
    "requirements.lock",
)


def checkout(files: Path, folder: Path) -> Path:
    """The files in a folder of that name, whose `.venv` is the one that runs the tests."""
    shutil.copytree(files, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / ".venv" / ".installed").touch()
    os.utime(folder / ".venv" / ".installed", (2**31, 2**31))
    return folder


def bystanders(folder: Path) -> dict[Path, str]:
    """Files beside a folder, called like each word of its name or like what a shell makes of it."""
    words = {*folder.name.split(), os.path.expandvars(folder.name), folder.name.strip("'\"")}
    made = {}
    for word in words - {folder.name}:
        file = folder.parent / word
        if "/" not in word and not file.exists():
            file.write_text(f"the user's own {word}")
            made[file] = file.read_text()
    return made


def make(folder: Path, *words: str, **own: str) -> subprocess.CompletedProcess:
    """`make` in a checkout, that finds its own package; the finished process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("S2L_")}
    environment |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"} | own
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def unharmed(made: dict[Path, str], folder: Path) -> bool:
    """The files beside a folder are as they were, and no others have come."""
    names = {file.name for file in made} | {folder.name}
    there = {path.name for path in folder.parent.iterdir()}
    return there == names and all(file.read_text() == text for file, text in made.items())


def test_a_checkout_may_have_any_name(files, tmp_path):
    """What the rules would run, without running it: every file is named relative to the results."""
    folder = checkout(files, tmp_path.joinpath(*NAMES))
    above, made = bystanders(folder.parent), bystanders(folder)
    planned = make(folder, "dry-run", "PROFILE=smoke")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "train" in planned.stdout
    help_ = make(folder, "help")
    assert "make reproduce" in help_.stdout and not help_.stderr
    assert unharmed(made, folder) and unharmed(above, folder.parent)


def test_braces_which_snakemake_fills_in_are_refused(files, tmp_path):
    folder = checkout(files, tmp_path / "{profile}")
    refused = make(folder, "reproduce", "PROFILE=smoke", "METHODS=otsu")
    assert refused.returncode != 0 and not (folder / "results" / "smoke").exists()
    assert "error: " in refused.stderr and "Rename it, or set S2L_HOME" in refused.stderr


@pytest.mark.long
def test_a_batch_runs_in_a_folder_of_any_name(files, tmp_path):
    """One real run, with a file beside the checkout called like the first word of its name."""
    folder = checkout(files, tmp_path / "My $HOME 'Ärzte'")
    made = bystanders(folder)
    assert tmp_path / "My" in made
    done = make(folder, "reproduce", "PROFILE=smoke", "METHODS=otsu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1  Synthetic Fluo  Otsu  IoU ." in done.stdout
    assert "Table 1, its claims and Fig. 2 were not made" in done.stdout
    (run,) = (folder / "results" / "smoke" / "runs").glob("[!.]*")
    assert (run / "per_image.csv").exists() and (run / "notebook.ipynb").exists()
    assert unharmed(made, folder)

    # Cleaning takes the results away, and nothing beside them.
    (folder / "results" / "smoke2").mkdir()
    assert make(folder, "clean").returncode == 0
    assert not (folder / "results" / "smoke").exists() and (folder / "results" / "smoke2").exists()
    assert unharmed(made, folder)


@pytest.mark.long
def test_home_and_data_may_have_any_name(files, tmp_path):
    """Results and archives lie elsewhere; a data set that is not there is named with its place."""
    name = "-rf My $HOME 'Ärzte' \"x\""
    folder, home, data = (
        checkout(files, tmp_path / "plain"),
        tmp_path / name,
        tmp_path / f"{name} 2",
    )
    home.mkdir()
    data.mkdir()
    done = make(folder, "reproduce", "PROFILE=smoke", "METHODS=otsu", S2L_HOME=str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((home / "results" / "smoke" / "runs").glob("[!.]*"))) == 1

    # From the environment and from the command line, as an absolute path.
    asked = ("reproduce", "PROFILE=scratch", "DATASETS=dsb-bf", "FOLDS=0", "METHODS=otsu")
    failed = make(folder, *asked, S2L_HOME=str(home), S2L_DATA=str(data))
    assert failed.returncode != 0
    assert f"found no stage1_train.zip in {data}/bbbc038" in failed.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"plain", home.name, data.name}
    assert not list(data.iterdir())


# A Slurm of two commands: `sbatch` runs what it is given at once, `srun` runs it within the job.
SBATCH = """#!/bin/bash
script=$(cat) state=$FAKE/$$
echo RUNNING > "$state"
(
    if bash -c "$script"; then echo COMPLETED > "$state"; else echo FAILED > "$state"; fi
) > "$FAKE/log" 2>&1 &
echo $$
"""
SRUN = '#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\nexec "$@"\n'
SQUEUE = '#!/bin/bash\ncd "$FAKE" && for job in [0-9]*; do echo "$job|$(cat "$job")"; done\n'


@pytest.mark.long
def test_jobs_of_a_cluster_run_in_a_folder_of_any_name(files, tmp_path):
    """The Slurm profile hands paths on as one word: to sbatch, to the job and to its step."""
    folder = checkout(files, tmp_path / "My $HOME;x")
    programs, fake = tmp_path / "programs", tmp_path / "fake"
    fake.mkdir()
    programs.mkdir()
    commands = {"sbatch": SBATCH, "srun": SRUN, "squeue": SQUEUE}
    commands["scontrol"] = "#!/bin/sh\necho 'MinJobAge = 300 sec'\n"
    commands |= dict.fromkeys(
        ["sacct", "sacctmgr", "scancel", "sinfo"], "#!/bin/sh\necho account\n"
    )
    for name, text in commands.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = f"{folder}/.venv/bin:{programs}:{os.environ['PATH']}"
    command = [".venv/bin/python", "-m", "snakemake", "-s", "workflow/Snakefile"]
    command += ["--workflow-profile", "workflow/profiles/slurm", "--slurm-status-command", "squeue"]
    command += ["--slurm-init-seconds-before-status-checks", "1", "--retries", "0"]
    command += ["--latency-wait", "5"]
    own = {"PYTHONPATH": str(folder), "PATH": path, "FAKE": str(fake), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--config", "profile=smoke", "methods=otsu", "cores=1"],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("S2L_")} | own,
        capture_output=True,
        text=True,
    )
    told = fake / "log"  # of the job, if one began
    assert done.returncode == 0, (
        done.stdout + done.stderr + (told.read_text() if told.exists() else "no job began")
    )
    assert len(list((folder / "results" / "smoke" / "runs").glob("[!.]*"))) == 1


@pytest.mark.parametrize("name", ["My Drive", "it's", 'a "b"', "$HOME", "für Ärzte", "-x;&>*"])
def test_names_that_snakemake_quotes_well_go_to_a_cluster(name):
    guard.refuse_quotes(Path("/data") / name)


@pytest.mark.parametrize("name", ["it's $HOME", 'it\'s "b"', "it's `id`", "a\\b", "a\nb"])
def test_names_that_a_cluster_would_read_otherwise_are_refused(name):
    with pytest.raises(S2LError, match=re.escape(f"/data/{name}: ")):
        guard.refuse_quotes(Path("/data") / name)
