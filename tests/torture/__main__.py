"""`make torture`: many kills and other faults, and docs/faults.md with what came of them."""

import argparse
import datetime
import importlib
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from s2l_images import checkpoints
from torture.kills import NETWORKS, Hit, cramped, left, moments, process, tiny

REPORT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
STEPS = 8  # of the tiny run
PLACES = {
    "warm-up step": "in a step of the warm-up",
    "main step": "in a step of the main stage",
    "averages": "while predictions are averaged",
    "validation": "in validation",
    "fork": "at the fork from the warm-up",
    "checkpoint": "while a checkpoint is written",
    "renaming": "between the two renames of a checkpoint",
    "scoring": "while test images are scored",
    "tables": "while tables are written",
}
OTHERS = ("batch", "files", "strokes", "load")  # modules beside this one, each with a `report`
TEXT = """# Fault tests

Each section can be made anew alone, and says when, where and at which commit it was.

Each try trains a tiny network for {steps} steps in a process of its own, harms it, lets it go on, and compares all that
it leaves with a run that nobody disturbed: weights, optimiser, averaged predictions, `steps.csv`, `per_image.csv`,
`model.safetensors` and pictures, bit for bit. Survived means: all the same, and no unfinished file left behind. The
{count} methods that train take turns at being killed, each at one place after the other:
{methods}.

{faults}

Steps done twice are the price of a kill: those since the last checkpoint. Here one is written after every step, or
every half second; a real run writes one every two minutes (`S2L_CHECKPOINT_SECONDS`). A signal that can be caught costs
none.

## The same answer again

Same seed, same machine, same number of threads: the same bits ({repeats} of {repeated} repetitions here). With another
number of threads sums are taken in another order, and a training from scratch at high rates soon makes much of the last
digit. One thread against two:

{threads}

Nothing else was compared: all this is of one machine. Other processors, operating systems and versions of libraries
take sums in other orders, too, and GPUs compute in bfloat16, so that each of them may give other digits.
"""


class Tally:
    """What each kind of fault came to."""

    def __init__(self):
        self.rows = defaultdict(lambda: {"tried": 0, "survived": 0, "twice": 0})

    def add(self, fault: str, survived: bool, twice: int, home: Path) -> None:
        """Counts one try; keeps what a failed one said."""
        row = self.rows[fault]
        row["tried"] += 1
        row["survived"] += survived
        row["twice"] = max(row["twice"], twice)
        print(
            f"{'survived' if survived else 'LOST'}: {fault}, {twice} steps done twice", flush=True
        )
        if not survived:
            print((home / "log.txt").read_text()[-2000:], flush=True)

    def table(self) -> str:
        """Markdown."""
        lines = [
            "| fault | tried | survived | lost | steps done twice, at most |",
            "|---|---|---|---|---|",
        ]
        for fault, row in self.rows.items():
            gone = row["tried"] - row["survived"]
            lost = f"{gone} runs ended otherwise" if gone else "nothing"
            lines.append(
                f"| {fault} | {row['tried']} | {row['survived']} | {lost} | {row['twice']} |"
            )
        return "\n".join(lines)


