"""`make test-slurm`: the smoke profile on a real Slurm, its jobs ended in mid-run in several ways, and a section of
docs/faults.md with what came of it."""

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torture.__main__ import REPORT, keep, machine

from slurm import daemons

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path("results") / "smoke"
HITS = {
    "ended": "SIGTERM to the job (`scancel --signal=TERM`): handed in again",
    "requeued": "pre-empted by a more urgent job: SIGTERM, requeued by Slurm",
    "killed": "SIGKILL to the job (`scancel --signal=KILL`): handed in again",
}
LONGEST = 2400  # seconds for the whole batch
TEXT = """## A cluster

Written by `make test-slurm`, on {date}, {machine}: Slurm {version} with controller and daemon on that machine, jobs of
one core. The smoke profile through `workflow/profiles/slurm`: {jobs} jobs handed in. To take aim a run is stopped
(SIGSTOP) in a step; Slurm's signals find it there. Survived means that the run went on from its checkpoint, no earlier,
and that all it leaves is the same, bit for bit, as in a batch that nobody disturbed and that knew no Slurm.

| fault | tried | survived | lost |
|---|---|---|---|
{rows}

{runs} of {runs} runs are done, and the same as without Slurm; a dry run afterwards finds {left} to do.
"""


def snakemake(home: Path, profile: str, *arguments: str) -> list[str]:
    """The command of `make reproduce PROFILE=smoke ON=... CORES=1`, with what a Slurm without accounting needs."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "workflow" / "Snakefile")]
    command += ["--workflow-profile", str(ROOT / "workflow" / "profiles" / profile), *arguments]
    return [*command, "--config", "profile=smoke", "cores=1"]


def environment(home: Path) -> dict[str, str]:
    """Results of their own, this checkout's package, and a checkpoint after every step."""
    home.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"S2L_HOME": str(home), "PYTHONPATH": str(ROOT), "PATH": path, "S2L_CHECKPOINT_SECONDS": "0"}
    return os.environ | own


def left(home: Path) -> dict[str, dict[str, str]]:
    """run -> file -> hash, of everything that may not differ: not times, nor what a resumed notebook printed."""
    found = {}
    for folder in sorted((home / RESULTS / "runs").iterdir()):
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        files = [file for file in files if file.name not in ("env.json", "notebook.ipynb")]
        found[folder.name] = {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
        }
    return found


def kernel(home: Path, run: str) -> int | None:
    """The process that trains a run: the kernel below `python -m s2l_core.notebooks train`."""
    method = run.split("_")[1]
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            mine = f"S2L_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0")
            if mine and b"s2l_core.notebooks" in words and f"method={method}".encode() in words:
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
    """Watches the logs of a batch and hits its jobs, one for each kind of fault."""

    def __init__(self, home: Path, base: Path):
        self.home, self.base = home, base
        self.open, self.hit = list(HITS), {}

    def look(self) -> None:
        """Hits a run in whose log a step of the main stage is, if one is there and a fault is left to try."""
        for log in (self.home / RESULTS / "logs").glob("*.log"):
            run = log.stem
            if not self.open or run in self.hit or not re.search(r"step [56]/8", log.read_text()):
                continue
            process = kernel(self.home, run)
            if process and sent(process, signal.SIGSTOP):
                if (self.home / RESULTS / "runs" / run / "checkpoint.pt").exists():
                    fault = self.open.pop(0)
                    self.hit[run] = fault, int(re.findall(r"step (\d+)/8", log.read_text())[-1])
                    print(f"{fault}: {run} after step {self.hit[run][1]}", flush=True)
                    self.strike(fault, run)
                sent(process, signal.SIGCONT)

    def strike(self, fault: str, run: str) -> None:
        """Does it."""
        if fault == "requeued":
            output = f"{self.base}/urgent.log"
            daemons.said("sbatch", "-p", "urgent", "--exclusive", "-t", "5", "-o", output, "--wrap", "sleep 5")
            for _ in range(300):
                if "RUNNING" in daemons.said("squeue", "-h", "-p", "urgent", "-o", "%T"):
                    return
                time.sleep(0.1)
            raise TimeoutError("the urgent job does not start")
        jobs = [line.split("|") for line in daemons.said("squeue", "-h", "-o", "%i|%k").splitlines()]
        number = next(number for number, comment in jobs if comment.endswith(run))
        daemons.said("scancel", f"--signal={'TERM' if fault == 'ended' else 'KILL'}", number)


