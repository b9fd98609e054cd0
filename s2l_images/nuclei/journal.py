"""What is noted while a folder is predicted, a line for each image.

An interrupted call goes on from there.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TextIO

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


UNFINISHED = Predicted("", 0, 0, 0, 0.0)  # its files are being written, or are not this answer's


@dataclass
class Journal:
    """What was noted in a target, open for more.

    Attributes:
        done: image -> `Predicted`.
        images: the folder whose images were predicted last; None where no line tells.
    """

    stream: TextIO
    done: dict[str, Predicted] = field(default_factory=dict)
    images: Path | None = None

    def note(self, name: str, predicted: Predicted) -> None:
        """Notes the result of an image."""
        # Names are written as ASCII, so that those that are no UTF-8 survive as well.
        self._append([name, *astuple(predicted)])
        self.done[name] = predicted

    def note_images(self, folder: Path) -> None:
        """Notes whose images are predicted from here on."""
        if folder != self.images:
            self._append({"images": str(folder)})
            self.images = folder

    def _append(self, content: object) -> None:
        self.stream.write(json.dumps(content) + "\n")
        self.stream.flush()


def predictions(target: Path) -> dict[str, Predicted]:
    """What `predict_folder` noted in its target: image -> `Predicted`, the least sure image first.
    Images that were left out, or whose files are not whole, are not among them.

    Raises:
        S2LError: another process predicts there, or the notes are damaged.
    """
    with open_journal(target / JOURNAL) as journal:
        whole = {name: found for name, found in journal.done.items() if found.key}
        return dict(sorted(whole.items(), key=lambda entry: (-entry[1].unsure, entry[0])))


@contextmanager
def open_journal(file: Path) -> Iterator[Journal]:
    """What was noted in a file before, ready for more. A line cut short by a kill counts as none.

    Raises:
        S2LError: another process has it open, or it is damaged.
    """
    with file.open("a+", encoding="utf-8") as stream:
        if not lock_descriptor(stream.fileno(), blocking=False):
            raise S2LError(
                f"{file}: another process predicts here. Wait for it, or choose another target."
            )

        journal = Journal(stream)
        stream.seek(0)
        try:
            text = stream.read()
            whole = text[: text.rfind("\n") + 1]
            for line in whole.splitlines():
                content = json.loads(line)
                if isinstance(content, dict):
                    journal.images = Path(content["images"])
                else:
                    name, predicted = _noted(*content)
                    journal.done[name] = predicted
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise S2LError(
                f"{file}: not a journal that was written here ({error!r:.100}). Delete it and "
                "begin anew."
            ) from error
        stream.truncate(len(whole.encode()))
        yield journal


def _noted(name: str, key: str, *counts: float) -> tuple[str, Predicted]:
    """One line of the journal; one of an older version, a name and a key only, matches no key."""
    if not counts:
        return name, UNFINISHED
    *numbers, unsure = counts
    found, dropped, holes = map(int, numbers)
    return name, Predicted(str(key), found, dropped, holes, float(unsure))
