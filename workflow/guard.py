"""What keeps two batches apart, and what is said when one did not end well."""

import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from s2l_core.config import S2LError

ROOM = 100 * 2**20  # bytes; less is named among the reasons
TELLING = re.compile(r"[Ee]rror: |stopped after step")  # of a log, the lines that say why it ends
ANSI_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LEAST = 2**20  # bytes without which nothing is begun
HELD: list[FileLock] = []  # locks that this process holds until it ends


def need_room(folder: Path) -> None:
    """Refuses to begin where not even Snakemake's own notes have room.

    Raises:
        S2LError: the disk is full.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if shutil.disk_usage(place).free < LEAST:
        raise S2LError(
            f"{place}: no space left on this disk, so nothing was begun. Make room, then run it"
            " again."
        )


def refuse_braces(folder: Path) -> None:
    """Refuses a folder whose name Snakemake takes for a pattern with something to fill in.

    Raises:
        S2LError: there are braces in its path.
    """
    if set("{}") & set(str(folder)):
        raise S2LError(
            f"{folder}: Snakemake cannot work in a folder with braces in its name, so nothing was "
            "begun. Rename it, or set S2L_HOME to a folder without."
        )


def refuse_quotes(*folders: Path) -> None:
    """Refuses folders whose names Snakemake does not pass on to a cluster as one word.

    It writes a path as Python would, in quotes of the one kind or the other, and a shell reads it.

    Raises:
        S2LError: a shell would read another name.
    """
    for folder in folders:
        name = str(folder)
        if any(mark in name for mark in "'\\\n") and any(mark in name for mark in '$`"\\\n'):
            raise S2LError(
                f"{folder}: Snakemake cannot hand this name to a cluster as one word, so nothing "
                "was begun. Leave out quotes, $, ` or \\ in it."
            )


def claim(file: Path, names: Iterable[str]) -> None:
    """Marks runs as being made until this process ends, however it ends:
    no lock is ever left behind.

    Each run has a lock of its own beside `file`,
    so batches that share no run may go on side by side.

    Raises:
        S2LError: another batch makes one of them, or nothing can be written there;
            nothing was begun.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    except OSError as error:
        reason = f"nothing can be written there ({error.strerror}), so nothing was begun"
        raise S2LError(
            f"{file.parent}: {reason}. Make room or give access, then run it again."
        ) from error
    for name in sorted(names):
        lock = FileLock(file.parent / f".{name}.lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            while HELD:
                HELD.pop().release()
            raise S2LError(
                f"{name}: another `make` is at work on it, so nothing was begun. Wait until that"
                " one ends, or name runs that it does not make (DATASETS, FOLDS, METHODS, SEEDS)."
            ) from None
        except (OSError, NotImplementedError) as error:
            print(f"{file}: no locks there ({error}). Start one batch at a time.", file=sys.stderr)
            break
        HELD.append(lock)


def told(undone: Iterable[str], logs: Path, claimed: Path) -> str:
    """What did not get done, and where its log is;
    a log older than the claim belongs to an earlier batch.
    """
    failed, waiting, began = [], [], claimed.stat().st_mtime
    for name in undone:
        log = logs / f"{name}.log"
        if log.exists() and log.stat().st_mtime >= began:
            words = ANSI_COLOURS.sub("", log.read_text(errors="replace"))
            lines = [line.strip() for line in words.splitlines() if line.strip()]
            telling = (
                [line for line in lines if TELLING.search(line)] or lines or ["nothing was said"]
            )
            failed.append(f"  {name}: {telling[-1][:300]}\n    log: {log}")
        else:
            waiting.append(f"  {name}")
    text = [f"Not finished: {len(failed)}" + (":" if failed else "."), *failed]
    if waiting:
        text += [f"Not begun, or waiting for one of these: {len(waiting)}:", *waiting]
    free = shutil.disk_usage(logs).free
    if free < ROOM:
        text.append(f"{logs}: {free / 2**20:.1f} MiB are free. Make room first.")
    return "\n".join([*text, "All else is done and kept. The same command goes on from here."])
