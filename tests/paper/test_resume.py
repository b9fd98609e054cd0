"""No run is lost: killed, stopped, on a full disk or with a damaged checkpoint,
it ends as one never touched.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
import torch
from torture.kills import Hit, cramped, digest, left, moments, process, tiny

from conftest import ROOT
from s2l_core.config import S2LError
from s2l_images import checkpoints
from s2l_images.signals import Signals, Stopped
from s2l_paper import paths
from s2l_paper.running import results
from s2l_paper.running.runs import new_trainer, train, warm_up

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def untouched(tmp_path_factory):
    """What a run leaves that nobody disturbed, by method;
    the first of two such runs where both are asked for.
    """
    known = {}

    def of(method):
        if method not in known:
            home = tmp_path_factory.mktemp(method)
            assert process(home, tiny(method)) == 0, (home / "log.txt").read_text()
            known[method] = left(home)
        return known[method]

    return of


def log(home):
    return (home / "log.txt").read_text()


KILLS = [
    pytest.param(
        "s2l-r1-r4",
        True,
        [Hit("warm-up step", 2), Hit("averages", 4), Hit("renaming", 3), Hit("main step", 2, 0.02)],
        id="s2l-r1-r4",
    ),
    pytest.param(
        "supervised",
        True,
        [Hit("checkpoint", 3, 0.01), Hit("renaming", 6), Hit("validation", 2), Hit("tables", 3)],
        id="supervised",
        marks=pytest.mark.long,
    ),
    pytest.param(
        "scribble-only",
        False,
        [Hit("averages", 5, 0.01), Hit("fork"), Hit("scoring", 2)],
        id="scribble-only",
        marks=pytest.mark.long,
    ),
]


@pytest.mark.parametrize(("method", "shared", "hits"), KILLS)
def test_killed_anywhere_it_ends_the_same(tmp_path, untouched, method, shared, hits):
    for hit in hits:
        assert process(tmp_path, tiny(method), shared=shared, hit=hit) == -signal.SIGKILL, (
            f"{hit}\n{log(tmp_path)}"
        )
    assert process(tmp_path, tiny(method), shared=shared) == 0, log(tmp_path)
    assert left(tmp_path) == untouched(method)
    steps = moments(tmp_path)["warm-up step"] + moments(tmp_path)["main step"]
    assert 8 <= steps <= 8 + len(hits)  # a checkpoint after every step: a kill costs one at most


def test_same_seed_same_threads_same_answer(tmp_path, untouched):
    assert process(tmp_path, tiny("s2l-r1-r4"), shared=False, every=120) == 0, log(tmp_path)
    assert left(tmp_path) == untouched(
        "s2l-r1-r4"
    )  # warm-up shared or not, with checkpoints or without


def test_signals_leave_a_checkpoint_and_the_code_that_schedulers_read(tmp_path, untouched):
    config, rarely = tiny("s2l-r1-r4"), {"every": 120}
    assert (
        process(tmp_path, config, hit=Hit("averages", 5, number=signal.SIGTERM), **rarely) == 143
    ), log(tmp_path)
    assert "stopped after step 4" in log(tmp_path)  # its last averages are yet to come
    assert process(tmp_path, config, hit=Hit("main step", 3, number=signal.SIGINT), **rarely) == 130
    folder = next((tmp_path / "results/smoke/runs").glob("[!.]*"))
    assert (folder / "model.safetensors").exists() and (folder / "checkpoint.pt").exists()
    assert process(tmp_path, config, hit=Hit("scoring", 1, number=signal.SIGTERM), **rarely) == 143
    assert process(tmp_path, config, **rarely) == 0
    assert left(tmp_path) == untouched("s2l-r1-r4")
    assert moments(tmp_path)["main step"] == 4  # nothing was done twice


def test_a_second_signal_acts_at_once_and_handlers_come_back():
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a background job ignores it from the start
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped):
            signals.check()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert signal.getsignal(signal.SIGINT) == usual
    noted = []
    thread = threading.Thread(target=lambda: noted.append(Signals().__enter__()._usual))
    thread.start()
    thread.join()
    assert noted == [{}] and signal.getsignal(signal.SIGINT) == usual
    signal.signal(signal.SIGINT, before)


def test_sigterm_may_come_twice():
    """As Slurm sends it to a job that is out of time: to its script, which passes it on,
    and to its step.
    """
    usual = signal.getsignal(signal.SIGTERM)
    noted = []
    with Signals(noted.append) as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            signals.check()
        with pytest.raises(SystemExit, match="143"):
            signals.obey()
    assert noted == [signal.SIGTERM] * 3 and signal.getsignal(signal.SIGTERM) == usual


@pytest.mark.long
def test_a_notebook_run_passes_sigterm_on(tmp_path):
    words = [
        f"{name}={value}"
        for name, value in tiny("s2l", main_steps=400).to_dict().items()
        if name != "scales"
    ]
    command = [sys.executable, "-m", "s2l_paper", "train", "--threads", "1", *words]
    environment = os.environ | {"S2L_HOME": str(tmp_path), "MPLBACKEND": "Agg"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as child:
        for line in child.stdout:
            if "step 54/404" in line:
                child.send_signal(signal.SIGTERM)
                break
        said = child.stdout.read()
    assert child.returncode == 143
    assert "stopped after step" in said
    folder = next((tmp_path / "results/smoke/runs").glob("[!.]*"))
    assert checkpoints.read(folder)["step"] >= 54
    assert not (folder / "notebook.ipynb").exists() and not list(folder.glob(".*"))


def test_a_file_that_does_not_fit_stops_the_run_with_its_folder(tmp_path, untouched):
    assert process(tmp_path, tiny("otsu")) == 0
    before = {file: file.read_bytes() for file in tmp_path.rglob("per_image.csv")}
    assert process(tmp_path, tiny("s2l-r1-r4"), shared=False, prepare=cramped) == 1
    assert re.search(
        r"s2l-r1-r4_f0_s0_\w+: checkpoint.pt cannot be written there \(File too large\)",
        log(tmp_path),
    )
    assert {file: file.read_bytes() for file in tmp_path.rglob("per_image.csv")} == before
    assert process(tmp_path, tiny("s2l-r1-r4"), shared=False, every=120) == 0
    assert left(tmp_path).items() >= untouched("s2l-r1-r4").items()


@pytest.fixture
def disk(tmp_path):
    """A file system of a size that can be changed, in memory."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here: a full disk was not tried")
    yield lambda option: subprocess.run(["mount", "-o", f"remount,{option}", tmp_path], check=True)
    subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_that_fills_up_and_one_that_is_read_only(tmp_path, disk, untouched):
    config = tiny("s2l-r1-r4")
    assert process(tmp_path, config, shared=False) == 1
    assert "checkpoint.pt cannot be written there (No space left on device)" in log(tmp_path)
    disk("size=1g")
    disk("ro")
    with pytest.raises(S2LError, match=f"{tmp_path}.*Read-only file system"):
        checkpoints.prepare(tmp_path / "results")
    disk("rw")
    assert process(tmp_path, config, shared=False) == 0
    assert left(tmp_path) == untouched("s2l-r1-r4")
    assert "going on from step" in log(tmp_path)


