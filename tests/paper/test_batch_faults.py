"""Batches that are harmed: nothing finished is lost or made again, what is wrong is said,
the same command goes on.
"""

import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from torture import batch

from benchmarks import campaign
from conftest import ROOT
from s2l_core.config import S2LError
from s2l_images import files

sys.path.insert(0, str(ROOT / "workflow"))
import guard  # noqa: E402


@pytest.mark.long
@pytest.mark.parametrize("scene", [batch.cut_and_failing, batch.killed_scheduler, batch.stale])
def test_batch_survives(tmp_path, scene):
    found = scene(tmp_path)
    assert found and all(found.values()), found


@pytest.mark.long
def test_batch_survives_a_disk_that_is_read_only_or_full(tmp_path):
    if reason := batch.why_no_disk():
        pytest.skip(f"{reason}: a full disk and a read-only folder were not tried")
    found = batch.small_disk(tmp_path)
    assert len(found) == 2 and all(found.values()), found


CLAIMING = """
import sys, time
from pathlib import Path
import guard
from s2l_core.config import S2LError
try:
    guard.claim(Path(sys.argv[1]), sys.argv[2:])
except S2LError as error:
    print(error, flush=True)
else:
    print("claimed", flush=True)
    sys.stdin.read()
"""
LOCKING = """
import sys
from pathlib import Path
from s2l_images.files import alone
with alone(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def python(text, *words):
    """A process that runs a text and ends when its input does; the first line that it says."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "workflow")])
    command = [sys.executable, "-c", text, *map(str, words)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **pipes) as process:
        yield process, process.stdout.readline()
        process.stdin.close()


def test_a_claim_keeps_others_out_until_its_process_is_gone(tmp_path):
    file = tmp_path / "logs" / "batch.lock"
    with python(CLAIMING, file, "a", "b") as (first, said):
        assert said == "claimed\n"
        with python(CLAIMING, file, "b", "c") as (_, said):
            assert said.startswith("b: another `make` is at work on it, so nothing was begun.")
        with python(CLAIMING, file, "c", "d") as (_, said):
            assert said == "claimed\n", "batches that share no run may go on side by side"
            first.kill()
            first.wait()
            with python(CLAIMING, file, "a", "b") as (_, said):
                assert said == "claimed\n", "a killed batch leaves no lock behind"


def test_where_nothing_can_be_written_nothing_is_begun(tmp_path):
    (tmp_path / "logs").write_text("a file where a folder is needed")
    with pytest.raises(S2LError, match="logs: "):
        guard.claim(tmp_path / "logs" / "batch.lock", ["a"])


def test_a_full_disk_is_refused_before_anything_is_begun(tmp_path, monkeypatch):
    guard.need_room(tmp_path / "not" / "there" / "yet")
    monkeypatch.setattr(guard, "LEAST", 2**80)
    with pytest.raises(S2LError, match=f"{tmp_path}: "):
        guard.need_room(tmp_path / "not" / "there" / "yet")


def test_the_summary_names_runs_logs_and_the_last_word(tmp_path):
    (tmp_path / "earlier.log").write_text("of an earlier batch")
    time.sleep(0.02)
    claimed = tmp_path / "batch.lock"
    claimed.touch()
    time.sleep(0.02)
    (tmp_path / "failed.log").write_text("line\nerror: the loss is nan\n\n")
    (tmp_path / "silent.log").write_text("")
    text = guard.told(["failed", "silent", "earlier", "never"], tmp_path, claimed)
    assert f"  failed: error: the loss is nan\n    log: {tmp_path}/failed.log" in text
    assert "silent: nothing was said" in text and "Not finished: 2:" in text
    assert "waiting for one of these: 2:\n  earlier\n  never" in text and "MiB are free" not in text


def test_one_process_at_a_time_works_on_a_run(tmp_path, capsys):
    """What a killed batch left at work is waited for, and what it did is used."""
    folder = tmp_path / "run"
    with files.alone(folder), files.alone(tmp_path / "another"):
        pass
    assert "another process" not in capsys.readouterr().out
    with python(LOCKING, folder) as (process, said):
        assert said == "locked\n"
        began = time.monotonic()
        threading.Timer(0.5, process.kill).start()
        with files.alone(folder):
            assert time.monotonic() - began >= 0.5, "it did not wait"
    assert "run: another process is working on it; waiting until it ends" in capsys.readouterr().out


def test_no_locks_and_no_folder_are_no_obstacle(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        patch.setattr(fcntl, "lockf", refuse)
        with files.alone(tmp_path / "run"):
            guard.claim(tmp_path / "batch.lock", ["a"])
    (tmp_path / "file").write_text("")
    with files.alone(tmp_path / "file" / "run"):
        pass


def test_the_profiles_of_the_workflow_are_those_of_the_makefile():
    text = (ROOT / "Makefile").read_text()
    for name in ("local", "slurm"):
        assert (ROOT / "workflow" / "profiles" / name / "config.yaml").exists()
    assert "--workflow-profile workflow/profiles/$(ON)" in text and "ON       = local" in text


def test_the_page_about_clusters_holds_what_the_cost_model_says():
    page = campaign.PAGE.read_text()
    assert campaign.PLAN.search(page).group() == campaign.text(), (
        "run `python -m benchmarks.campaign`"
    )
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| all |")]
    assert [int(row[3]) for row in rows] == [390, 390], "13 folds, 5 seeds, 5 methods and a warm-up"
