"""Measures side by side: cases take turns in one process;
memory is that of a process of its own.
"""

import operator
import os
import re
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parent
TOPICS = {  # what `make bench` measures, in this order; "full" has more
    "bench": (
        "loss crowd steps feeding averages prediction scores scribbles rendering reading imports"
        " cost"
    ).split(),
    "full": (
        "averages scribbles prediction folds options first_mask rounds features own_images"
        " next_stroke reach"
    ).split(),
}
TOPICS["smoke"] = [*TOPICS["bench"], "folds", "options", "first_mask", "rounds"]
TOPICS["smoke"] += ["features", "own_images", "next_stroke", "reach"]
BARS = {"<=": operator.le, ">=": operator.ge}
LONG, ENDLESS = 5.0, 60.0  # seconds of a case from which 3 rounds do instead of 7, and 1
Case = Callable[[], object]


@dataclass(frozen=True)
class Scale:
    """How large the measurements are, and the folder for what they write."""

    name: str  # smoke: does it run; bench: minutes; full: whatever it takes
    out: Path = FOLDER

    def pick(self, smoke, bench, full=None):
        """One of the values, by name; `full` is that of `bench` unless given."""
        return {"smoke": smoke, "bench": bench, "full": bench if full is None else full}[self.name]

    def turns(self, cases: Mapping[str, Case], rounds: int | None = None) -> dict[str, list[float]]:
        """`interleaved`; each case once in a smoke test."""
        return (
            {name: [seconds(case)] for name, case in cases.items()}
            if self.name == "smoke"
            else interleaved(cases, rounds)
        )


@dataclass(frozen=True)
class Row:
    """One measurement: `value`, the median over rounds, is what the bar is about."""

    case: str
    value: float  # times as fast or as long; or seconds or MiB, where nothing stands beside
    low: float
    high: float
    rounds: int
    bar: str  # "<= 1.7", ">= 12", or nothing
    ours: float
    unit: str = "s"  # of `ours` and `theirs`
    against: str = ""
    theirs: float = float("nan")

    @property
    def met(self) -> str:
        """`yes` or `no`; empty without a bar."""
        if not self.bar:
            return ""
        sign, limit = self.bar.split()
        return "yes" if BARS[sign](self.value, float(limit)) else "no"


def ratio(
    case: str,
    ours: Sequence[float],
    against: str,
    theirs: Sequence[float],
    bar: str = "",
    unit: str = "s",
) -> Row:
    """Compares round by round: how many times as fast where the bar is `>=`,
    else how many times as much.
    """
    pairs = list(
        zip(ours, theirs, strict=False)
    )  # what is slow takes part in the first rounds only
    values = [b / a if bar.startswith(">=") else a / b for a, b in pairs]
    middle = statistics.median(ours), unit, against, statistics.median(theirs)
    return Row(case, statistics.median(values), min(values), max(values), len(values), bar, *middle)


def absolute(case: str, values: Sequence[float], bar: str = "", unit: str = "s") -> Row:
    """A measurement that has nothing beside it but its bar."""
    value = statistics.median(values)
    return Row(case, value, min(values), max(values), len(values), bar, value, unit)


def keep(file: Path, kept: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Adds the rows of a trial to the table of all and writes it, so that a measurement that is cut
    off goes on where it stopped; returns the table.
    """
    kept = pd.concat([kept, new] if len(kept) else [new], ignore_index=True)
    kept.to_csv(file, index=False, float_format="%.4f")
    return kept


def interleaved(cases: Mapping[str, Case], rounds: int | None = None) -> dict[str, list[float]]:
    """Seconds of each case in each round, after one call of each that does not count.

    Cases take turns, from round to round in the opposite order: what disturbs the machine disturbs
    all of them alike. Unless `rounds` are given, a case has 7 of them,
    the first 3 of them where it takes `LONG`, the first where `ENDLESS`.
    """
    due = {}
    for name, case in cases.items():
        took = seconds(case)
        due[name] = rounds or (7 if took < LONG else 3 if took < ENDLESS else 1)
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(max(due.values())):
        for name in list(cases)[:: -1 if turn % 2 else 1]:
            if turn < due[name]:
                spent[name].append(seconds(cases[name]))
    return spent


def seconds(case: Case) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    case()
    return time.perf_counter() - start


def in_fresh_process(prepare: Callable[..., Case], *arguments) -> tuple[float, float]:
    """Seconds of `prepare(*arguments)()`, and MiB by which it raises the peak memory of a process
    of its own.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, prepare, arguments).result()


def _measured(prepare, arguments) -> tuple[float, float]:
    case = prepare(*arguments)
    before = _peak(forget=True)
    spent = seconds(case)
    return spent, _peak() - before


def _peak(*, forget: bool = False) -> float:
    """Largest resident memory of this process in MiB; on Linux since it was last forgotten."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024


class Disturbance:
    """How busy other processes keep the machine meanwhile."""

    def __init__(self):
        self._began, self._before = time.perf_counter(), _others()

    def share(self) -> float:
        """Share of all cores' time that went to other processes;
        nan where the system does not tell.
        """
        spent = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        return max((_others() - self._before) / spent, 0.0)


def _others() -> float:
    """Seconds that the cores spent on other processes than this and its children."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return float("nan")
    user, nice, system, _, _, interrupt, soft, steal = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + interrupt + soft + steal) / os.sysconf("SC_CLK_TCK") - sum(
        os.times()[:4]
    )
