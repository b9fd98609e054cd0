"""Files that are whole or not there at all, and folders on which one process works at a time."""

import errno
import glob
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from s2l_core.config import S2LError, digest

if TYPE_CHECKING:  # planning a batch needs no pandas
    import pandas as pd

# What the system says of a full disk or a folder that may not be written; anything else is a fault
# of ours.
UNWRITABLE = {
    errno.ENOSPC,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}
UNWRITABLE.add(getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quota


def write_atomically(file: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file beside `file`, syncs it and renames it; a failure leaves
    nothing behind.

    Raises:
        S2LError: the disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    new_folder = not file.parent.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        prefix, suffix = _around(file)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=prefix, suffix=suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)

        # Content first, then the name: after a power cut the file is the old one or the new one.
        _sync(temporary)
        temporary.chmod(0o644)
        temporary.replace(file)
        _sync(file.parent)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        reason = f"{file.name} cannot be written there ({error.strerror})"
        raise S2LError(
            f"{file.parent}: {reason}. Make room or give access, then run it again."
        ) from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)
        if new_folder and not file.exists():
            with suppress(OSError):  # it holds something else by now
                file.parent.rmdir()


def remove_leftovers(file: Path) -> None:
    """Removes what a kill in the middle of `write_atomically` left beside `file`. Only who knows
    that nobody else writes `file` may call it.
    """
    prefix, suffix = _around(file)
    for temporary in file.parent.glob(f"{glob.escape(prefix)}????????{glob.escape(suffix)}"):
        temporary.unlink(missing_ok=True)


def _around(file: Path) -> tuple[str, str]:
    """What the name of a temporary file for `file` begins and ends with; `tempfile` puts eight
    characters between.
    """
    return f".{file.stem[:40]}-", f".tmp{file.suffix}"


def _sync(path: Path) -> None:
    """Forces a file, or a folder's list of names, onto the disk."""
    if (
        os.name == "nt" and path.is_dir()
    ):  # Windows opens no folders, and keeps their names by itself
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(file: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    write_atomically(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(file: Path, value: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    write_text(file, json.dumps(value, indent=1) + "\n")


def write_csv(file: Path, table: "pd.DataFrame") -> None:
    """Writes a table without its index, whole or not at all."""
    write_atomically(file, lambda temporary: table.to_csv(temporary, index=False))


@contextmanager
def alone(path: Path, *, across_machines: bool = True) -> Iterator[None]:
    """Inside, nobody else works on this file or folder; another process at work on it is waited
    for.

    The lock dies with its process, so a killed one never blocks the next. Where the file system has
    no locks, or nothing can be written, there is no protection: the first to write there says what
    is wrong.

    Args:
        path: of the file or folder.
        across_machines: the lock lies beside it, where a cluster's other nodes see it; False: among
            this machine's temporary files, so that a person's folder stays free of it.
    """
    place = path.parent / f".{path.name}.lock"
    if not across_machines:
        place = Path(tempfile.gettempdir()) / f"s2l-{digest(str(path.resolve()), 16)}.lock"
    lock = FileLock(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(
                f"{path.name}: another process is working on it; waiting until it ends", flush=True
            )
            lock.acquire()
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()
