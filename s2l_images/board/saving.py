"""Strokes from the page to the disk: checked, merged with what another notebook drew, and written.

The widget calls `save` after every stroke. The file is whole at any time, and two notebooks on one
folder lose nothing of each other.
"""

import threading
from pathlib import Path

from s2l_core.config import S2LError
from s2l_images.files import alone
from s2l_images.strokes import UNIT, Stroke, decode, read_strokes, write_strokes

# Of an image's strokes: nobody draws more points, and a wider brush (in pixels) is a mistake.
MOST_POINTS, WIDEST_BRUSH = 10**6, 256

# Jupyter may hand us a stroke in a thread of its own, while a cell is running.
SAVING = threading.Lock()


def save(
    file: Path, image: str, drawn: list[Stroke], known: list[Stroke]
) -> dict[str, list[Stroke]]:
    """Writes the strokes of an image; those of other images in the file stay.

    Args:
        file: JSON of `write_strokes`; its folder is made where it is missing.
        image: its id.
        drawn: what the page shows now.
        known: what the page had seen before it drew.

    Returns:
        image id -> strokes, all that the file holds now.

    Raises:
        S2LError: the file cannot be read or written. It is as it was.
    """
    try:
        with SAVING, alone(file, across_machines=False):
            on_disk = {}
            if file.exists():
                on_disk = read_strokes(file)
            else:
                known = []  # who deleted the file erased no stroke of this page

            # Another notebook may have drawn on the same image: its strokes are kept.
            merged = _merge(on_disk.get(image, []), known, drawn)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_strokes(file, on_disk | {image: merged}, {"annotator": "hand"})
    except OSError as error:
        raise S2LError(f"{file} cannot be written ({error}). Make room.") from error
    return on_disk | {image: merged}


def from_page(rows: list, image: str) -> list[Stroke]:
    """Strokes from the browser's rows of whole numbers, as they stand in the file."""
    whole = isinstance(rows, list) and all(type(value) is int for row in rows for value in row)
    if not whole or any(len(row) < 3 or len(row) % 2 == 0 or not row[0] for row in rows):
        raise S2LError(
            f"the strokes of {image} did not arrive as rows of whole numbers. Reload the page."
        )
    too_wide = any(abs(row[0]) * UNIT > WIDEST_BRUSH for row in rows)
    if too_wide or sum(map(len, rows)) > 2 * MOST_POINTS:
        raise S2LError(
            f"{image}: more than {MOST_POINTS:,} points or a brush over {WIDEST_BRUSH} px. "
            "Erase some strokes."
        )
    return [decode(row) for row in rows]


def _merge(on_disk: list[Stroke], known: list[Stroke], drawn: list[Stroke]) -> list[Stroke]:
    """The strokes of an image, where two pages or notebooks may have drawn on it.

    Args:
        on_disk: what is there now.
        known: what the page had seen there before.
        drawn: what the page shows now: it drew what is not in `known`, and erased what is missing
            from it.

    Returns:
        `drawn` as it is where nobody else drew; else what is on disk without what was erased, then
        what was drawn.
    """
    if on_disk in (known, drawn):
        return drawn
    erased = set(known) - set(drawn)
    kept = [stroke for stroke in on_disk if stroke not in erased]
    there = set(kept) | set(known)
    return kept + [stroke for stroke in drawn if stroke not in there]
