"""A round that learns in a thread, so that the kernel goes on listening to the page."""

import io
import threading
from collections.abc import Callable

import ipywidgets
import numpy as np
from PIL import Image

from s2l_core.config import S2LError
from s2l_images.learning.verdicts import Round
from s2l_images.progress import Report

WIDEST_SHOWN = "420px"
POLL = 0.2  # seconds between two looks at whether an interrupt has come


class Lesson:
    """A round in progress, and what a page sees of it: words, a bar, a button and a picture.

    All of these are widgets. A page that is loaded anew asks the kernel for them, and the kernel
    answers, since no cell is running.

    Args:
        learn: does the work, in a thread of its own, and is given this lesson.
        tell: is told how far it is, too; a share below 0 ends the round.
    """

    def __init__(self, learn: Callable[["Lesson"], Round], tell: Report):
        self.stop, self.tell = threading.Event(), tell
        self.error: Exception | None = None
        self._words = ipywidgets.HTML()
        self._bar = ipywidgets.FloatProgress(max=1.0)
        self._button = ipywidgets.Button(description="Stop", tooltip="Keep what it has learned")
        self._button.on_click(lambda _: self.stop.set())
        self._picture = ipywidgets.Image(format="png", layout={"max_width": WIDEST_SHOWN})
        self._picture.layout.display = "none"  # until there is one
        line = ipywidgets.HBox([self._bar, self._button, self._words])
        self.panel = ipywidgets.VBox([line, self._picture])

        self.report("It begins", 0.0)
        self._thread = threading.Thread(target=self._run, args=[learn], daemon=True)
        self._thread.start()

    @property
    def runs(self) -> bool:
        """Whether it still learns."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Until it has ended; an interrupt of the kernel stops it.

        Raises:
            S2LError: and whatever else ended it, once.
        """
        while self.runs:
            try:
                self._thread.join(POLL)
            except KeyboardInterrupt:
                self.stop.set()
        error, self.error = self.error, None
        if error is not None:
            raise error

    def show(self, picture: np.ndarray) -> None:
        """Shows its present answer for an image: (H, W, 3) uint8."""
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        self._picture.value = file.getvalue()
        self._picture.layout.display = ""

    def report(self, text: str, share: float) -> None:
        """Says how far it is, and shows the share that is done; below 0 it has ended."""
        self._words.value = text
        self._bar.value = max(share, 0.0)
        running = share >= 0
        self._bar.layout.display = self._button.layout.display = "" if running else "none"
        self.tell(text, share)

    def _run(self, learn: Callable[["Lesson"], Round]) -> None:
        try:
            self.report(learn(self).said, -1.0)
        except Exception as error:  # raised where somebody waits
            self.error = error
            named = "" if isinstance(error, S2LError) else f"{type(error).__name__}: "
            self.report(f"The round ended with an error. {named}{error}", -1.0)
