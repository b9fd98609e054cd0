"""Data sets by name: official archives, embedded data, a folder of one's own; prepared store, splits, download."""

import contextlib
import difflib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2l_core import paths
from s2l_core.archives import CellImage, Source, read_bbbc038, read_folder, read_monuseg
from s2l_core.config import DATASETS, SYNTHETIC, RunConfig, S2LError, digest
from s2l_core.synthetic import generate

STORE_VERSION = 1  # raised whenever the same archive may give other pixels: prepared stores are then made anew
COUNTS = {"dsb-bf": 16, "dsb-fluo": 546, "monuseg-train": 30, "monuseg-test": 14}  # images of each group
PARTS = {name: (name,) for name in COUNTS} | {"monuseg": ("monuseg-train", "monuseg-test")}


@dataclass(frozen=True)
class Split:
    """Image ids of one fold."""

    train: list[str]
    validation: list[str]
    test: list[str]


@dataclass(frozen=True)
class _Archive:
    """Where an official archive lies under the data folder, packed or unpacked, and where it comes from."""

    folder: str
    file: str
    unpacked: tuple[str, ...]  # names of its folder
    probe: str  # what such a folder must hold
    page: str
    url: str
    sha256: str | None = None  # of the official file; guards downloads only

    def by_hand(self, root: Path) -> str:
        """What to do where it cannot be had otherwise."""
        return (
            f"Get {self.file} from {self.page} ({self.url}) and put it in {root / self.folder}, packed or unpacked as "
            f"{self.unpacked[0]}/, or set S2L_DATA to the folder that holds {self.folder}/."
        )


_DSB = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"
_DSB_PAGE, _MONUSEG_PAGE = "https://bbbc.broadinstitute.org/BBBC038", "https://monuseg.grand-challenge.org/Data/"
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_BBBC038 = _Archive("bbbc038", "stage1_train.zip", ("stage1_train", ""), "*/images/*.png", _DSB_PAGE, _DSB)
_ARCHIVES = {
    "dsb-bf": _BBBC038,
    "dsb-fluo": _BBBC038,
    "monuseg-train": _Archive(
        "monuseg",
        "MoNuSeg2018TrainingData.zip",
        ("MoNuSeg2018TrainingData", "MoNuSeg 2018 Training Data"),
        "**/Tissue Images/*.tif",
        _MONUSEG_PAGE,
        _DRIVE + "1ZgqFJomqQGNnsx7w7QBzQQMVA16lbVCA",
        "25d3d3185bb2970b397cafa72eb664c9b4d24294aee382e7e3df9885affce742",
    ),
    "monuseg-test": _Archive(
        "monuseg",
        "MoNuSegTestData.zip",
        ("MoNuSegTestData",),
        "**/*.tif",
        _MONUSEG_PAGE,
        _DRIVE + "1NKkSQ5T0ZNQ8aUhh0a8Dt2YKYCQXIViw",
        "13e522387ae8b1bcc0530e13ff9c7b4d91ec74959ef6f6e57747368d7ee6f88a",
    ),
}


def load_dataset(
    name: str, root: Path | None = None, ids: Sequence[str] | None = None, *, images: int = 0, image_size: int = 0
) -> list[CellImage]:
    """Reads a data set: a name in `COUNTS`, `monuseg` (both parts), `synthetic-bf|fluo|he`, or a folder of one's own.

    Real data lies under `root` (default: `S2L_DATA`, or else `data/raw`), packed or unpacked; an unpacked folder wins
    over the archive beside it. Their arrays are read-only views of the prepared store. `ids` selects images, in that
    order. `images` and `image_size` (pixels) belong to the synthetic sets: 40 of 256 unless given.

    A folder holds `images/`, optional `masks/` (label images) and optional `scribbles/` (0, 1 and 255), same stems.

    Raises:
        S2LError: unknown name or id; an archive that is missing, damaged or incomplete.
    """
    if name in PARTS:
        cells = [cell for part in PARTS[name] for cell in _prepared(part, Path(root or paths.raw_data()), ids)]
    elif name in SYNTHETIC:
        drawn = generate(name.removeprefix("synthetic-"), images or 40, image_size or 256)
        cells = [CellImage(i, image, truth.astype(np.int32)) for i, image, truth in drawn]
    elif Path(name).is_dir():
        cells = read_folder(Path(name))
    else:
        raise _unknown(name, [*PARTS, *SYNTHETIC])
    if ids is None:
        return cells
    found = {cell.id: cell for cell in cells}
    if missing := [i for i in ids if i not in found]:
        raise S2LError(f"{name} has no image {missing[0]!r} ({len(missing)} of {len(ids)} ids are unknown). Check ids.")
    return [found[i] for i in ids]


