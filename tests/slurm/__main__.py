"""`make test-slurm`: the smoke profile on a real Slurm, its jobs ended in mid-run in several ways,
and a section of docs/faults.md with what came of it.
"""

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from torture.__main__ import REPORT, keep, made

from slurm import daemons

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path("results") / "smoke"
HITS = {
    "late": "out of time (`TimeLimit`): SIGTERM, handed in again",
    "ended": "SIGTERM to the job (`scancel --signal=TERM`): handed in again",
    "killed": "SIGKILL to the job (`scancel --signal=KILL`): handed in again",
    "requeued": "pre-empted by a more urgent job: SIGTERM, requeued by Slurm",
    "graced": "pre-empted, with `GraceTime` to end in: SIGTERM, handed in again",
    # last: needs free cores
    "orphaned": "SIGKILL to Snakemake: its job goes on, the same command takes up the rest",
}
TOLD = re.compile(
    r".*(?:stopped after step|going on from step|waiting for its end|finished before).*"
)
GRACE = 60  # seconds
LONGEST = 2400  # seconds for the whole batch
TEXT = """## A cluster

Slurm {version} with controller and daemon on this machine, jobs of one core. The smoke profile through
`workflow/profiles/slurm`: {jobs} jobs handed in. To take aim a run is stopped (SIGSTOP) in a step; Slurm's signals find
it there. Survived means that the run went on from its checkpoint, no earlier, and after SIGTERM said that it had
written one; where Snakemake is killed, that its run went on, and that the next job waited for it and trained nothing.
And it means that what the run leaves is the same, bit for bit, as in a batch that nobody disturbed and that knew no
Slurm: all files but `env.json`, which holds times, and `notebook.ipynb`, which prints from where the run went on.

| fault | tried | survived | lost |
|---|---|---|---|
{rows}

{runs} of {runs} runs are done, and the same as without Slurm; a dry run afterwards finds {left} to do.
"""


def snakemake(home: Path, profile: str, *arguments: str) -> list[str]:
    """The command of `make reproduce PROFILE=smoke ON=... CORES=1`,
    with what a Slurm without accounting needs.
    """
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "workflow" / "Snakefile")]
    command += ["--workflow-profile", str(ROOT / "workflow" / "profiles" / profile), *arguments]
    return [*command, "--config", "profile=smoke", "cores=1"]


def environment(home: Path) -> dict[str, str]:
    """Results of their own, this checkout's package, and a checkpoint after every step."""
    home.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {
        "S2L_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PATH": path,
        "S2L_CHECKPOINT_SECONDS": "0",
    }
    return os.environ | own


def left(home: Path) -> dict[str, dict[str, str]]:
    """run -> file -> hash, of everything that may not differ: not times,
    nor what a resumed notebook printed.
    """
    found = {}
    for folder in sorted((home / RESULTS / "runs").iterdir()):
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        files = [file for file in files if file.name not in ("env.json", "notebook.ipynb")]
        found[folder.name] = {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
        }
    return found


def kernel(home: Path, run: str) -> int | None:
    """The process that trains a run: the kernel below `python -m s2l_paper train`."""
    method = run.split("_")[1]
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            mine = f"S2L_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0")
            if (
                mine
                and b"s2l_paper" in words
                and b"train" in words
                and f"method={method}".encode() in words
            ):
                children = (entry / "task" / entry.name / "children").read_text().split()
                for child in children:
                    if b"ipykernel_launcher" in (Path("/proc") / child / "cmdline").read_bytes():
                        return int(child)
        except (OSError, ValueError):
            continue
    return None


