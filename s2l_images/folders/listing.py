"""What lies in a folder of one's own, by name: which files belong together, and what is wrong with
their names and places.
"""

import difflib
import functools
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from s2l_core.config import S2LError, digest
from s2l_images.faults import Fault, Finding, listed, plain
from s2l_images.places import own_encoding, own_results, own_settings, own_splits, own_strokes
from s2l_images.reading.pictures import PICTURES
from s2l_images.reading.unreadable import reading
from s2l_images.strokes import Stroke, read_strokes

SUBFOLDERS = ("images", "scribbles", "masks")
_VECTORS = (".roi", ".zip", ".geojson", ".json", ".xml")
SUFFIXES = {
    "images": PICTURES,
    "scribbles": PICTURES + _VECTORS,
    "masks": (*PICTURES, ".npy", ".npz", *_VECTORS),
}


def refuse_read_place(folder: Path, target: Path) -> None:
    """Refuses a target for results where a folder's own files are read.

    Raises:
        S2LError: it is the folder, or lies in its images, masks or scribbles.
    """
    root, place = Path(folder).resolve(), Path(target).resolve()
    if place == root or any(place.is_relative_to(root / kind) for kind in SUBFOLDERS):
        raise S2LError(
            f"{target}: is where your own files are read. Name another folder for the results, "
            "such as 'nuclei'."
        )


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    Attributes:
        root: the folder.
        files: for each of `SUBFOLDERS` the files of each stem.
        strokes: those drawn with the widget, by image; only of images that have any.
    """

    root: Path
    files: dict[str, dict[str, list[Path]]]
    strokes: dict[str, list[Stroke]]

    @property
    def ids(self) -> list[str]:
        """Stems of the images, sorted."""
        return sorted(self.files["images"])

    @property
    def masked(self) -> list[str]:
        """Images with a mask."""
        return [i for i in self.ids if i in self.files["masks"]]

    @property
    def scribbled(self) -> list[str]:
        """Images with scribbles."""
        return [i for i in self.ids if i in self.files["scribbles"] or i in self.strokes]

    @property
    def painted(self) -> list[Path]:
        """Scribbles that are label images."""
        twins = self.files["scribbles"].values()
        return [file for files in twins for file in files if file.suffix.lower() in PICTURES]


def survey(folder: Path) -> Listing:
    """Lists a folder without reading an image; hidden files and sub-folders are skipped.

    Raises:
        Fault: it is no folder, or its file of strokes is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "this is a file" if root.exists() else "there is nothing of that name"
        raise Fault("not-a-folder", root, what)

    drawn = own_strokes(root)
    _stop_at_first(_outside(root, root / "scribbles", drawn))  # they are read at once

    # The readable files of each kind, by stem; accents are written in two ways.
    files: dict[str, dict[str, list[Path]]] = {kind: {} for kind in SUBFOLDERS}
    for kind in SUBFOLDERS:
        place = root / kind
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            hidden = path.name.startswith(".")
            if hidden or path == drawn or path.suffix.lower() not in SUFFIXES[kind]:
                continue
            if not path.is_dir():
                stem = unicodedata.normalize("NFC", path.stem)
                files[kind].setdefault(stem, []).append(path)

    with reading(drawn):
        strokes = read_strokes(drawn) if drawn.exists() else {}
    return Listing(root, files, {i: lines for i, lines in strokes.items() if lines})


def _outside(root: Path, *places: Path) -> Iterator[Finding]:
    """Links that lead out of the folder."""
    for path in places:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            yield Finding("link-outside", path, f"a link to {path.resolve()}")


def structure(listing: Listing) -> Iterator[Finding]:
    """Errors of names and places: images that are missing, twins, labels without an image."""
    root = listing.root
    results = own_results(root)
    labels = [
        path for files in listing.files.values() for twins in files.values() for path in twins
    ]

    # Everything that is read or written there.
    places = [root / kind for kind in SUBFOLDERS]
    places += [own_strokes(root), own_encoding(root), own_settings(root), own_splits(root), results]
    places += [*results.glob("*"), results / "export" / "predicted.jsonl", *labels]
    yield from _outside(root, *places)

    for path in labels:
        if plain(path.name) != path.name:
            yield Finding("name-encoding", path, f"the name {plain(path.name)} is not UTF-8")
    if not listing.ids:
        yield _without_images(root)

    # Twins are files of one image in one folder; its strokes count among its scribbles.
    for kind in SUBFOLDERS:
        for i, files in listing.files[kind].items():
            twins = [file.name for file in files]
            if kind == "scribbles" and i in listing.strokes:
                twins.append(own_strokes(root).name)
            if len(twins) > 1:
                yield Finding("same-stem", files[0], f"{', '.join(twins)} belong to one image")

            if listing.ids and i not in listing.files["images"]:
                near = difflib.get_close_matches(i, listing.ids, 3, 0.5) or listing.ids
                yield Finding(
                    "no-image-for-it",
                    files[0],
                    f"no image is called {i!r}; images/ has {listed(near)}",
                )


def _without_images(root: Path) -> Finding:
    """Why a folder has no images, by what lies there instead."""
    images = root / "images"
    place = images if images.is_dir() else root
    held = sorted(path.name for path in place.iterdir() if not path.name.startswith("."))
    loose = [name for name in held if name.lower().endswith(PICTURES)]
    found = f"holds {listed(loose or held)}" if held else "holds nothing"
    if images.is_dir():
        return Finding("no-images", images, found)
    if loose:
        return Finding("images-in-root", root, found)
    return Finding("no-images-folder" if held else "empty-folder", root, found)


def sound(folder: Path) -> Listing:
    """A listing without errors of structure; the first of them is raised."""
    listing = survey(folder)
    _stop_at_first(structure(listing))
    return listing


def _stop_at_first(findings: Iterable[Finding]) -> None:
    """Raises the first of some findings as a Fault, if there is any."""
    first = next(iter(findings), None)
    if first is not None:
        raise Fault(first.code, first.file, first.found)


def fingerprint(folder: Path) -> str:
    """Hash of all files that are read from a folder, file times aside."""
    root = Path(folder)
    files = [path for kind in SUBFOLDERS for path in (root / kind).glob("[!.]*")]
    files += [own_encoding(root), own_settings(root), own_splits(root)]
    stats = {path: path.stat() for path in sorted(files) if path.is_file()}
    hashes = {
        path.relative_to(root).as_posix(): _hash(path, stat.st_size, stat.st_mtime_ns)
        for path, stat in stats.items()
    }
    return digest(hashes, 16)


@functools.cache
def _hash(path: Path, size: int, changed: int) -> str:
    """Hash of a file's content, computed anew only where its size or its time of change differs."""
    return digest(path, 64)