def disturbed(home: Path, base: Path) -> tuple[dict, int, str]:
    """The batch on Slurm; returns what was hit, how many jobs were handed in, and what a dry run says afterwards."""
    arguments = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5"]
    arguments += ["--slurm-logdir", f"{base}/logs", "--default-resources", "mem_mb=1000"]
    aim, began = Aim(home, base), time.monotonic()
    with (base / "batch.log").open("w") as log:
        command = snakemake(home, "slurm", *arguments)
        batch = subprocess.Popen(command, cwd=home, env=environment(home), stdout=log, stderr=log)
        try:
            while batch.poll() is None:
                aim.look()
                time.sleep(0.05)
                if time.monotonic() - began > LONGEST:
                    sys.exit(f"not done after {LONGEST} s:\n{(base / 'batch.log').read_text()[-5000:]}")
        finally:
            batch.kill()
    text = (base / "batch.log").read_text()
    if batch.returncode:
        sys.exit(f"the batch failed:\n{text[-5000:]}")
    again = subprocess.run(
        snakemake(home, "local", "--cores", "1", "--dry-run"), cwd=home, env=environment(home), **CAPTURED
    )
    return aim.hit, len(re.findall(r"submitted with SLURM jobid", text)), again.stdout + again.stderr


CAPTURED = {"capture_output": True, "text": True}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m slurm", description=__doc__)
    parser.add_argument("--report", type=Path, default=REPORT, help="where the section goes")
    given = parser.parse_args()
    if reason := daemons.missing():
        sys.exit(f"test-slurm cannot run here: {reason}.")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        base = Path(folder)
        quiet, loud = base / "undisturbed", base / "disturbed"
        with (base / "undisturbed.log").open("w") as log:
            options = {"env": environment(quiet), "cwd": quiet, "stdout": log, "stderr": log}
            undisturbed = subprocess.Popen(snakemake(quiet, "local", "--cores", "2"), **options)
            try:
                with daemons.cluster(base / "slurm"):
                    version = daemons.said("sinfo", "--version").split()[-1]
                    hit, jobs, again = disturbed(loud, base / "slurm")
                undisturbed.wait(LONGEST)
            finally:
                undisturbed.kill()
        if undisturbed.returncode:
            sys.exit(f"the batch without Slurm failed:\n{(base / 'undisturbed.log').read_text()[-5000:]}")
        mine, usual = left(loud), left(quiet)
        same = {run for run in usual if mine.get(run) == usual[run]}
        rows, lost = [], [run for run in usual if run not in same]
        for fault, label in HITS.items():
            runs = [run for run in hit if hit[run][0] == fault]
            fine = [run for run in runs if run in same and resumed(loud, run) >= hit[run][1]]
            rows.append(f"| {label} | {len(runs)} | {len(fine)} | {'nothing' if fine == runs else 'see above'} |")
            lost += [f"{fault}: {run}" for run in runs if run not in fine] + [f"{fault}: not tried"] * (not runs)
        for run in usual:
            names = sorted(set(usual[run]) | set(mine.get(run, {})))
            differ = [name for name in names if usual[run].get(name) != mine.get(run, {}).get(name)]
            if differ:
                print(f"{run}: differs in {', '.join(differ)}")
    nothing = "nothing" if "Nothing to be done" in again else "something"
    values = {"machine": machine(), "version": version, "jobs": jobs, "rows": "\n".join(rows), "left": nothing}
    print(text := TEXT.format(date=time.strftime("%Y-%m-%d"), runs=len(same), **values))
    if lost or nothing != "nothing" or set(mine) != set(usual):
        sys.exit(f"did not survive: {lost}; a dry run finds {nothing} to do")
    keep(given.report, text)


def resumed(home: Path, run: str) -> int:
    """The step from which a run went on, by its log; -1 where it began anew."""
    found = re.findall(r"going on from step (\d+)", (home / RESULTS / "logs" / f"{run}.log").read_text())
    return int(found[-1]) if found else -1


if __name__ == "__main__":
    main()