def _unknown(name: str, known: list[str]) -> S2LError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return S2LError(f"Data set {name!r} is neither known nor a folder.{hint} Choose one of: {', '.join(known)}.")


def _locate(name: str, root: Path) -> Path | None:
    """The unpacked folder, or else the archive (a browser may have saved it under its folder's name)."""
    archive, base = _ARCHIVES[name], root / _ARCHIVES[name].folder
    folders = [base / folder for folder in archive.unpacked if any((base / folder).glob(archive.probe))]
    files = [base / archive.file, *(base / f"{folder}.zip" for folder in archive.unpacked)]
    return next((path for path in folders + files if path in folders or path.is_file()), None)


def _prepared(name: str, root: Path, ids: Sequence[str] | None) -> list[CellImage]:
    """Images of one part, from its prepared store; the store is made where it is missing, stale or damaged."""
    path, archive = _locate(name, root), _ARCHIVES[name]
    if path is None:
        raise S2LError(f"{name}: found no {archive.file} in {root / archive.folder}. {archive.by_hand(root)}")
    with contextlib.closing(Source(path)) as source:
        wanted = _paper_ids(name) if archive.folder == "monuseg" else []
        key = digest([STORE_VERSION, name, wanted, source.entries], 64)
        folder = paths.prepared_data() / name
        try:
            return _open_store(folder, key, ids)
        except (OSError, ValueError, KeyError, TypeError) as reason:
            why = f"the prepared copy is not usable ({reason}); making it anew" if folder.exists() else "first use"
        print(f"{name}: {why}, reading {path}", flush=True)
        cells = read_monuseg(source, wanted) if wanted else read_bbbc038(source, name)
        _write_store(folder, name, cells, key)
    return _open_store(folder, key, ids)


def fetch(name: str, root: Path | None = None) -> list[Path]:
    """Downloads the archives of a real data set to `root` (default: `S2L_DATA`, or else `data/raw`).

    What lies there already, packed or unpacked, is kept and nothing is asked of the network. MoNuSeg's files are
    checked by checksum; BBBC038 publishes none, its images are counted when it is first read.

    Raises:
        S2LError: unknown name, or a download that failed: says the address and where to put the file by hand.
    """
    if name not in PARTS:
        raise _unknown(name, list(PARTS))
    root, found = Path(root or paths.raw_data()), []
    for part in PARTS[name]:
        archive, path = _ARCHIVES[part], _locate(part, root)
        if path is None:
            import pooch  # here only: nothing else needs the network

            path = root / archive.folder / archive.file
            checksum = archive.sha256 and f"sha256:{archive.sha256}"
            try:
                pooch.retrieve(archive.url, checksum, fname=path.name, path=path.parent, progressbar=True)
                Source(path).close()
            except (OSError, ValueError) as error:  # no connection, another checksum, or a web page instead
                path.unlink(missing_ok=True)
                raise S2LError(f"{part}: the download failed ({error}). {archive.by_hand(root)}") from error
        found.append(path)
    return found


