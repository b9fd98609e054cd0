"""Checkpoints of a training: whole or not there at all, two generations of them, checked before
they are used.
"""

import json
import os
import re
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from s2l_core.config import RunConfig, S2LError
from s2l_images.files import write_atomically, write_text
from s2l_images.signals import Signals, Stopped

if TYPE_CHECKING:
    from s2l_core.trainer import Trainer

NAMES = ("checkpoint.pt", "checkpoint.previous.pt")  # newest first

# Environment variable: the most training time that a cut can cost, in seconds.
SECONDS = "S2L_CHECKPOINT_SECONDS"


@contextmanager
def kept(
    trainer: "Trainer", folder: Path | None, stop: threading.Event | None = None
) -> Iterator[None]:
    """Inside, a signal stops the training at its next pause, with a checkpoint; others are written
    as time passes.

    Args:
        trainer: its `on_pause` is replaced inside, and restored afterwards.
        folder: where checkpoints go; None: a signal still stops the training, but nothing is
            written.
        stop: once it is set, that counts as SIGINT, which reaches the main thread only.

    Raises:
        S2LError: nothing can be written there, said before hours of training; or memory ran out.
        KeyboardInterrupt, SystemExit: on SIGINT or SIGTERM, after the checkpoint.
    """
    if folder:
        prepare(folder)
    saved = time.monotonic()

    def pause() -> None:
        nonlocal saved
        if stop is not None and stop.is_set():
            signals.number = signal.SIGINT
        signals.check()
        if folder and time.monotonic() - saved > interval():
            save(trainer, folder)
            saved = time.monotonic()

    with Signals() as signals:
        trainer.on_pause = pause
        try:
            yield
        except Stopped:
            if folder:
                save(trainer, folder)
                said = f"stopped after step {trainer.step}; run it again to go on from there."
                if stop is None:  # else who stopped it says so
                    print(f"{folder.name}: {said}", flush=True)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not re.search(
                "out of memory|allocate memory", str(error)
            ):
                raise
            raise S2LError(_out_of_memory(trainer, error)) from error
        finally:
            trainer.on_pause = lambda: None
    signals.obey()


def _out_of_memory(trainer: "Trainer", error: BaseException) -> str:
    config = trainer.config
    return (
        f"step {trainer.step}: out of memory ({str(error)[:200]}). Lower batch ({config.batch}), "
        f"crop ({config.crop}) or max_regions ({config.max_regions}), or run fewer jobs at a time. "
        "Whole images are predicted in tiles: lower `tile` of `predict`."
    )


def interval() -> float:
    """Seconds between two checkpoints: two minutes, unless the environment says otherwise."""
    text = os.environ.get(SECONDS, "120")
    try:
        return float(text)
    except ValueError:
        raise S2LError(
            f"{SECONDS} = {text!r}: expected a number of seconds. Change or unset it."
        ) from None


def save(trainer: "Trainer", folder: Path) -> None:
    """Writes a checkpoint: the configuration, and all that decides how the training goes on.

    Raises:
        S2LError: a weight is not finite; the checkpoint before stays.
    """
    state = trainer.state_dict()
    finite(state["model"], f"step {trainer.step}")
    write(folder, {"config": trainer.config.to_dict()} | state)


def restore(trainer: "Trainer", folder: Path) -> None:
    """Goes on from the newest whole checkpoint of this run, or of its complete warm-up.

    Raises:
        S2LError: there is none, or it belongs to another configuration; each field that differs is
            named.
    """
    state, mine = read(folder), trainer.config
    try:
        saved = _configuration(folder, state.pop("config"))
        from_warmup = saved == mine.warmup() and state["step"] == mine.warmup_steps
        if saved != mine and not from_warmup:
            differ = ", ".join(_differences(saved, mine))
            raise S2LError(
                f"{folder}: made with another configuration: {differ}. Delete it, or change the "
                "configuration back."
            )
        trainer.load_state_dict(state)
    except S2LError:
        raise
    except Exception as error:  # whatever a file of somebody else's lacks
        raise S2LError(
            f"{folder}: the checkpoint was not written here ({error!r:.200}). Delete it "
            "and run again."
        ) from error
    print(f"{folder.name}: going on from step {trainer.step} of {mine.total_steps}", flush=True)


