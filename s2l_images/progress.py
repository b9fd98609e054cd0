"""How far a training is: a bar where someone watches, a few plain lines in a log."""

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from tqdm.auto import tqdm

from s2l_core.config import RunConfig

PLAIN = "S2L_PLAIN"  # set by the notebook runner: plain lines, whatever the terminal
LINES_OF_STAGE = 8  # plain lines for one stage
NOT_A_TERM = {"step", "stage", "loss", "coverage", "accuracy", "predictions", "validation_iou"}


Report = Callable[[str, float], object]  # called with a sentence, and the share that is done


def watched() -> bool:
    """Whether somebody looks at a notebook's page, and no program runs it."""
    return "ipykernel" in sys.modules and not os.environ.get(PLAIN)


def time_left(seconds: float) -> str:
    """A time to wait, as people say it."""
    if seconds <= 0:
        return "done"
    if seconds < 10:
        return "a few seconds left"
    if seconds < 50:
        return f"about {10 * round(seconds / 10)} seconds left"
    minutes = round(seconds / 60)
    return "about a minute left" if minutes <= 1 else f"about {minutes} minutes left"


class Progress:
    """Shows the steps of a training: what is left, the loss and its terms, and what the
    pseudo-labels cover. A `Trainer` calls it as its `on_step`; each stage has a bar of its own.

    Args:
        config: says what is trained, and how long its stages are.
        losses: say them; they mean nothing to who draws on cells.
        report: told in words instead of a bar or lines; without losses.
    """

    def __init__(self, config: RunConfig, *, losses: bool = True, report: Report | None = None):
        self.losses, self.report = losses, report
        name = PurePath(config.dataset).name  # which may be a folder
        self.title = f"{name} {config.method}"
        self.ends = {"warm-up": config.warmup_steps, "main": config.total_steps}
        self.stage = ""
        self.bar: tqdm | None = None
        self.start = self.until = 0  # steps done before the stage was begun, or gone on with
        self.began = self.latest = time.monotonic()
        self.seen: dict[str, Any] = {}

    def __call__(self, row: dict[str, Any]) -> None:
        """Takes the newest row of `steps.csv`."""
        if row["stage"] != self.stage:
            self._begin(row)
        self.seen |= row  # coverage and score stay in sight until the next ones
        self.latest = time.monotonic()

        if self.report is not None:
            step, left = row["step"], time_left(self._seconds_left(row["step"]))
            self.report(f"step {step} of {self.until}, {left}", step / self.until)
            return
        if self.bar is None:
            self._print(row)
            return
        self.bar.set_postfix_str(self._notes(), refresh=False)
        self.bar.update(1)
        if row["step"] == self.until:
            self.bar.close()

    def _begin(self, row: dict[str, Any]) -> None:
        """Begins a stage with its first row, or with the first after a resume."""
        self.stage, self.seen = row["stage"], {}
        self.start, self.until = row["step"] - 1, self.ends[self.stage]
        self.began = self.latest  # the last step of the stage before

        on_terminal = sys.stderr.isatty() and not os.environ.get(PLAIN)
        self.bar = None
        if self.report is None and (watched() or on_terminal):
            self.bar = tqdm(total=self.until, initial=self.start, desc=self.title, unit="step")

    def _print(self, row: dict[str, Any]) -> None:
        """A plain line, where one is due."""
        step = row["step"]
        every = max(1, (self.until - self.start) // LINES_OF_STAGE)
        due = (step - self.start) % every == 0 or step == self.until
        if due or "validation_iou" in row:
            left = f"{self._seconds_left(step):.0f} s left"
            if not self.losses:
                left = time_left(self._seconds_left(step))
            notes = ", ".join(filter(None, [left, self._notes()]))
            print(f"{self.title}: step {step}/{self.until}, {notes}", flush=True)

    def _seconds_left(self, step: int) -> float:
        """Of this stage, if all its steps take as long as those before."""
        per_step = (self.latest - self.began) / (step - self.start)
        return per_step * (self.until - step)

    def _notes(self) -> str:
        """The loss with its terms, the reach of the pseudo-labels and the last validation score."""
        if not self.losses:
            return ""
        terms = [
            f"{name} {value:.2f}" for name, value in self.seen.items() if name not in NOT_A_TERM
        ]
        loss = f"loss {self.seen['loss']:.2f}"
        notes = [f"{loss} = {' + '.join(terms)}" if len(terms) > 1 else loss]

        if "coverage" in self.seen:
            covered = f"pseudo-labels on {self.seen['coverage']:.0%}"
            accuracy = self.seen.get("accuracy", math.nan)
            notes.append(covered if math.isnan(accuracy) else f"{covered}, {accuracy:.0%} right")
        if "validation_iou" in self.seen:
            notes.append(f"validation IoU {self.seen['validation_iou']:.3f}")
        return ", ".join(notes)
