"""Batches that are harmed: the real Snakemake with the real graph and profile,
whose jobs are stand-ins.

`python -m torture --only batch` makes the section of docs/faults.md anew.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

from s2l_core.config import METHODS, RunConfig, digest
from s2l_paper.running import results

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("stand_in.py")
RUNS = ("s2l", "supervised", "otsu")  # a warm-up and its fork, a network without one, a baseline
LONGEST = 300  # seconds of one call
NOTHING = "nothing is left to do"
LINE = re.compile(r"(?m)^ *\d+ of \d+  Synthetic Fluo  (.*?)  +IoU")  # of a finished run
FULL, MORE = 2_000_000, 64_000_000  # bytes of a small disk and of a larger one
TRIES = 2  # of each fault in a report


def run_name(method: str) -> str:
    """Of a run of the batch."""
    return results.run_id(RunConfig("synthetic-fluo", method, profile="smoke"))


def made(said: str) -> set[str]:
    """The methods whose runs a batch says it has finished."""
    names = {METHODS[name].label: name for name in RUNS}
    return {names[label] for label in LINE.findall(said)}


class Batch:
    """One folder of results, and `make reproduce PROFILE=smoke METHODS="..."` in it,
    as often as one likes.

    Args:
        base: folder for what is not a result.
        home: stands for the checkout; may be a disk of its own.
    """

    def __init__(self, base: Path, home: Path | None = None):
        self.base, self.home = base, home or base / "home"
        self.events = base / "events.txt"
        for folder in (self.home, base / "bin"):
            folder.mkdir(parents=True, exist_ok=True)
        python = base / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        python.chmod(0o755)
        self.logs = self.home / "results" / "smoke" / "logs"

    def start(self, *arguments: str, methods=RUNS) -> subprocess.Popen:
        """Begins one call, in a process group of its own."""
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "-s",
            str(ROOT / "workflow" / "Snakefile"),
            "--cores",
            "2",
        ]
        command += [
            "--workflow-profile",
            str(ROOT / "workflow" / "profiles" / "local"),
            "--logger",
            "s2l",
        ]
        own = {"S2L_HOME": str(self.home), "S2L_EVENTS": str(self.events)}
        own["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "workflow")])
        own["PATH"] = f"{self.base}/bin:{os.environ['PATH']}"
        return subprocess.Popen(
            [*command, *arguments, "--config", "profile=smoke", f"methods={' '.join(methods)}"],
            cwd=self.home,
            env=os.environ | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(self, *arguments: str, **options) -> tuple[int, str]:
        """One call to its end: exit code, and all that it said."""
        process = self.start(*arguments, **options)
        said, _ = process.communicate(timeout=LONGEST)
        return process.returncode, said

    def hold(self, method: str, kind: str = "hold") -> Path:
        """Tells the runs of a method to `hold`, or to `fail`, until the file is gone."""
        file = self.home / kind / method
        file.parent.mkdir(exist_ok=True)
        file.touch()
        return file

    def seen(self) -> list[list[str]]:
        """Event, run and process of each thing that happened."""
        return (
            [line.split() for line in self.events.read_text().splitlines()]
            if self.events.exists()
            else []
        )

    def wait(self, method: str) -> int:
        """Waits until a run of a method is at work; its process."""
        for _ in range(LONGEST * 20):
            for event, name, process in reversed(self.seen()):
                if event == "begun" and name == run_name(method):
                    return int(process)
            time.sleep(0.05)
        raise TimeoutError(f"{method} was never begun")

    def complete(self, methods=RUNS) -> bool:
        """Every run is done, and was done once; nothing is left to do,
        nothing unfinished lies about.
        """
        done = Counter(name for event, name, _ in self.seen() if event == "done")
        whole = all(
            results_done(self.home, method) and done[run_name(method)] == 1 for method in methods
        )
        stray = [file for file in self.home.rglob("*.tmp*") if ".snakemake" not in file.parts]
        return whole and not stray and NOTHING in self.call(methods=methods)[1]


def results_done(home: Path, method: str) -> bool:
    """`results.is_done` beside another home."""
    before = os.environ.get("S2L_HOME")
    os.environ["S2L_HOME"] = str(home)
    try:
        return results.is_done(RunConfig("synthetic-fluo", method, profile="smoke"))
    finally:
        os.environ.pop("S2L_HOME") if before is None else os.environ.update(S2L_HOME=before)


def cut_and_failing(base: Path) -> dict[str, bool]:
    """One job is killed and one fails: the others go on, the two are named,
    and the next call makes these alone.
    """
    batch = Batch(base)
    held, failing = batch.hold("supervised"), batch.hold("otsu", "fail")
    process = batch.start()
    os.kill(batch.wait("supervised"), signal.SIGKILL)
    said, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 1, said
    logs = {method: str(batch.logs / f"{run_name(method)}.log") for method in RUNS}
    named = {method: f"log: {log}" in said for method, log in logs.items()}
    reason = "error: step 3: the loss is nan" in said
    others = results_done(batch.home, "s2l") and not named["s2l"]
    held.unlink()
    failing.unlink()
    code, later = batch.call()
    survived = code == 0 and others and batch.complete() and "s2l" not in made(later)
    return {
        "a job is killed (SIGKILL)": survived and named["supervised"],
        "a job fails: the others go on, it is named with its log": (
            survived and named["otsu"] and reason
        ),
    }


def killed_scheduler(base: Path) -> dict[str, bool]:
    """A second batch says that a first is at work; the first is killed,
    and the same command goes on at once.
    """
    batch = Batch(base)
    held = batch.hold("supervised")
    first = batch.start()
    batch.wait("supervised")
    code, said = batch.call()
    told = (
        code == 1
        and "another `make` is at work on it, so nothing was begun" in said
        and not made(said)
    )
    alive = first.poll() is None
    begun = Counter(name for event, name, _ in batch.seen() if event == "begun")
    once = alive and max(begun.values()) == 1
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    for (
        event,
        name,
        process,
    ) in batch.seen():  # its jobs have groups of their own where the shell gives them one
        if event == "begun" and name == run_name("supervised"):
            end(int(process))
    held.unlink()
    code, said = batch.call()
    survived = code == 0 and batch.complete()
    return {
        "two started at once: the second says so": survived and told and once,
        "the scheduler is killed": survived,
    }


def end(process: int) -> None:
    """SIGKILL, to a process that may be gone."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def small_disk(base: Path) -> dict[str, bool]:
    """A disk that may only be read, then one that is full, then one with room;
    needs root and Linux.
    """
    disk = base / "disk"
    disk.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={FULL}", "tmpfs", str(disk))
    try:
        batch = Batch(base, disk / "home")
        code, said = batch.call(methods=["otsu"])
        assert code == 0, said
        earlier = fingerprints(batch.home)
        folder = str(batch.home / "results")
        mount("--bind", folder, folder)
        mount("-o", "remount,bind,ro", folder)
        code, said = batch.call()
        refused = (
            code == 1
            and "nothing was begun. Make room or give access" in said
            and "Read-only" in said
        )
        intact = refused and fingerprints(batch.home) == earlier
        subprocess.run(["umount", folder], check=True)
        (batch.home / "weight").write_text(str(2 * FULL))
        code, full = batch.call()
        kept = fingerprints(batch.home)
        kept = all(kept.get(name) == value for name, value in earlier.items() if "otsu" in name)
        clear = code == 1 and "No space left on device" in full and str(batch.logs) in full
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        code, nothing = batch.call()
        clear = (
            clear and code == 1 and "no space left on this disk, so nothing was begun" in nothing
        )
        filler.unlink()
        mount("-o", f"remount,rw,size={MORE}", str(disk))
        code, said = batch.call()
        survived = code == 0 and kept and batch.complete() and "otsu" not in made(said)
        return {
            "the folder of results cannot be written": intact and survived,
            "the disk is full": clear and survived,
        }
    finally:
        subprocess.run(["umount", "-R", "-l", str(disk)], check=True)