def _configuration(folder: Path, values: dict[str, Any]) -> RunConfig:
    """The configuration of a checkpoint.

    Raises:
        S2LError: it has fields or values that this version does not know.
    """
    try:
        return RunConfig.from_dict(values)
    except S2LError as error:
        raise S2LError(
            f"{folder}: the checkpoint was written by another version ({error}) Delete it and run "
            "again."
        ) from error


def _differences(theirs: RunConfig, ours: RunConfig) -> list[str]:
    """`field (theirs there, ours here)` for each field in which two configurations differ."""
    there, here = theirs.to_dict(), ours.to_dict()
    return [
        f"{name} ({there[name]} there, {here[name]} here)"
        for name in here
        if here[name] != there[name]
    ]


def exist(folder: Path) -> bool:
    """True where a training was begun and not finished."""
    return any((folder / name).exists() for name in NAMES)


def prepare(folder: Path) -> None:
    """Makes the folder and removes what a killed writer left there.

    Raises:
        S2LError: nothing can be written there.
    """
    write_text(folder / ".writable.tmp.txt", "")
    clear(folder, names=())


def clear(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    """Removes checkpoints (of a finished run: 300 MB) and unfinished files; a notebook's is alive
    while it runs.
    """
    unfinished = [file for file in folder.rglob(".*.tmp.*") if file.suffix != ".ipynb"]
    for file in [folder / name for name in names] + unfinished:
        file.unlink(missing_ok=True)


def write(folder: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint and keeps the one before; killed at any moment, one of the two is
    whole.
    """
    newest, previous = (folder / name for name in NAMES)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            try:
                torch.save(state, stream)
            except RuntimeError as error:
                # Closing its archive, PyTorch hides why the file could not be written.
                hidden = error.__context__
                raise (hidden if isinstance(hidden, OSError) else error) from None
        if newest.exists():
            newest.replace(previous)

    write_atomically(newest, fill)


def read(folder: Path) -> dict[str, Any]:
    """The newest checkpoint that is whole, on the CPU; says so where that is the one before.

    Raises:
        S2LError: there is none; what is wrong with each is named.
    """
    faults: list[str] = []
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
    raise S2LError(
        f"{folder}: no readable checkpoint: {'; '.join(faults) or 'none there'}. "
        "Delete it and run again."
    )


def _read(file: Path) -> dict[str, Any]:
    """A checkpoint whose checksums are right: PyTorch writes one of every tensor and reads none.

    Raises:
        ValueError: a part of the file is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        # PyTorch compresses nothing and sets no attribute. An attribute makes a folder of a tensor,
        # whose memory PyTorch would then leave as it found it.
        for entry in archive.infolist():
            if entry.external_attr or entry.compress_type:
                raise ValueError(f"{entry.filename} is not stored as PyTorch stores it")
        damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the checksum of {damaged} differs")
    return torch.load(file, map_location="cpu", weights_only=True)


def finite(weights: dict[str, Tensor], where: object) -> dict[str, Tensor]:
    """The weights as they are; S2LError where one is NaN or infinite, as after a loss whose
    gradient is.
    """
    if bad := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise S2LError(
            f"{where}: {bad[0]} is not finite ({len(bad)} of {len(weights)} tensors are not), so "
            "nothing is saved and what was saved before stays. Lower rate_encoder and "
            "rate_decoder, or look at images and scribbles."
        )
    return weights


def save_model(
    folder: Path,
    weights: dict[str, Tensor],
    config: RunConfig,
    name: str = "model.safetensors",
) -> None:
    """Writes a model as safetensors, with the configuration as metadata; S2LError where weights are
    not finite.
    """
    from safetensors.torch import save as to_bytes

    tensors = {name: tensor.contiguous() for name, tensor in finite(weights, folder).items()}
    content = to_bytes(tensors, {"config": json.dumps(config.to_dict())})
    write_atomically(folder / name, lambda temporary: temporary.write_bytes(content))