def sent(process: int, number: int) -> bool:
    """Sends a signal; False where the process is gone."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


class Aim:
    """A batch on Slurm, whose jobs are hit, one for each kind of fault;
    and what its runs say from then on.
    """

    def __init__(self, home: Path, base: Path):
        self.home, self.base = home, base
        self.open, self.hit, self.told = list(HITS), {}, {}
        self.batch = self.begin()

    def begin(self) -> subprocess.Popen:
        """Starts the batch, or takes it up again."""
        arguments = [
            "--slurm-status-command",
            "squeue",
            "--slurm-init-seconds-before-status-checks",
            "5",
        ]
        arguments += ["--slurm-logdir", f"{self.base}/logs", "--default-resources", "mem_mb=1000"]
        command = snakemake(self.home, "slurm", *arguments)
        with (self.base / "batch.log").open("a") as log:
            return subprocess.Popen(
                command, cwd=self.home, env=environment(self.home), stdout=log, stderr=log
            )

    def listen(self) -> dict[str, str]:
        """The log of each run; each job begins it anew,
        so telling lines of runs that were hit are kept.
        """
        said = {}
        for log in (self.home / RESULTS / "logs").glob("*.log"):
            with suppress(FileNotFoundError):  # removed before a job is handed in again
                said[log.stem] = log.read_text(errors="replace")
        for run, told in self.told.items():
            told += [line for line in TOLD.findall(said.get(run, "")) if line not in told]
        return said

    def stopped(self, but: set[int] = frozenset()) -> Iterator[tuple[str, int, int]]:
        """Stops what was not hit yet and is in the last steps of the main stage: run,
        process and step.
        """
        for run, text in self.listen().items():
            steps = [
                int(step)
                for step in re.findall(r"step (\d+)/8", text)
                if "stopped after" not in text
            ]
            if (
                run not in self.hit
                and steps
                and steps[-1] > 4
                and (process := kernel(self.home, run))
            ):
                if process not in but and sent(process, signal.SIGSTOP):
                    yield run, process, steps[-1]

    def look(self) -> None:
        """Hits a run that is within reach, if a fault is left to try."""
        for run, process, step in self.stopped() if self.open else ():
            if self.open and (self.home / RESULTS / "runs" / run / "checkpoint.pt").exists():
                fault = self.open.pop(0)
                self.hit[run], self.told[run] = (fault, step), []
                print(f"{fault}: {run} after step {step}", flush=True)
                self.strike(fault, run)
            sent(process, signal.SIGCONT)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Until a fault has come; runs that would be over by then are held for those that are left
        to try.
        """
        held = set()
        for _ in range(1200):
            if ready():
                break
            if self.open:
                held |= {process for _, process, _ in self.stopped(held)}
            self.listen()
            time.sleep(0.1)
        else:
            raise TimeoutError(f"{self.hit}: the last of these does not happen")
        for process in held:
            sent(process, signal.SIGCONT)

    def strike(self, fault: str, run: str) -> None:
        """Does it."""
        if fault == "orphaned":
            self.batch.kill()
            self.batch.wait()
            self.batch = self.begin()
            return self.wait(lambda: "waiting for its end" in self.listen().get(run, ""))
        if fault in ("requeued", "graced"):
            grace = GRACE if fault == "graced" else 0
            daemons.said("scontrol", "update", "PartitionName=runs", f"GraceTime={grace}")
            output = f"{self.base}/urgent.log"
            daemons.said(
                "sbatch",
                "-p",
                "urgent",
                "--exclusive",
                "-t",
                "5",
                "-o",
                output,
                "--wrap",
                "sleep 5",
            )
            return self.wait(
                lambda: "RUNNING" in daemons.said("squeue", "-h", "-p", "urgent", "-o", "%T")
            )
        jobs = [
            line.split("|") for line in daemons.said("squeue", "-h", "-o", "%i|%k").splitlines()
        ]
        number = next(number for number, comment in jobs if comment.endswith(run))
        if fault == "late":
            daemons.said("scontrol", "update", f"JobId={number}", "TimeLimit=1")
            return self.wait(
                lambda: "RUNNING" not in daemons.said("squeue", "-h", "-j", number, "-o", "%T")
            )
        daemons.said("scancel", f"--signal={'TERM' if fault == 'ended' else 'KILL'}", number)

    def survived(self, run: str) -> bool:
        """By what it said since it was hit; whether its results are right is another question."""
        fault, step = self.hit[run]
        said = "\n".join(self.told[run])
        if fault == "orphaned":
            return "waiting for its end" in said and "finished before" in said
        resumed = max(
            (int(found) for found in re.findall(r"going on from step (\d+)", said)), default=-1
        )
        return resumed >= step and (fault == "killed" or "stopped after step" in said)


