"""How far a training is: one line in place where someone watches, few plain lines in a log."""

import html
import math
import os
import sys
import time

from tqdm import tqdm

PLAIN = "S2L_PLAIN"  # set by the notebook runner: plain lines, whatever the terminal
LINES = 8  # plain lines for one stage
SECONDS = 0.2  # between two changes of the line in a notebook: a page must not be flooded
NO_TERMS = {"step", "stage", "loss", "coverage", "accuracy", "validation_iou"}  # all else in a row is part of the loss


class Progress:
    """Shows the steps of one stage: what is left, the loss and its terms, and what the pseudo-labels cover.

    Args:
        title: what is being trained.
        start: steps done before.
        until: the last step of the stage.
    """

    def __init__(self, title: str, start: int, until: int):
        self.title = title.rpartition(os.sep)[2]  # of a folder of one's own the name will do
        self.start, self.until, self.began, self.shown = start, until, time.monotonic(), 0.0
        self.every = max(1, (until - start) // LINES)
        self.seen: dict = {}
        plain, ipython = bool(os.environ.get(PLAIN)), sys.modules.get("IPython")
        notebook = bool(ipython) and hasattr(ipython.get_ipython(), "kernel")
        self.line = None
        if notebook and not plain:
            from IPython.display import display  # which a terminal need not load

            self.line = display({"text/plain": self.title}, raw=True, display_id=True)
        watched = not plain and not notebook and sys.stderr.isatty()
        self.bar = tqdm(total=until, initial=start, desc=self.title, unit="step") if watched else None

    def show(self, row: dict) -> None:
        """Takes the newest row of `steps.csv`."""
        self.seen |= row  # coverage and score stay in sight until the next ones
        step, now = row["step"], time.monotonic()
        left = (now - self.began) / max(step - self.start, 1) * (self.until - step)
        text = f"{self.title}: step {step}/{self.until}, {left:.0f} s left, {self._notes()}"
        if self.bar is not None:
            self.bar.set_postfix_str(self._notes(), refresh=False)
            self.bar.update(1)
        elif self.line is not None:
            if step == self.until or now - self.shown > SECONDS:
                done = f'value="{step - self.start}" max="{self.until - self.start}" style="vertical-align: middle"'
                line = f"<progress {done}></progress> {html.escape(text)}"
                self.line.update({"text/plain": text, "text/html": line}, raw=True)
                self.shown = now
        elif step == self.until or (step - self.start) % self.every == 0 or "validation_iou" in row:
            print(text, flush=True)

    def _notes(self) -> str:
        terms = " + ".join(f"{name} {self.seen[name]:.2f}" for name in self.seen if name not in NO_TERMS)
        notes = [f"loss {self.seen['loss']:.2f}" + f" = {terms}" * (" + " in terms)]
        if "coverage" in self.seen:
            right = self.seen.get("accuracy", math.nan)  # known where there is a truth
            notes.append(f"pseudo-labels on {self.seen['coverage']:.0%}" + f", {right:.0%} right" * (right == right))
        if "validation_iou" in self.seen:
            notes.append(f"validation IoU {self.seen['validation_iou']:.3f}")
        return ", ".join(notes)

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
