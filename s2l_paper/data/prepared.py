"""The prepared store: pixels and nuclei of an archive, decoded once and mapped ever after."""

import contextlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from s2l_core.config import S2LError, digest
from s2l_core.images import CellImage
from s2l_paper import paths
from s2l_paper.data.archives import Source, read_bbbc038, read_monuseg
from s2l_paper.data.sources import ARCHIVES, COUNTS, locate
from s2l_paper.data.splits import paper_ids

# Raised whenever the same archive may give other pixels: prepared stores are then made anew.
STORE_VERSION = 1


def prepared(name: str, root: Path, ids: Sequence[str] | None) -> list[CellImage]:
    """Images of one part, from its prepared store; the store is made where it is missing, stale or
    damaged.
    """
    path, archive = locate(name, root), ARCHIVES[name]
    if path is None:
        missing = f"{name}: found no {archive.file} in {root / archive.folder}"
        raise S2LError(f"{missing}; `make data` fetches it. Or by hand: {archive.by_hand(root)}")

    with contextlib.closing(Source(path)) as source:
        wanted = paper_ids(name) if archive.folder == "monuseg" else []
        key = digest([STORE_VERSION, name, wanted, source.entries], 64)
        folder = paths.prepared_data() / name
        try:
            return _open_store(folder, key, ids)
        except (OSError, ValueError, KeyError, TypeError) as reason:
            why = "first use"
            if folder.exists():
                why = f"the prepared copy is not usable ({reason}); making it anew"
        print(f"{name}: {why}, reading {path}", flush=True)
        cells = read_monuseg(source, wanted) if wanted else read_bbbc038(source, name)
        _write_store(folder, name, cells, key)
    return _open_store(folder, key, ids)


def _write_store(folder: Path, name: str, cells: Iterable[CellImage], key: str) -> None:
    """Writes pixels of all images one after another, then moves the finished folder into place."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        temporary.chmod(0o755)

        # One file for all pixels and one for all instances; the index tells where an image lies.
        records = []
        with (
            open(temporary / "images.u8", "wb") as images,
            open(temporary / "instances.i32", "wb") as instances,
        ):
            for cell in cells:
                data = cell.image.tobytes(), cell.instances.tobytes()
                checksums = [zlib.crc32(plane) for plane in data]
                about = {"id": cell.id, "shape": cell.instances.shape, "crc": checksums}
                records.append(about)
                images.write(data[0])
                instances.write(data[1])

        if len(records) != COUNTS[name]:
            raise S2LError(
                f"{name}: found {len(records)} images, expected {COUNTS[name]}. Get the archive"
                " again."
            )
        index = {"source": key, "images": records, "check": digest([key, records], 16)}
        (temporary / "index.json").write_text(json.dumps(index))

        # The old store makes way only now that the new one is whole.
        if folder.exists():
            folder.replace(temporary.with_suffix(".old"))
        with contextlib.suppress(OSError):  # another process was faster: its store is as good
            temporary.replace(folder)
    except OSError as error:
        raise S2LError(
            f"{folder}: cannot be written ({error}). Free some space or set S2L_HOME elsewhere."
        ) from error
    finally:
        if temporary:
            for leftover in (temporary, temporary.with_suffix(".old")):
                shutil.rmtree(leftover, ignore_errors=True)


def _open_store(folder: Path, key: str, ids: Sequence[str] | None) -> list[CellImage]:
    """Read-only views of the images asked for; any error means that the store is missing, stale or
    damaged.
    """
    index = json.loads((folder / "index.json").read_text())
    if index["source"] != key:
        raise S2LError("its source has changed")
    if index["check"] != digest([key, index["images"]], 16):
        raise S2LError("its index is damaged")

    planes = [
        np.memmap(folder / "images.u8", np.uint8, "r"),
        np.memmap(folder / "instances.i32", np.int32, "r"),
    ]

    cells, start = [], 0  # the pixel at which an image begins
    for record in index["images"]:
        rows, columns = record["shape"]
        size = rows * columns
        image = planes[0][3 * start : 3 * (start + size)].reshape(rows, columns, 3).view(np.ndarray)
        instances = planes[1][start : start + size].reshape(rows, columns).view(np.ndarray)
        start += size
        if ids is None or record["id"] in ids:
            if [zlib.crc32(image), zlib.crc32(instances)] != record["crc"]:
                raise S2LError(f"checksum of {record['id']} differs")
            cells.append(CellImage(record["id"], image, instances))
    return cells
