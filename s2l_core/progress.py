"""How far a training is: a bar where someone watches, a few plain lines in a log."""

import math
import os
import sys
import time

from tqdm.auto import tqdm

PLAIN = "S2L_PLAIN"  # set by the notebook runner: plain lines, whatever the terminal
LINES_OF_STAGE = 8  # plain lines for one stage
NOT_A_TERM = {"step", "stage", "loss", "coverage", "accuracy", "predictions", "validation_iou"}


class Progress:
    """Shows the steps of one stage: what is left, the loss and its terms, and what the
    pseudo-labels cover.

    Args:
        title: what is being trained.
        start: steps done before.
        until: the last step of the stage.
    """

    def __init__(self, title: str, start: int, until: int):
        self.title, self.start, self.until = title, start, until
        self.began = time.monotonic()
        self.every = max(1, (until - start) // LINES_OF_STAGE)
        self.seen: dict = {}

        in_notebook = "ipykernel" in sys.modules
        watched = not os.environ.get(PLAIN) and (in_notebook or sys.stderr.isatty())
        self.bar = None
        if watched:
            self.bar = tqdm(total=until, initial=start, desc=title, unit="step")

    def show(self, row: dict) -> None:
        """Takes the newest row of `steps.csv`."""
        self.seen |= row  # coverage and score stay in sight until the next ones
        if self.bar is not None:
            self.bar.set_postfix_str(self._notes(), refresh=False)
            self.bar.update(1)
            return

        step = row["step"]
        due = (step - self.start) % self.every == 0 or step == self.until
        if due or "validation_iou" in row:
            per_step = (time.monotonic() - self.began) / max(step - self.start, 1)
            left = per_step * (self.until - step)
            print(
                f"{self.title}: step {step}/{self.until}, {left:.0f} s left, {self._notes()}",
                flush=True,
            )

    def _notes(self) -> str:
        """The loss with its terms, the reach of the pseudo-labels and the last validation score."""
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

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
