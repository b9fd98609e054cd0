"""How far a training is: a bar where someone watches, plain lines in a log."""

import os
import sys
import time

from tqdm.auto import tqdm

PLAIN = "S2L_PLAIN"  # set by the notebook runner: no bar, whatever the terminal
LINES = 8  # plain lines for one stage


class Progress:
    """Shows the steps of one stage.

    Args:
        title: what is being trained.
        start: steps done before.
        until: the last step of the stage.
    """

    def __init__(self, title: str, start: int, until: int):
        self.title, self.start, self.until, self.began = title, start, until, time.monotonic()
        watched = "ipykernel" in sys.modules or sys.stderr.isatty()
        plain = bool(os.environ.get(PLAIN)) or not watched
        self.every = max(1, (until - start) // LINES)
        self.bar = None if plain else tqdm(total=until, initial=start, desc=title, unit="step")

    def show(self, row: dict) -> None:
        """Takes the newest row of `steps.csv`."""
        notes = {name: f"{row[name]:.3f}" for name in ("loss", "coverage", "validation_iou") if name in row}
        if self.bar is not None:
            self.bar.update(1)
            self.bar.set_postfix(notes, refresh=False)
        elif row["step"] == self.until or (row["step"] - self.start) % self.every == 0 or "validation_iou" in row:
            pace = (time.monotonic() - self.began) / (row["step"] - self.start)
            left = pace * (self.until - row["step"])
            text = ", ".join(f"{name} {value}" for name, value in notes.items())
            print(f"{self.title}: step {row['step']}/{self.until}, {text}, {left:.0f} s left", flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
