"""SIGINT and SIGTERM, noted until a moment at which obeying them loses nothing."""

import signal
import threading
from collections.abc import Callable
from typing import Any


class Stopped(BaseException):
    """Raised by `Signals.check` once a signal was noted; no `except Exception` swallows it."""


class Signals:
    """A context in which SIGTERM and the first SIGINT are noted only; a second SIGINT acts at once.

    A second SIGTERM does not: Slurm sends two in a row to a job that is out of time. SIGKILL
    remains for the impatient. Outside the main thread, where Python handles no signals, it notes
    none.

    Args:
        on_signal: called with the number of each signal that is noted.
    """

    def __init__(self, on_signal: Callable[[int], object] = lambda number: None):
        self.number, self.on_signal = 0, on_signal
        self._usual: dict[int, Any] = {}  # signal -> the handler before

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._usual[number] = signal.signal(number, self._note) or signal.SIG_DFL
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    def _note(self, number, frame) -> None:
        if number == signal.SIGINT:
            signal.signal(number, self._usual[number])
        self.number = self.number or number
        self.on_signal(number)

    def check(self) -> None:
        """Raises `Stopped` if a signal was noted."""
        if self.number:
            raise Stopped

    def obey(self) -> None:
        """Does what was put off: KeyboardInterrupt, or an exit with 128 + SIGTERM, as schedulers
        read it.
        """
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        if self.number:
            raise SystemExit(128 + self.number) from None
