"""How far a training is: a bar where someone watches, plain lines in a log."""

import os
import sys
import time

from tqdm.auto import tqdm

PLAIN = "S2L_PLAIN"  # set by the notebook runner: no bar, whatever the terminal
LINES = 8  # plain lines for one stage
NO_TERMS = {"step", "stage", "loss", "coverage", "accuracy", "validation_iou"}  # all else in a row is part of the loss


class Progress:
    """Shows the steps of one stage: what is left, the loss and its terms, and what the pseudo-labels cover.

    Args:
        title: what is being trained.
        start: steps done before.
        until: the last step of the stage.
    """

    def __init__(self, title: str, start: int, until: int):
        self.start, self.until, self.began = start, until, time.monotonic()
        self.title = title.rpartition(os.sep)[2]  # of a folder of one's own the name will do
        watched = "ipykernel" in sys.modules or sys.stderr.isatty()
        plain = bool(os.environ.get(PLAIN)) or not watched
        self.every = max(1, (until - start) // LINES)
        self.seen: dict[str, float] = {}
        self.bar = None if plain else tqdm(total=until, initial=start, desc=title, unit="step")

    def show(self, row: dict) -> None:
        """Takes the newest row of `steps.csv`."""
        self.seen |= row  # coverage and score stay in sight until the next ones
        if self.bar is not None:
            self.bar.set_postfix_str(self._notes(), refresh=False)
            self.bar.update(1)
        elif row["step"] == self.until or (row["step"] - self.start) % self.every == 0 or "validation_iou" in row:
            pace = (time.monotonic() - self.began) / (row["step"] - self.start)
            left = pace * (self.until - row["step"])
            print(f"{self.title}: step {row['step']}/{self.until}, {self._notes()}, {left:.0f} s left", flush=True)

    def _notes(self) -> str:
        terms = " + ".join(f"{name} {self.seen[name]:.2f}" for name in self.seen if name not in NO_TERMS)
        notes = [f"loss {self.seen['loss']:.2f}" + f" = {terms}" * (" + " in terms)]
        if "coverage" in self.seen:
            notes.append(f"pseudo-labels on {self.seen['coverage']:.0%}")
        if "validation_iou" in self.seen:
            notes.append(f"validation IoU {self.seen['validation_iou']:.3f}")
        return ", ".join(notes)

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
