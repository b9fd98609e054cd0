"""What is noted while a folder is predicted, a line for each image.

An interrupted call goes on from there.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from filelock import lock_descriptor

from s2l_core.config import S2LError

JOURNAL = "predicted.jsonl"


@dataclass(frozen=True)
class Predicted:
    """The result of predicting one image.

    Attributes:
        key: hash of the model, the image and the settings that it was made with.
        nuclei: how many were found.
        dropped: how many objects were too small to be kept, or strips along the image's border.
        holes: how many holes are as large as a nucleus, and were left open.
        unsure: share of the pixels whose probability is nearer to one half than to 0 or 1.
    """

    key: str
    nuclei: int
    dropped: int
    holes: int
    unsure: float


def predictions(target: Path) -> dict[str, Predicted]:
    """What `predict_folder` noted in its target: image -> `Predicted`, the least sure image first.

    Raises:
        S2LError: another process predicts there, or the notes are damaged.
    """
    with open_journal(target / JOURNAL) as (done, _):
        return dict(sorted(done.items(), key=lambda entry: (-entry[1].unsure, entry[0])))


@contextmanager
def open_journal(file: Path) -> Iterator[tuple[dict[str, Predicted], Callable]]:
    """What was noted in a file before, and a function that notes more.

    A line cut short by a kill counts as none.
    """
    with file.open("a+", encoding="utf-8") as stream:
        if not lock_descriptor(stream.fileno(), blocking=False):
            raise S2LError(
                f"{file}: another process predicts here. Wait for it, or choose another target."
            )

        # Names are written as ASCII, so that those that are no UTF-8 survive as well.
        stream.seek(0)
        try:
            text = stream.read()
            whole = text[: text.rfind("\n") + 1]
            done = dict(map(_noted, whole.splitlines()))
        except (ValueError, TypeError, RecursionError) as error:
            raise S2LError(
                f"{file}: not a journal that was written here ({error!r:.100}). Delete it and "
                "begin anew."
            ) from error
        stream.truncate(len(whole.encode()))

        def note(name: str, predicted: Predicted) -> None:
            stream.write(json.dumps([name, *astuple(predicted)]) + "\n")
            stream.flush()
            done[name] = predicted

        yield done, note


def _noted(line: str) -> tuple[str, Predicted]:
    """One line of the journal; one of an older version, a name and a key only, matches no key."""
    name, key, *counts = json.loads(line)
    if not counts:
        return name, Predicted("", 0, 0, 0, 0.0)
    *numbers, unsure = counts
    found, dropped, holes = map(int, numbers)
    return name, Predicted(str(key), found, dropped, holes, float(unsure))