def disturbed(home: Path, base: Path) -> tuple[Aim, int, str]:
    """The batch on Slurm; returns what was hit, how many jobs were handed in,
    and what a dry run says afterwards.
    """
    environment(home)
    aim, began = Aim(home, base), time.monotonic()
    try:
        while aim.batch.poll() is None:
            aim.look()
            time.sleep(0.05)
            if time.monotonic() - began > LONGEST:
                sys.exit(f"not done after {LONGEST} s:\n{(base / 'batch.log').read_text()[-5000:]}")
            aim.listen()
    finally:
        aim.batch.kill()
    aim.listen()
    text = (base / "batch.log").read_text()
    if aim.batch.returncode:
        sys.exit(f"the batch failed:\n{text[-5000:]}")
    again = subprocess.run(
        snakemake(home, "local", "--cores", "1", "--dry-run"),
        cwd=home,
        env=environment(home),
        **CAPTURED,
    )
    return aim, len(re.findall(r"submitted with SLURM jobid", text)), again.stdout + again.stderr


CAPTURED = {"capture_output": True, "text": True}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m slurm", description=__doc__)
    parser.add_argument("--report", type=Path, default=REPORT, help="where the section goes")
    given = parser.parse_args()
    if reason := daemons.missing():
        sys.exit(f"test-slurm cannot run here: {reason}.")
    begun = made("make test-slurm")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        base = Path(folder)
        quiet, loud = base / "undisturbed", base / "disturbed"
        with (base / "undisturbed.log").open("w") as log:
            options = {"env": environment(quiet), "cwd": quiet, "stdout": log, "stderr": log}
            undisturbed = subprocess.Popen(snakemake(quiet, "local", "--cores", "2"), **options)
            try:
                with daemons.cluster(base / "slurm"):
                    version = daemons.said("sinfo", "--version").split()[-1]
                    aim, jobs, again = disturbed(loud, base / "slurm")
                undisturbed.wait(LONGEST)
            finally:
                undisturbed.kill()
        if undisturbed.returncode:
            sys.exit(
                f"the batch without Slurm failed:\n{(base / 'undisturbed.log').read_text()[-5000:]}"
            )
        mine, usual = left(loud), left(quiet)
        same = {run for run in usual if mine.get(run) == usual[run]}
        rows, lost = [], [run for run in usual if run not in same]
        for fault, label in HITS.items():
            runs = [run for run in aim.hit if aim.hit[run][0] == fault]
            fine = [run for run in runs if run in same and aim.survived(run)]
            print(*(f"{fault}: {run}: {line}" for run in runs for line in aim.told[run]), sep="\n")
            rows.append(
                f"| {label} | {len(runs)} | {len(fine)} |"
                f" {'nothing' if fine == runs else 'see above'} |"
            )
            lost += [f"{fault}: {run}" for run in runs if run not in fine] + [
                f"{fault}: not tried"
            ] * (not runs)
        for run in usual:
            names = sorted(set(usual[run]) | set(mine.get(run, {})))
            differ = [name for name in names if usual[run].get(name) != mine.get(run, {}).get(name)]
            if differ:
                print(f"{run}: differs in {', '.join(differ)}")
    nothing = "nothing" if "Nothing to be done" in again else "something"
    values = {"version": version, "jobs": jobs, "rows": "\n".join(rows), "left": nothing}
    print(text := TEXT.format(runs=len(same), **values))
    if lost or nothing != "nothing" or set(mine) != set(usual):
        sys.exit(f"did not survive: {lost}; a dry run finds {nothing} to do")
    keep(given.report, text, begun)


if __name__ == "__main__":
    main()
