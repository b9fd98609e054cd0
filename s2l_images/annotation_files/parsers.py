"""Files of other programs, taken apart: ImageJ ROIs, QuPath GeoJSON, Aperio XML -> items, see
`items.Item`.
"""

from pathlib import Path

from s2l_core.config import S2LError
from s2l_images.annotation_files.aperio import read_aperio
from s2l_images.annotation_files.geojson import read_geojson
from s2l_images.annotation_files.imagej import read_rois
from s2l_images.annotation_files.items import MAX_BYTES, MAX_PARTS, MAX_POINTS, Item, OtherProgram
from s2l_images.faults import Fault


def items(path: Path) -> list[Item]:
    """All items of a file, in its order.

    Raises:
        Fault: a file of a program that is not read.
        S2LError: damaged, or beyond the limits.
    """
    reader = ITEMS.get(path.suffix.lower())
    if reader is None:
        raise S2LError(
            f"unknown format; expected one of {', '.join(ITEMS)}. Export it as one of these."
        )

    # Limits hold while a file is read, so that none can fill the memory.
    size = size_of(path)
    if size > MAX_BYTES:
        raise S2LError(
            f"{size} bytes; at most {MAX_BYTES} are read. Export fewer objects, or set S2L_LIMITS."
        )

    found, points, parts = [], 0, 0
    try:
        for item in reader(path.read_bytes(), path):
            points += sum(len(ring) for part in item.parts for ring in part)
            parts += sum(map(len, item.parts))
            if points >= MAX_POINTS or parts > MAX_PARTS:
                raise S2LError(
                    f"{MAX_POINTS} points or more, or over {MAX_PARTS} outlines. Export fewer "
                    "objects, or set S2L_LIMITS."
                )
            found.append(item)
    except OtherProgram as error:
        raise Fault("other-program", path, error.found) from error
    return found


def size_of(path: Path) -> int:
    """Bytes of a file; what has no end, as a pipe or a device, is none."""
    if path.exists() and not path.is_file():
        raise S2LError("this is not a file. Export it again.")
    return path.stat().st_size


ITEMS = {
    ".roi": read_rois, ".zip": read_rois, ".geojson": read_geojson, ".json": read_geojson,
    ".xml": read_aperio,
}  # fmt: skip