def mount(*arguments: str) -> None:
    """Of a disk in memory."""
    subprocess.run(["mount", *arguments], check=True)


def why_no_disk() -> str:
    """Why `small_disk` cannot be tried here; empty where it can."""
    if sys.platform != "linux" or os.geteuid() or not shutil.which("mount"):
        return "a small disk of one's own needs Linux and root"
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True
        )
        if tried.returncode:
            return f"no disk in memory can be mounted here: {tried.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return ""


def fingerprints(home: Path) -> dict[str, str]:
    """Every file of the finished runs and its content."""
    files = [
        file for file in (home / "results").rglob("*") if file.is_file() and "runs" in file.parts
    ]
    return {str(file.relative_to(home)): digest(file.read_bytes(), 16) for file in files}


def stale(base: Path) -> dict[str, bool]:
    """Scores that were altered, and a marker of a run whose folder is gone: made anew,
    never shown as done.
    """
    batch = Batch(base)
    assert batch.call(methods=["supervised", "otsu"])[0] == 0
    runs = batch.home / "results" / "smoke" / "runs"
    shutil.rmtree(runs / run_name("supervised"))
    (runs / run_name("otsu") / "per_image.csv").write_text("altered")
    code, said = batch.call(methods=["supervised", "otsu"])
    again = made(said) == {"supervised", "otsu"}
    nothing = NOTHING in batch.call(methods=["supervised", "otsu"])[1]
    return {"scores are altered, a run's folder is deleted": code == 0 and again and nothing}


SCENES = (cut_and_failing, killed_scheduler, small_disk, stale)


def report(tries: int = TRIES) -> str:
    """Section of docs/faults.md."""
    rows = defaultdict(list)
    absent = why_no_disk()
    for number in range(tries):
        for scene in SCENES:
            if scene is small_disk and absent:
                continue
            with tempfile.TemporaryDirectory(prefix="batch-") as folder:
                for fault, survived in scene(Path(folder)).items():
                    rows[fault].append(survived)
                    print(f"{'survived' if survived else 'LOST'}: {fault}", flush=True)
        print(f"batch: {number + 1} of {tries}", flush=True)
    lines = [
        f"| {fault} | {len(found)} | {sum(found)} | {'nothing' if all(found) else 'see above'} |"
        for fault, found in rows.items()
    ]
    lines += [f"| full disk, read-only folder: not tried, {absent} | 0 | 0 | |"] * bool(absent)
    if not all(map(all, rows.values())):
        sys.exit("not every batch survived: nothing is written")
    return f"""## A batch of runs

The Snakemake graph and profile of `make reproduce`, with jobs that leave what a run leaves and compute nothing.
Survived means: what was wrong is said in a line that names the run and its log, or the folder; what was finished before
is the same, bit for bit; the same command goes on once the fault is gone; every run is made to its end exactly once;
and a further call finds nothing to do.

| fault | tried | survived | lost |
|---|---|---|---|
{chr(10).join(lines)}
"""