class Torture:
    """The references, and the ways to harm a run."""

    def __init__(self, base: Path, seed: int):
        self.base, self.rng, self.tally, self.known = base, random.Random(seed), Tally(), {}
        self.tried = 0

    def home(self) -> Path:
        """A fresh one for the next try."""
        self.tried += 1
        return self.base / f"try{self.tried}"

    def untouched(self, method: str):
        """What an undisturbed run leaves, and how often it meets each moment."""
        if method not in self.known:
            home = self.base / method
            assert process(home, tiny(method)) == 0, (home / "log.txt").read_text()
            self.known[method] = left(home), moments(home)
        return self.known[method]

    def judge(self, fault: str, home: Path, method: str, **options) -> None:
        """Lets the harmed run go on to its end, and compares."""
        code = process(home, tiny(method), **options)
        met = moments(home)
        same = code == 0 and left(home) == self.untouched(method)[0]
        self.tally.add(fault, same, met["warm-up step"] + met["main step"] - STEPS, home)

    def kill(self, number: int) -> None:
        """One SIGKILL: the methods and the places take turns, the moment is drawn."""
        method = NETWORKS[number % len(NETWORKS)]
        met = self.untouched(method)[1]
        places = [place for place in PLACES if met[place]]
        place = places[(number // len(NETWORKS) + number) % len(places)]
        late = place in ("scoring", "tables")  # the run may be over before a delayed kill
        delay = 0.0 if late or self.rng.random() < 0.5 else self.rng.uniform(0.0, 0.03)
        hit = Hit(place, self.rng.randint(1, met[place]), delay)
        options = {"shared": number // len(NETWORKS) % 2 == 0, "every": 0.0}
        if place not in ("checkpoint", "renaming"):
            options["every"] = self.rng.choice([0.0, 0.5])
        home = self.home()
        code = process(home, tiny(method), hit=hit, **options)
        if code == -signal.SIGKILL:
            self.judge(f"SIGKILL {PLACES[place]}", home, method, **options)
        else:
            print(f"not hit: {hit}, {options}, code {code}", flush=True)

    def stop(self, number: int) -> None:
        """One SIGTERM or SIGINT somewhere in the run, where no checkpoint was written before."""
        for name, code in (("SIGTERM", 143), ("SIGINT", 130)):
            method = self.rng.choice(NETWORKS)
            place = self.rng.choice(["main step", "validation", "scoring"])
            home, hit = self.home(), Hit(place, 1 + number % 2, number=getattr(signal, name))
            assert process(home, tiny(method), hit=hit, every=120) == code, (
                home / "log.txt"
            ).read_text()
            self.judge(f"{name}: exit code {code}", home, method, every=120)

    def damage(self, number: int) -> None:
        """The newest checkpoint is cut short, or has one bit changed:
        the one before it is gone on with.
        """
        method, home = self.rng.choice(NETWORKS), self.home()
        assert (
            process(home, tiny(method), hit=Hit("main step", 3 if method != "supervised" else 4))
            < 0
        )
        file = next(home.rglob(f"runs/*/{checkpoints.NAMES[0]}"))
        data = bytearray(file.read_bytes())
        if number % 2:
            data = data[: self.rng.randrange(len(data))]
        else:
            data[self.rng.randrange(len(data) // 2)] ^= 1 << self.rng.randrange(8)
        file.write_bytes(data)
        self.judge(
            "newest checkpoint " + ("cut short" if number % 2 else "with one bit changed"),
            home,
            method,
        )

    def fill(self) -> None:
        """No room for a checkpoint: an error that names the folder;
        it goes on where there is room.
        """
        home = self.home()
        assert process(home, tiny("s2l-r1-r4"), prepare=cramped) == 1
        assert "checkpoint.pt cannot be written there" in (home / "log.txt").read_text()
        self.judge("no room for a checkpoint", home, "s2l-r1-r4")


def thread_differences(base: Path) -> tuple[str, list[bool]]:
    """Table of how far one and two threads lie apart, and whether two equal runs agree."""
    rows, same = [], []
    for warmup, main in ((1, 0), (4, 4), (4, 36)):
        found, config = {}, tiny("s2l-r1-r4", warmup_steps=warmup, main_steps=main)
        for threads, again in ((1, ""), (1, "again"), (2, ""), (2, "again")):
            home = base / f"threads{threads}{again}-{config.total_steps}"
            assert process(home, config, threads=threads, every=120) == 0, (
                home / "log.txt"
            ).read_text()
            found[threads, again] = home, left(home)
        same += [found[threads, ""][1] == found[threads, "again"][1] for threads in (1, 2)]
        folders = [
            next((found[threads, ""][0] / "results/smoke/runs").glob("[!.]*")) for threads in (1, 2)
        ]
        one, two = (load_file(folder / "model.safetensors") for folder in folders)
        floats = [name for name in one if one[name].is_floating_point()]
        weights = max(float((one[name] - two[name]).abs().max()) for name in floats)
        ious = [pd.read_csv(folder / "per_image.csv").iou for folder in folders]
        rows.append(
            f"| {config.total_steps} | {weights:.1e} | {(ious[0] - ious[1]).abs().max():.1e} |"
        )
    head = (
        "| steps | largest difference: a weight or running mean | an image's IoU |\n|---|---|---|\n"
    )
    return head + "\n".join(rows), same


def machine() -> str:
    """Where this was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} ({platform.machine()})"
    return f"on a machine with {os.cpu_count()} cores and {memory:.0f} GiB of memory under {system}"


def made(command: str) -> str:
    """What makes a section, asked for when it begins: the command, the day,
    the commit and the machine.
    """
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPORT.parent, capture_output=True, text=True
    )
    at = f" at commit {said.stdout.strip()}" if said.returncode == 0 else ""
    return f"Written by `{command}`, on {datetime.date.today()}{at}, {machine()}."


def keep(report: Path, section: str, made: str) -> None:
    """Puts a section in place of the one of its heading, or at the end, with what made it;
    all others stay.
    """
    heading, _, text = section.partition("\n")
    section = f"{heading}\n\n{made}\n{text}"
    parts = re.split(r"(?m)^(?=## )", report.read_text()) if report.exists() else []
    found = [number for number, part in enumerate(parts) if part.partition("\n")[0] == heading]
    place = found[0] if found else len(parts)
    parts[place : place + 1] = [section]
    report.write_text("\n\n".join(part.strip("\n") for part in parts) + "\n")


def other(report: Path, name: str) -> None:
    """Makes the section of another module anew, and keeps all others as they are."""
    begun = made(f"python -m torture --only {name}")
    keep(report, importlib.import_module(f"torture.{name}").report(), begun)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument(
        "--only", choices=OTHERS, help="make one section anew and keep all others as they are"
    )
    parser.add_argument(
        "--kills",
        type=int,
        default=54,
        help="how many SIGKILLs; 54 meet every place in every method",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=REPORT, help="where the table goes")
    parser.add_argument(
        "--also", nargs="*", default=list(OTHERS), choices=OTHERS, help="sections beside the runs'"
    )
    given = parser.parse_args()
    if given.only:
        other(given.report, given.only)
        return
    begun = made(f"python -m torture --kills {given.kills}")
    with tempfile.TemporaryDirectory(prefix="torture-") as base:
        torture = Torture(Path(base), given.seed)
        for number in range(given.kills):
            torture.kill(number)
        others = max(1, given.kills // 9)
        for number in range(others):
            torture.stop(number)
            torture.damage(number)
        torture.fill()
        table, same = thread_differences(Path(base))
    values = {"steps": STEPS, "count": len(NETWORKS), "methods": ", ".join(NETWORKS)}
    values |= {
        "faults": torture.tally.table(),
        "threads": table,
        "repeats": sum(same),
        "repeated": len(same),
    }
    for section in re.split(r"(?m)^(?=## )", TEXT.format(**values)):
        keep(given.report, section, begun)
    for name in given.also:  # what is done is kept, whatever the next hour brings
        print(f"{name}: begun", flush=True)
        other(given.report, name)
    lost = sum(row["tried"] - row["survived"] for row in torture.tally.rows.values())
    sys.exit(f"{lost} tries did not survive" if lost or not all(same) else 0)


if __name__ == "__main__":
    main()
