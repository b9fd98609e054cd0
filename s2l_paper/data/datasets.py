"""Data sets by name: official archives, embedded data, a folder of one's own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s2l_core.config import RunConfig, S2LError
from s2l_core.images import CellImage
from s2l_core.profiles import SYNTHETIC
from s2l_images.folders.folder import read_folder
from s2l_paper import paths
from s2l_paper.data.prepared import prepared
from s2l_paper.data.sources import PARTS, fetch, unknown
from s2l_paper.data.splits import Split, split_of, splits, synthetic_ids
from s2l_paper.data.synthetic import generate

__all__ = [
    "CellImage",
    "Split",
    "fetch",
    "images_of",
    "load_dataset",
    "split_of",
    "splits",
    "synthetic_ids",
]


def load_dataset(
    name: str,
    root: Path | None = None,
    ids: Sequence[str] | None = None,
    *,
    images: int = 0,
    image_size: int = 0,
) -> list[CellImage]:
    """Reads a data set: a name in `COUNTS`, `monuseg` (both parts), `synthetic-bf|fluo|he`, or a
    folder of one's own.

    Real data lies under `root` (default: `S2L_DATA`, or else `data/raw`), packed or unpacked; an
    unpacked folder wins over the archive beside it. Their arrays are read-only views of the
    prepared store, which is made anew where names, sizes or checksums in the zip differ; in a
    folder times of modification count instead of checksums, so that an edit which keeps size and
    time passes unseen. `ids` selects images, in that order. `images` and `image_size` (pixels)
    belong to the synthetic sets: 40 of 256 unless given.

    A folder holds `images/`, optional `scribbles/` and optional `masks/`, paired by name: see
    docs/bad_inputs.md.

    Raises:
        S2LError: unknown name or id; an archive that is missing, damaged or incomplete; a fault in
            a folder.
    """
    if name in PARTS:
        folder, cells = Path(root or paths.raw_data()), []
        for part in PARTS[name]:
            cells += prepared(part, folder, ids)
    elif name in SYNTHETIC:
        drawn = generate(name.removeprefix("synthetic-"), images or 40, image_size or 256)
        cells = [CellImage(i, image, truth.astype(np.int32)) for i, image, truth in drawn]
    elif Path(name).is_dir():
        cells = read_folder(Path(name), ids)
    else:
        raise unknown(name, [*PARTS, *SYNTHETIC])

    if ids is None:
        return cells
    found = {cell.id: cell for cell in cells}
    if missing := [i for i in ids if i not in found]:
        raise S2LError(
            f"{name} has no image {missing[0]!r} ({len(missing)} of {len(ids)} ids are unknown)."
            " Check ids."
        )
    return [found[i] for i in ids]


def images_of(config: RunConfig, ids: Sequence[str]) -> list[CellImage]:
    """Images of a run's data set, in the order of `ids`."""
    if not ids:
        return []
    return load_dataset(config.dataset, ids=ids, images=config.images, image_size=config.image_size)
