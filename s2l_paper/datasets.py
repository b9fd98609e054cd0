"""Data sets by name: official archives, embedded data, a folder of one's own; prepared store and
splits.
"""

import contextlib
import dataclasses
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2l_core.config import RunConfig, S2LError, digest
from s2l_core.images import CellImage
from s2l_core.profiles import DATASETS, SYNTHETIC
from s2l_images.folder import read_folder, say
from s2l_images.roles import split_folder
from s2l_paper import paths
from s2l_paper.archives import Source, read_bbbc038, read_monuseg
from s2l_paper.sources import ARCHIVES, COUNTS, PARTS, fetch, locate, unknown
from s2l_paper.synthetic import generate

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

STORE_VERSION = (
    1  # raised whenever the same archive may give other pixels: prepared stores are then made anew
)


@dataclass(frozen=True)
class Split:
    """Image ids of one fold."""

    train: list[str]
    validation: list[str]
    test: list[str]


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
        cells = [
            cell
            for part in PARTS[name]
            for cell in _prepared(part, Path(root or paths.raw_data()), ids)
        ]
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


def _prepared(name: str, root: Path, ids: Sequence[str] | None) -> list[CellImage]:
    """Images of one part, from its prepared store; the store is made where it is missing, stale or
    damaged.
    """
    path, archive = locate(name, root), ARCHIVES[name]
    if path is None:
        missing = f"{name}: found no {archive.file} in {root / archive.folder}"
        raise S2LError(f"{missing}; `make data` fetches it. Or by hand: {archive.by_hand(root)}")

    with contextlib.closing(Source(path)) as source:
        wanted = _paper_ids(name) if archive.folder == "monuseg" else []
        key = digest([STORE_VERSION, name, wanted, source.entries], 64)
        folder = paths.prepared_data() / name
        try:
            return _open_store(folder, key, ids)
        except (OSError, ValueError, KeyError, TypeError) as reason:
            why = (
                f"the prepared copy is not usable ({reason}); making it anew"
                if folder.exists()
                else "first use"
            )
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


def _split_lists(name: str) -> dict:
    """Content of a committed split file."""
    path = paths.split_file(name)
    try:
        content = json.loads(path.read_text())
        if not all(
            isinstance(i, str) for part in [*content["parts"], content["test"]] for i in part
        ):
            raise TypeError("ids are words")
        return content
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise S2LError(
            f"{path} cannot be read ({error}). Restore it: git checkout {path}"
        ) from error


def _paper_ids(part: str) -> list[str]:
    """The paper's 30 training or 14 test ids of MoNuSeg: the training archive of today holds 37."""
    lists = _split_lists("monuseg")
    return sorted(lists["test"] if part == "monuseg-test" else sum(lists["parts"], []))


def synthetic_ids(name: str, images: int) -> list[str]:
    """Ids of the embedded data, in the order in which they are drawn."""
    return [f"{name}-{index:03d}" for index in range(images)]


def splits(
    name: str, fold: int, *, rotation: int = 0, subset: bool = False, images: int = 0
) -> Split:
    """Ids of one fold, from the committed files (Sec. 3.1): a fixed test set, and parts that take
    turns as validation.

    DSB and synthetic sets: five parts, the last is the test set. MoNuSeg: five parts of the 30,
    test on the 14.

    Args:
        name: of the data set.
        fold: which of the parts that are not tested validates.
        rotation: which part is tested (D25). 0 is the paper's protocol; r turns the five parts on
            by r, so that part r - 1 comes last. Over rotations 0 to 4 each image is tested once:
            scores out of fold.
        subset: takes 80 training, 20 validation and 40 test images of `dsb-fluo`; other sets are
            taken whole.
        images: the size of a synthetic set (40 unless given).

    Raises:
        S2LError: unknown name, fold or rotation; a split file that cannot be read; a synthetic set
            too small to be split.
    """
    if name not in DATASETS:
        raise unknown(name, list(DATASETS))
    folds = DATASETS[name][1]
    if fold not in range(folds):
        raise S2LError(f"fold = {fold!r}: {name} has folds 0 to {folds - 1}. Choose one of them.")
    RunConfig(name, "s2l", fold=fold, rotation=rotation, subset=subset)  # refuses other rotations
    if name in SYNTHETIC:
        ids = synthetic_ids(name, images or 40)
        if len(ids) < 5:
            raise S2LError(f"images = {images}: {name} needs at least 5 to be split. Raise images.")
        lists = {"parts": [ids[k::5] for k in range(4)], "test": ids[4::5]}
    else:
        lists = _split_lists(name)
        if len(lists["parts"]) <= fold:
            raise S2LError(f"{paths.split_file(name)} lacks part {fold}. Restore it with git.")
    if subset and "subset" in lists:
        part = lists["subset"]["folds"][fold]
        return Split(list(part["train"]), list(part["validation"]), list(lists["subset"]["test"]))

    parts, test = lists["parts"], lists["test"]
    if rotation:
        around = [*parts, test]
        turned = around[rotation:] + around[:rotation]
        parts, test = turned[:-1], turned[-1]
    train = [i for k, part in enumerate(parts) if k != fold for i in part]
    return Split(train, list(parts[fold]), list(test))


def split_of(config: RunConfig) -> Split:
    """Split of a run. In a folder of one's own every image with scribbles or masks trains, but for
    `splits.json`.

    Raises:
        S2LError: as `splits`; a folder without labels, or with a `splits.json` that cannot be
            followed.
    """
    if config.dataset in DATASETS:
        split = splits(
            config.dataset,
            config.fold,
            rotation=config.rotation,
            subset=config.subset,
            images=config.images,
        )
        return _fewer(split, config.train_images)

    if not Path(config.dataset).is_dir():
        raise unknown(config.dataset, list(DATASETS))
    split = Split(**split_folder(Path(config.dataset)))

    # In a folder of one's own nobody sees the split otherwise.
    train, validation, test = (len(ids) for ids in dataclasses.asdict(split).values())
    selected = (
        f"{validation} validate"
        if validation
        else "none validates, so the weights of the last step are taken"
    )
    scored = f"{test} are scored" if test else "none is scored, so per_image.csv stays empty"
    say(
        f"{config.dataset}: {train} images train, {selected}; {scored}. splits.json in this folder"
        " decides."
    )
    return split


def _fewer(split: Split, most: int) -> Split:
    """At most so many training images, and a quarter as many for validation; the test part stays
    whole (D26).

    Ids are random digits in alphabetical order, so that every n-th of them is a random draw, the
    same one everywhere.
    """

    def thinned(ids: list[str], count: int) -> list[str]:
        if not most or len(ids) <= count:
            return ids
        return [ids[k * len(ids) // count] for k in range(count)]

    return Split(
        thinned(split.train, most), thinned(split.validation, max(most // 4, 1)), split.test
    )


def images_of(config: RunConfig, ids: Sequence[str]) -> list[CellImage]:
    """Images of a run's data set, in the order of `ids`."""
    return (
        load_dataset(config.dataset, ids=ids, images=config.images, image_size=config.image_size)
        if ids
        else []
    )
