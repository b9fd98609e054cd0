"""What a batch says while it runs: a line for each finished run, and a bar on a terminal.

`--logger s2l` replaces Snakemake's own messages, which are six lines for a run. Snakemake finds
this plugin by its name, in a folder of PYTHONPATH.
"""

import json
import logging
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm

# Snakemake says these after every failure; `guard.told` says more, and once.
SAID_ANYWAY = ("Exiting because a job execution failed", "did not complete", "CalledProcessError")
FAULT = re.compile(r"S2LError in file .*?:\n(.*?)(?:\n  File .*)?", re.DOTALL)


@dataclass(frozen=True)
class Job:
    """A run, or something that runs wait for.

    Attributes:
        words: what tells it from the others, such as data set, method and fold.
        seconds: how long it was expected to take.
        folder: of the run; None for what is no run.
    """

    words: tuple[str, ...]
    seconds: float
    folder: Path | None = None


@dataclass
class Batch:
    """What is expected of a batch, and how far it is.

    Attributes:
        jobs: by the name of the run, of the warm-up or of the rule.
        done: number of runs that are finished.
        total: number of runs.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    done: int = 0
    total: int = 0


BATCH = Batch()  # filled by the Snakefile, which is read by the same process


def duration(seconds: float) -> str:
    """A length of time in two figures or so."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def score(folder: Path) -> str:
    """Mean IoU of a finished run over its test images, as tables show it; empty without any."""
    import pandas as pd  # late: a batch that has nothing to do never needs it

    table = pd.read_csv(folder / "per_image.csv")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
    best = config["selection"] if config["selection"] in set(table.checkpoint) else "last"
    iou = table.iou[table.checkpoint == best].mean()
    if pd.isna(iou):
        return ""
    return f"IoU {iou:.2f}".replace("0.", ".", 1)


class LogHandler(LogHandlerBase):
    """Prints a line for each job that ends, and errors."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.names: dict[int, str] = {}  # of the jobs, by Snakemake's numbers
        self.started: dict[int, float] = {}
        self.done_seconds = 0.0  # expected seconds of what has ended
        self.bar: tqdm | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Takes one of Snakemake's messages; most are not for people."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self._begin(record)
        elif event == LogEvent.JOB_FINISHED:
            self._end(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._end(record.jobid, failed=True)
        elif record.levelno >= logging.ERROR:
            self._complain(record.getMessage())

    def close(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        super().close()

    def _begin(self, record: logging.LogRecord) -> None:
        """Notes which job a number stands for."""
        given = record.wildcards
        self.names[record.jobid] = given.get("run") or given.get("warmup") or record.rule_name
        self.started[record.jobid] = time.monotonic()
        if self.bar is None and sys.stderr.isatty() and BATCH.total:
            layout = "{n_fmt} of {total_fmt} runs |{bar:30}| {elapsed}{postfix}"
            self.bar = tqdm(total=BATCH.total, initial=BATCH.done, bar_format=layout)

    def _end(self, number: int, *, failed: bool = False) -> None:
        """Prints the line of a job."""
        job = BATCH.jobs.get(self.names.get(number, ""))
        if job is None:
            return
        seconds = time.monotonic() - self.started[number]
        self.done_seconds += job.seconds

        # Only runs are counted; what they wait for has the same columns without a number.
        count = ""
        width = len(str(BATCH.total))
        if job.folder is not None and not failed:
            BATCH.done += 1
            count = f"{BATCH.done:>{width}} of {BATCH.total}"
        parts = [count.ljust(2 * width + 4), *self._columns(job)]
        if failed:
            parts.append("failed")
        elif job.folder is not None:
            parts.append(score(job.folder))
        parts += [duration(seconds), self._left()]
        self._print("  ".join(part for part in parts if part).rstrip())
        if self.bar is not None:
            self.bar.n = BATCH.done
            self.bar.set_postfix_str(self._left())

    @staticmethod
    def _columns(job: Job) -> list[str]:
        """The words of a job, each as wide as the widest of its column among all runs."""
        words = [other.words for other in BATCH.jobs.values() if len(other.words) > 1]
        columns = []
        for place, word in enumerate(job.words):
            widest = max((len(other[place]) for other in words if place < len(other)), default=0)
            columns.append(word.ljust(widest))
        return columns

    def _left(self) -> str:
        """How long the rest will take, if it goes on as it went; empty at the end."""
        expected = sum(job.seconds for job in BATCH.jobs.values())
        rest = expected - self.done_seconds
        if rest <= 0 or self.done_seconds <= 0:
            return ""
        passed = time.monotonic() - self.began
        return f"{duration(passed * rest / self.done_seconds)} left"

    def _complain(self, text: str) -> None:
        """Prints an error; one that a user can cause without the place in the Snakefile."""
        if any(words in text for words in SAID_ANYWAY):
            return
        fault = FAULT.fullmatch(text.strip())
        self._print(f"error: {fault[1].strip()}" if fault else text, file=sys.stderr)

    @staticmethod
    def _print(text: str, file=None) -> None:
        tqdm.write(text, file=file or sys.stdout)
        (file or sys.stdout).flush()
