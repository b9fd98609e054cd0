"""Checkpoints of a training: whole or not there at all, two generations of them, checked before they are used."""

import fcntl
import os
import re
import time
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from s2l_core import results
from s2l_core.config import METHODS, RunConfig, S2LError
from s2l_core.signals import Signals, Stopped

NAMES = ("checkpoint.pt", "checkpoint.previous.pt")  # newest first
SECONDS = "S2L_CHECKPOINT_SECONDS"  # environment variable: the most training time that a cut can cost


def interval() -> float:
    """Seconds between two checkpoints: two minutes, unless the environment says otherwise."""
    text = os.environ.get(SECONDS, "120")
    try:
        return float(text)
    except ValueError:
        raise S2LError(f"{SECONDS} = {text!r}: expected a number of seconds. Change or unset it.") from None


def exist(folder: Path) -> bool:
    """True where a training was begun and not finished."""
    return any((folder / name).exists() for name in NAMES)


def prepare(folder: Path) -> None:
    """Makes the folder and removes what a killed writer left there.

    Raises:
        S2LError: nothing can be written there; said before hours of training, not after.
    """
    results.write_text(folder / ".writable.tmp.txt", "")
    clear(folder, names=())


def clear(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    """Removes checkpoints (of a finished run: 300 MB) and unfinished files; a notebook's is alive while it runs."""
    unfinished = [file for file in folder.rglob(".*.tmp.*") if file.suffix != ".ipynb"]
    for file in [folder / name for name in names] + unfinished:
        file.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path):
    """Inside, nobody else works on this run: what a killed batch left at work on it is waited for, its end used."""
    with ExitStack() as stack:
        with suppress(OSError):  # no place for a folder: the first to write there says so; no locks: as before
            folder.mkdir(parents=True, exist_ok=True)
            stack.callback(os.close, handle := os.open(folder, os.O_RDONLY))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{folder.name}: another process is at work on it; waiting for its end", flush=True)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write(folder: Path, state: dict) -> None:
    """Writes a checkpoint and keeps the one before; killed at any moment, one of the two is whole."""
    newest, previous = (folder / name for name in NAMES)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            try:
                torch.save(state, stream)
            except RuntimeError as error:  # closing its archive, torch hides why it could not be written
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        if newest.exists():
            newest.replace(previous)

    results.write_atomically(newest, fill)


def read(folder: Path) -> dict:
    """The newest checkpoint that is whole, on the CPU; says so where that is the one before.

    Raises:
        S2LError: there is none; what is wrong with each is named.
    """
    faults = []
    for name in NAMES:
        try:
            state = _read(folder / name)
        except FileNotFoundError:
            continue
        except Exception as error:  # zip, pickle and torch have errors of their own for damage
            faults.append(f"{name} is damaged ({' '.join(str(error).split())[:200]})")
        else:
            if faults:
                print(f"{folder.name}: {faults[0]}, so {name} is used", flush=True)
            return state
    raise S2LError(f"{folder}: no readable checkpoint: {'; '.join(faults) or 'none there'}. Delete it and run again.")


def _read(file: Path) -> dict:
    with zipfile.ZipFile(file) as archive:  # torch writes a checksum of every tensor and never looks at it
        # an attribute makes a folder of a tensor: torch would leave its memory as it found it; it compresses nothing
        odd = [entry.filename for entry in archive.infolist() if entry.external_attr or entry.compress_type]
        if damaged := next(iter(odd), None) or archive.testzip():
            raise ValueError(f"the checksum of {damaged} differs")
    return torch.load(file, map_location="cpu", weights_only=True)