STATE = {
    "step": 3,
    "model": {"w": torch.arange(500.0), "b": torch.ones(3)},
    "history": [{"loss": 0.1}],
}


def test_a_damaged_checkpoint_is_seen_and_the_one_before_used(tmp_path, capsys):
    checkpoints.write(tmp_path, STATE | {"step": 2})
    checkpoints.write(tmp_path, STATE)
    newest, previous = (tmp_path / name for name in checkpoints.NAMES)
    whole, rng = newest.read_bytes(), random.Random(0)
    kinds = {"unharmed": 0, "used the one before": 0}
    for place in rng.sample(range(len(whole)), 100):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        newest.write_bytes(damaged)
        state = checkpoints.read(tmp_path)
        kinds["unharmed" if state["step"] == 3 else "used the one before"] += 1
        assert digest(state | {"step": 3}) == digest(STATE)
    assert kinds["used the one before"] > 60  # the rest hit what nobody reads, as dates
    newest.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert checkpoints.read(tmp_path)["step"] == 2
    assert f"{tmp_path.name}: checkpoint.pt is damaged" in capsys.readouterr().out
    previous.write_bytes(b"")
    with pytest.raises(S2LError, match="checkpoint.pt .*checkpoint.previous.pt "):
        checkpoints.read(tmp_path)
    newest.unlink()
    assert checkpoints.exist(tmp_path)
    previous.unlink()
    assert not checkpoints.exist(tmp_path)
    with pytest.raises(S2LError, match=f"{tmp_path}: "):
        checkpoints.read(tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({"step": print}, tmp_path / "checkpoint.pt")
    with pytest.raises(S2LError, match=f"{tmp_path}: "):
        checkpoints.read(tmp_path)


def test_time_adds_up_over_resumes_and_the_warmup_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    config = tiny("s2l")
    warmup = warm_up(config, progress=False)
    state = checkpoints.read(warmup)
    checkpoints.write(warmup, state | {"spent": {"warm-up": 500.0, "main": 0.0}})
    folder = paths.run_folder("smoke", results.run_id(config))
    run = new_trainer(config, progress=False)
    checkpoints.restore(run, warmup)
    run.spent["main"] += 1000
    run.fork()
    run.advance(6)
    checkpoints.save(run, folder)
    result = train(config, resume=True, progress=False)
    environment = json.loads((result.folder / "env.json").read_text())
    assert environment["warmup_seconds"] == 500 and 1000 < environment["seconds"] < 1100
    pd.testing.assert_series_equal(result.steps.step, pd.Series(range(1, 9), name="step"))
    supervised = new_trainer(tiny("supervised"), progress=False)
    supervised.spent = {"warm-up": 3.0, "main": 4.0}
    assert supervised.seconds()["seconds"] >= 7 and supervised.seconds()["warmup_seconds"] == 0


def test_the_time_between_checkpoints_is_a_number(monkeypatch):
    monkeypatch.delenv(checkpoints.SECONDS, raising=False)
    assert checkpoints.interval() == 120
    monkeypatch.setenv(checkpoints.SECONDS, "soon")
    with pytest.raises(S2LError, match="S2L_CHECKPOINT_SECONDS = 'soon'"):
        checkpoints.interval()
