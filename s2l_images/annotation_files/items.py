"""What was drawn in another program: items, the planes they lie on, and the limits of what is read.

Files may come from anybody: whatever they hold, reading takes seconds and less than a gigabyte, and
fails with nothing but S2LError. The environment variable S2L_LIMITS allows more.
"""

import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from s2l_core.config import S2LError
from s2l_images.faults import Fault, plainly

INSTANCE = "cell {}"  # what our writers call an instance
STROKE_WIDTH = "stroke_width"  # where GeoJSON and Aperio XML, which know no width, carry it


def _most(usual: int) -> int:
    """A limit on what files of others may hold, times the environment variable S2L_LIMITS."""
    text = os.environ.get("S2L_LIMITS") or "1"
    if not re.fullmatch(r"\d{0,5}\.?\d{1,5}", text):
        raise S2LError(
            f"S2L_LIMITS = {text!r}: expected a factor such as 4. Unset it, and start Python anew."
        )
    return int(usual * float(text))


MAX_BYTES = _most(32 * 2**20)  # of a file, and of what an archive unpacks to
MAX_POINTS = _most(1_000_000)
MAX_PARTS = _most(50_000)  # lines, rings, members of an archive
MAX_ELEMENTS = _most(400_000)  # of XML; the official files of MoNuSeg hold up to 112,000
MAX_PATH = _most(1_000_000)  # numbers in a composite ROI
MAX_PIXELS = _most(2**25)  # of an image; 8 bytes a pixel at most, also in its file
MAX_WIDTH, MAX_COORDINATE = 256, 1e9  # pixels
# What to do with a program whose outlines are not read.
SAVE_MASKS = "save its masks as label images, PNG or TIFF, instead"


class OtherProgram(S2LError):
    """Annotations of a program whose files are not read: never the same as no annotation."""

    def __init__(self, found: str, remedy: str):
        self.found = f"{found}, which is not read ({remedy})"
        super().__init__(f"{self.found}.")


@dataclass(frozen=True)
class Item:
    """One drawn thing: an area or lines.

    Attributes:
        name: what messages call it.
        texts: whatever may tell its class: name, group, classification, layer, attributes.
        area: whether it is filled.
        parts: of an area its polygons, each a list of rings that are filled by the even-odd rule;
            else its lines, each alone in a list (a line of one point is a disc). Rings and lines
            are (N, 2) arrays of row, column, counted from the centre of the first pixel. No part at
            all: a feature without a geometry.
        width: of a line, in pixels; None where the file gives none.
        kind: `annotation`, or in QuPath `detection`, `cell` (its outer outline), `nucleus` (of a
            cell), `tile`, `tma core`.
        plane: numbers, counted from 1, of the planes of a stack that it lies on: `slice`, `c`, `z`
            or `t`. Empty: all.
    """

    name: str
    texts: tuple[str, ...]
    area: bool
    parts: list[list[np.ndarray]]
    width: float | None = None
    kind: str = "annotation"
    plane: Mapping[str, int] = field(default_factory=dict)

    @property
    def points(self) -> np.ndarray:
        """All its points (N, 2)."""
        return np.concatenate([points for part in self.parts for points in part])


def new_item(
    name: str,
    texts: Sequence[str],
    area: bool,
    parts: Sequence,
    *,
    width: float | None = None,
    corner: float = 0.0,
    kind: str = "annotation",
    plane: Mapping[str, int] | None = None,
) -> Item:
    """An item from parts in (x, y), checked.

    Args:
        name: see `Item`, as all others.
        texts: empty ones are left out.
        area: see `Item`.
        parts: lists of rings or lines, each a sequence of (x, y) or (x, y, z).
        width: see `Item`.
        corner: where the program that drew it puts the centre of the first pixel: 0 or 0.5.
        kind: see `Item`.
        plane: see `Item`.

    Raises:
        S2LError: too many parts, coordinates that are no finite numbers, or a width that no brush
            has.
    """
    if sum(map(len, parts)) > MAX_PARTS:
        raise S2LError(f"more than {MAX_PARTS} outlines. Export fewer objects.")
    arrays = [[np.array(points, float) for points in part] for part in parts]
    for array in (array for part in arrays for array in part):
        if array.ndim != 2 or not len(array) or array.shape[1] not in (2, 3):
            raise S2LError(f"coordinates of shape {array.shape}; expected (N, 2). Draw it again.")
        if not (np.abs(array[:, :2]) < MAX_COORDINATE).all():
            raise S2LError(
                f"its coordinates are not all numbers below {MAX_COORDINATE:g}. Draw it again."
            )
    if width is not None and not 0 < width <= MAX_WIDTH:
        raise S2LError(
            f"width {width}; expected up to {MAX_WIDTH} pixels. Change its stroke width."
        )
    arrays = [[points[:, 1::-1] - corner for points in part] for part in arrays]  # (row, column)
    texts = tuple(text for text in texts if text)
    return Item(name, texts, area, arrays, width, kind, dict(plane or {}))


@contextmanager
def errors_named(where: object) -> Iterator[None]:
    """Whatever a parser stumbles over becomes one S2LError that says where: no list of their
    exceptions is complete.
    """
    try:
        yield
    except Fault:  # which knows its file
        raise
    except S2LError as error:
        raise S2LError(f"{where}: {error}") from error
    except Exception as error:
        raise S2LError(
            f"{where}: cannot be read: {plainly(error)}. Is it damaged? Export it again."
        ) from error


def members(data: bytes, suffix: str, limit: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of the members of an archive, `limit` bytes in all."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or entry.filename.startswith("__MACOSX/"):
                continue
            known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not known or not entry.filename.lower().endswith(suffix):
                raise S2LError(
                    f"holds {entry.filename!r:.80}; expected {suffix} files only, deflated. Zip "
                    "it again."
                )
            with archive.open(entry) as stream:
                content = stream.read(limit + 1)  # what the archive says of its size may be wrong
            limit -= len(content)
            if limit < 0:
                raise S2LError("unpacks to more than is read. Export fewer objects.")
            yield Path(entry.filename).stem, content