def _write_store(folder: Path, name: str, cells: Iterable[CellImage], key: str) -> None:
    """Writes pixels of all images one after another, then moves the finished folder into place."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        temporary.chmod(0o755)
        records = []
        with open(temporary / "images.u8", "wb") as images, open(temporary / "instances.i32", "wb") as instances:
            for cell in cells:
                data = cell.image.tobytes(), cell.instances.tobytes()
                records.append({"id": cell.id, "shape": cell.instances.shape, "crc": [zlib.crc32(d) for d in data]})
                images.write(data[0])
                instances.write(data[1])
        if len(records) != COUNTS[name]:
            raise S2LError(f"{name}: found {len(records)} images, expected {COUNTS[name]}. Get the archive again.")
        (temporary / "index.json").write_text(json.dumps({"source": key, "images": records}))
        if folder.exists():
            folder.replace(temporary.with_suffix(".old"))
        with contextlib.suppress(OSError):  # another process was faster: its store is as good
            temporary.replace(folder)
    except OSError as error:
        raise S2LError(f"{folder}: cannot be written ({error}). Free some space or set S2L_HOME elsewhere.") from error
    finally:
        if temporary:
            for leftover in (temporary, temporary.with_suffix(".old")):
                shutil.rmtree(leftover, ignore_errors=True)


def _open_store(folder: Path, key: str, ids: Sequence[str] | None) -> list[CellImage]:
    """Read-only views of the images asked for; any error means that the store is missing, stale or damaged."""
    index = json.loads((folder / "index.json").read_text())
    if index["source"] != key:
        raise S2LError("its source has changed")
    planes = [np.memmap(folder / "images.u8", np.uint8, "r"), np.memmap(folder / "instances.i32", np.int32, "r")]
    cells, start = [], 0
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
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise S2LError(f"{path} cannot be read ({error}). Restore it: git checkout {path}") from error


def _paper_ids(part: str) -> list[str]:
    """The paper's 30 training or 14 test ids of MoNuSeg: the training archive of today holds 37."""
    lists = _split_lists("monuseg")
    return sorted(lists["test"] if part == "monuseg-test" else sum(lists["parts"], []))


def synthetic_ids(name: str, images: int) -> list[str]:
    """Ids of the embedded data, in the order in which they are drawn."""
    return [f"{name}-{index:03d}" for index in range(images)]


def splits(name: str, fold: int, *, subset: bool = False, images: int = 0) -> Split:
    """Ids of one fold, from the committed files (Sec. 3.1): a fixed test set, and parts that take turns as validation.

    DSB and synthetic sets: five parts, the last is the test set. MoNuSeg: five parts of the 30, test on the 14.
    `subset` takes 80 training, 20 validation and 40 test images of `dsb-fluo`; other sets are taken whole. `images`
    is the size of a synthetic set (40 unless given).

    Raises:
        S2LError: unknown name or fold; a split file that cannot be read; a synthetic set too small to be split.
    """
    if name not in DATASETS:
        raise _unknown(name, list(DATASETS))
    folds = DATASETS[name][1]
    if fold not in range(folds):
        raise S2LError(f"fold = {fold!r}: {name} has folds 0 to {folds - 1}. Choose one of them.")
    if name in SYNTHETIC:
        ids = synthetic_ids(name, images or 40)
        if len(ids) < 5:
            raise S2LError(f"images = {images}: {name} needs at least 5 to be split. Raise images.")
        lists = {"parts": [ids[k::5] for k in range(4)], "test": ids[4::5]}
    else:
        lists = _split_lists(name)
    if subset and "subset" in lists:
        part = lists["subset"]["folds"][fold]
        return Split(list(part["train"]), list(part["validation"]), list(lists["subset"]["test"]))
    train = [i for k, part in enumerate(lists["parts"]) if k != fold for i in part]
    return Split(train, list(lists["parts"][fold]), list(lists["test"]))


def split_of(config: RunConfig) -> Split:
    """Split of a run; in a folder of one's own every image with scribbles or masks trains, and none is held out."""
    if config.dataset in DATASETS:
        return splits(config.dataset, config.fold, subset=config.subset, images=config.images)
    cells = load_dataset(config.dataset)
    return Split([cell.id for cell in cells if cell.scribbles is not None or cell.instances is not None], [], [])


def images_of(config: RunConfig, ids: Sequence[str]) -> list[CellImage]:
    """Images of a run's data set, in the order of `ids`."""
    return load_dataset(config.dataset, ids=ids, images=config.images, image_size=config.image_size) if ids else []
