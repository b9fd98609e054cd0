"""The official archives: where they lie, where they come from and how many images they hold."""

from dataclasses import dataclass
from pathlib import Path

from s2l_core.config import S2LError, suggestion
from s2l_paper import paths
from s2l_paper.data.archives import Source

COUNTS = {
    "dsb-bf": 16,
    "dsb-fluo": 546,
    "monuseg-train": 30,
    "monuseg-test": 14,
}  # images of each group
PARTS = {name: (name,) for name in COUNTS} | {"monuseg": ("monuseg-train", "monuseg-test")}


@dataclass(frozen=True)
class Archive:
    """Where an official archive lies under the data folder, packed or unpacked, and where it comes
    from.
    """

    folder: str
    file: str
    unpacked: tuple[str, ...]  # names of its folder
    probe: str  # what such a folder must hold
    page: str
    url: str
    sha256: str | None = None  # of the official file; guards downloads only

    def by_hand(self, root: Path) -> str:
        """How to get an archive by hand, where the download fails."""
        return (
            f"Get {self.file} from {self.page} ({self.url}) and put it in {root / self.folder},"
            f" packed or unpacked as {self.unpacked[0]}/, or set S2L_DATA to the folder that holds"
            f" {self.folder}/."
        )


_DSB = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"
_DSB_PAGE, _MONUSEG_PAGE = (
    "https://bbbc.broadinstitute.org/BBBC038",
    "https://monuseg.grand-challenge.org/Data/",
)
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_BBBC038 = Archive(
    "bbbc038", "stage1_train.zip", ("stage1_train", ""), "*/images/*.png", _DSB_PAGE, _DSB
)
ARCHIVES = {
    "dsb-bf": _BBBC038,
    "dsb-fluo": _BBBC038,
    "monuseg-train": Archive(
        "monuseg",
        "MoNuSeg2018TrainingData.zip",
        ("MoNuSeg2018TrainingData", "MoNuSeg 2018 Training Data"),
        "**/Tissue Images/*.tif",
        _MONUSEG_PAGE,
        _DRIVE + "1ZgqFJomqQGNnsx7w7QBzQQMVA16lbVCA",
        "25d3d3185bb2970b397cafa72eb664c9b4d24294aee382e7e3df9885affce742",
    ),
    "monuseg-test": Archive(
        "monuseg",
        "MoNuSegTestData.zip",
        ("MoNuSegTestData",),
        "**/*.tif",
        _MONUSEG_PAGE,
        _DRIVE + "1NKkSQ5T0ZNQ8aUhh0a8Dt2YKYCQXIViw",
        "13e522387ae8b1bcc0530e13ff9c7b4d91ec74959ef6f6e57747368d7ee6f88a",
    ),
}


def unknown(name: str, known: list[str]) -> S2LError:
    """The error for a name that is in no list; the nearest one is suggested."""
    return S2LError(f"Data set {name!r} is neither known nor a folder.{suggestion(name, known)}")


def locate(name: str, root: Path) -> Path | None:
    """The unpacked folder, or else the archive (a browser may have saved it under its folder's
    name).
    """
    archive, base = ARCHIVES[name], root / ARCHIVES[name].folder
    folders = [
        base / folder for folder in archive.unpacked if any((base / folder).glob(archive.probe))
    ]
    files = [base / archive.file, *(base / f"{folder}.zip" for folder in archive.unpacked)]
    return next((path for path in folders + files if path in folders or path.is_file()), None)


def fetch(name: str, root: Path | None = None) -> list[Path]:
    """Downloads the archives of a real data set to `root` (default: `S2L_DATA`, or else
    `data/raw`).

    What lies there already, packed or unpacked, is kept and nothing is asked of the network.
    MoNuSeg's files are checked by checksum; BBBC038 publishes none, its images are counted when it
    is first read.

    Raises:
        S2LError: unknown name, or a download that failed: says the address and where to put the
            file by hand.
    """
    if name not in PARTS:
        raise unknown(name, list(PARTS))
    root, found = Path(root or paths.raw_data()), []
    for part in PARTS[name]:
        archive, path = ARCHIVES[part], locate(part, root)
        if path is None:
            import pooch  # here only: nothing else needs the network

            path = root / archive.folder / archive.file
            checksum = archive.sha256 and f"sha256:{archive.sha256}"
            try:
                pooch.retrieve(
                    archive.url, checksum, fname=path.name, path=path.parent, progressbar=True
                )
                Source(path).close()
            except (
                OSError,
                ValueError,
            ) as error:  # no connection, another checksum, or a web page instead
                path.unlink(missing_ok=True)
                raise S2LError(
                    f"{part}: the download failed ({error}). {archive.by_hand(root)}"
                ) from error
        found.append(path)
    return found