class Resumable:
    """The state of a training that can be cut at any moment, and the pauses at which that state is whole.

    Whoever inherits it brings `model`, `optimiser`, `pseudo` and `fork`.

    Args:
        config: of the run.
        folder: where its checkpoints go; None writes none.
    """

    def __init__(self, config: RunConfig, folder: Path | None):
        self.config, self.folder, self.method = config, folder, METHODS[config.method]
        self.step, self.history, self.best = 0, [], {"iou": -1.0, "step": -1, "weights": {}}
        self.row: dict = {}  # of a step whose averages or validation are still to come
        self.spent, self.signals = {"warm-up": 0.0, "main": 0.0}, Signals()
        self._ticked = self._saved = time.monotonic()

    @property
    def stage(self) -> str:
        """`warm-up` or `main`: where the step under way belongs."""
        return "warm-up" if self.step - bool(self.row) < self.config.warmup_steps else "main"

    def weights(self, which: str) -> dict[str, Tensor]:
        """State of the `best` or `last` model; without validation images the best is the last."""
        return self.best["weights"] if which == "best" and self.best["weights"] else self.model.state_dict()

    def seconds(self) -> dict[str, float]:
        """Wall time of the run over all its resumes, and apart from it that of the warm-up it shares."""
        self.tick()
        shared = self.spent["warm-up"] if self.method.forks else 0.0
        return {"seconds": sum(self.spent.values()) - shared, "warmup_seconds": shared}

    def tick(self) -> None:
        """Books the time since the last tick on the stage under way."""
        now = time.monotonic()
        self.spent[self.stage] += now - self._ticked
        self._ticked = now

    def pause(self) -> None:
        """A moment at which the state is whole: stops where that was asked for, writes a checkpoint where one is due.

        Raises:
            Stopped: a signal came.
        """
        self.signals.check()
        if self.folder and time.monotonic() - self._saved > interval():
            self.save()

    @contextmanager
    def kept(self):
        """Inside, a signal stops the run at its next pause, with a checkpoint; a lack of memory is explained."""
        if self.folder:
            prepare(self.folder)
        with Signals() as self.signals:
            try:
                yield
            except Stopped:
                self._stop()
            except (MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not re.search("out of memory|allocate memory", str(error)):
                    raise
                raise S2LError(
                    f"step {self.step}: out of memory ({str(error)[:200]}). Lower batch ({self.config.batch}), crop "
                    f"({self.config.crop}) or max_regions ({self.config.max_regions}), or run fewer jobs at a time. "
                    "Whole images are predicted in tiles: lower `tile` of `predict`."
                ) from error
        self.signals.obey()

    def _stop(self) -> None:
        if self.folder:
            self.save()
            if self.stage == "main":
                results.save_model(self.folder, self.weights("best"), self.config)
            print(f"{self.folder.name}: stopped after step {self.step}; run it again to go on from there.", flush=True)

    def save(self) -> None:
        """Writes a checkpoint: all that decides how the run goes on.

        Raises:
            S2LError: a weight is not finite; the checkpoint before stays.
        """
        self.tick()
        state = {
            "config": self.config.to_dict(),
            "step": self.step,
            "row": self.row,
            "forked": len(self.model.heads) > 0,
            "model": results.finite(self.model.state_dict(), f"step {self.step}"),
            "optimiser": self.optimiser.state_dict(),
            "pseudo": self.pseudo.state_dict(),
            "history": self.history,
            "best": self.best,
            "spent": self.spent,
        }
        write(self.folder, state)
        self._saved = time.monotonic()

    def restore(self, folder: Path) -> None:
        """Goes on from the newest whole checkpoint of this run, or of its complete warm-up.

        Raises:
            S2LError: there is none, or it belongs to another configuration; each field that differs is named.
        """
        state = read(folder)
        try:
            self._take(folder, state)
        except S2LError:
            raise
        except Exception as error:
            raise S2LError(f"{folder}: the checkpoint is not ours ({error!r:.200}). Delete it, run again.") from error
        print(f"{folder.name}: going on from step {self.step} of {self.config.total_steps}", flush=True)

    def _take(self, folder: Path, state: dict) -> None:
        saved, mine = RunConfig.from_dict(state["config"]), self.config
        if saved != mine and (saved != mine.warmup() or state["step"] != mine.warmup_steps):
            theirs, ours = saved.to_dict(), mine.to_dict()
            differ = [
                f"{name} ({theirs[name]} there, {ours[name]} here)" for name in ours if ours[name] != theirs[name]
            ]
            raise S2LError(f"{folder}: made with another configuration: {', '.join(differ)}. Delete it or change back.")
        if state["forked"]:
            self.fork()
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.pseudo.load_state_dict(state["pseudo"])
        self.step, self.history, self.best = state["step"], state["history"], state["best"]
        self.row, self.spent = state.get("row", {}), state.get("spent", self.spent)  # the first version had neither
