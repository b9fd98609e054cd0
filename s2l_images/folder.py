"""A folder of one's own -> CellImages: which files belong together, and which images train, validate and test."""

import difflib
import functools
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2l_core.config import digest
from s2l_core.images import CellImage
from s2l_images import annotations, image_checks
from s2l_images.faults import Fault, Finding, listed, plain, printable
from s2l_images.label_values import Encoding, count_values, encoding_of, read_json
from s2l_images.pictures import (
    LABELS,
    PICTURES,
    fit,
    numbered,
    read_image,
    read_label_mask,
    read_values,
    reading,
)
from s2l_images.places import (
    own_encoding,
    own_results,
    own_settings,
    own_splits,
    own_strokes,
)
from s2l_images.settings import USUAL, Settings, read_settings
from s2l_images.strokes import Stroke, read_strokes, render

SUBFOLDERS = ("images", "scribbles", "masks")
_VECTORS = (".roi", ".zip", ".geojson", ".json", ".xml")
SUFFIXES = {
    "images": PICTURES,
    "scribbles": PICTURES + _VECTORS,
    "masks": (*PICTURES, ".npy", ".npz", *_VECTORS),
}
ROLES = ("train", "validation", "test")


@dataclass(frozen=True)
class Listing:
    """What lies in a folder: for each of `SUBFOLDERS` the files of each stem, and the strokes drawn with the widget."""

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
        return [
            f
            for files in self.files["scribbles"].values()
            for f in files
            if f.suffix.lower() in PICTURES
        ]


def survey(folder: Path) -> Listing:
    """Lists a folder without reading an image; hidden files and sub-folders are skipped.

    Raises:
        Fault: it is no folder, or its file of strokes is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise Fault(
            "not-a-folder",
            root,
            "this is a file" if root.exists() else "there is nothing of that name",
        )

    drawn = own_strokes(root)
    for finding in _outside(root, root / "scribbles", drawn):  # which is read at once
        raise Fault(finding.code, finding.file, finding.found)

    # The readable files of each kind, by stem; accents are written in two ways.
    files: dict[str, dict[str, list[Path]]] = {kind: {} for kind in SUBFOLDERS}
    for kind in SUBFOLDERS:
        for path in sorted((root / kind).iterdir() if (root / kind).is_dir() else ()):
            readable = (
                path.suffix.lower() in SUFFIXES[kind]
                and not path.name.startswith(".")
                and path != drawn
            )
            if readable and not path.is_dir():
                files[kind].setdefault(unicodedata.normalize("NFC", path.stem), []).append(path)

    with reading(drawn):
        strokes = read_strokes(drawn) if drawn.exists() else {}
    return Listing(root, files, {i: lines for i, lines in strokes.items() if lines})


def _outside(root: Path, *places: Path) -> Iterator[Finding]:
    for path in places:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            yield Finding("link-outside", path, f"a link to {path.resolve()}")


def structure(listing: Listing) -> Iterator[Finding]:
    """Errors of names and places: images that are missing, twins, labels without an image."""
    root = listing.root
    others = [
        own(root) for own in (own_strokes, own_encoding, own_settings, own_splits, own_results)
    ]
    others += [*others[-1].glob("*"), others[-1] / "export" / "predicted.jsonl"]
    labels = [
        path for files in listing.files.values() for twins in files.values() for path in twins
    ]
    yield from _outside(root, *map(root.joinpath, SUBFOLDERS), *others, *labels)

    for path in labels:
        if plain(path.name) != path.name:
            yield Finding("name-encoding", path, f"the name {plain(path.name)} is no UTF-8")
    if not listing.ids:
        yield _without_images(root)

    # Twins are files of one image in one folder; its strokes count among its scribbles.
    for kind in SUBFOLDERS:
        for i, files in listing.files[kind].items():
            twins = [file.name for file in files]
            if kind == "scribbles" and i in listing.strokes:
                twins.append(own_strokes(root).name)
            if len(twins) > 1:
                yield Finding("same-stem", files[0], f"{', '.join(twins)} are of one image")

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
    for finding in structure(listing):
        raise Fault(finding.code, finding.file, finding.found)
    return listing


def read_folder(folder: Path, ids: Sequence[str] | None = None) -> list[CellImage]:
    """Images of a folder of one's own, or those of `ids` that are there.

    How scribbles are understood is printed once, and so are the warnings that the check would give
    on these images.

    Raises:
        Fault: whatever `s2l_images.input_checks` calls an error of a file.
    """
    listing = sound(folder)
    settings = read_settings(listing.root)
    encoding = encoding_of(listing.root, {path: count_values(path) for path in listing.painted})
    if encoding.said:
        say(f"{listing.root / 'scribbles'}: {encoding.said}")
    chosen = set(listing.ids if ids is None else ids)
    wanted = [i for i in listing.ids if i in chosen]
    counts = [count_items(listing, i, encoding, settings) for i in wanted]
    if any(counts):
        understood = annotations.understood(sum(counts, Counter()))
        say(f"{listing.root / 'scribbles'}: {understood}")

    cells, looked, found = [], [], []
    for i in wanted:
        file = listing.files["images"][i][0]
        image, remarks = read_image(file, settings.channel)
        mask = scribbles = None
        found += [*remarks, *image_checks.image_findings(file, image)]

        if i in listing.files["masks"]:
            mask_file = listing.files["masks"][i][0]
            mask, remarks_on_mask = read_mask(mask_file, image.shape[:2], settings)
            found += [*remarks_on_mask, *image_checks.mask_findings(mask_file, mask)]

        scribbles = read_scribbles(listing, i, image.shape[:2], encoding, found, settings)
        if scribbles is not None:
            found += scribble_findings(listing, i, scribbles, mask)
        looked.append(image_checks.seen(file, image, remarks, None))
        cells.append(CellImage(i, image, mask, scribbles))

    found += image_checks.compared(listing.root / "images", looked)
    tell(listing.root, found)
    return cells


def scribble_findings(
    listing: Listing, i: str, scribbles: np.ndarray, mask: np.ndarray | None
) -> list[Finding]:
    """What is odd about the scribbles of an image, alone and beside its mask."""
    file = listing.files["scribbles"].get(i, [own_strokes(listing.root)])[0]
    whose = f"{i}: " if i in listing.strokes else ""
    found = list(image_checks.scribble_findings(file, scribbles, whose))
    if mask is not None:
        found += image_checks.contradiction_findings(file, scribbles, mask, whose)
    strokes = listing.strokes.get(i, ())
    found += image_checks.stroke_findings(file, strokes, scribbles.shape, whose)
    return found


def tell(root: Path, found: Sequence[Finding]) -> None:
    """Prints the warnings among findings, one line a kind, each once."""
    kinds: dict[str, list[Finding]] = {}
    for finding in found:
        if finding.level == "warning":
            kinds.setdefault(finding.code, []).append(finding)
    for code, group in kinds.items():
        more = f" (and {len(group) - 1} more like it)" if len(group) > 1 else ""
        first = group[0]
        inside = first.file.is_relative_to(root)
        where = Path(root.name, first.file.relative_to(root)) if inside else first.file
        say(f"warning: {code}: {where}: {first.found}{more}. {first.remedy}")


def count_items(
    listing: Listing, i: str, encoding: Encoding, settings: Settings = USUAL
) -> Counter[tuple[str, int]]:
    """How many items drawn on an image bear which name, and the class it was taken for.

    Empty where no file of ROIs or the like belongs to the image.

    Raises:
        Fault: see `input_faults.toml`.
    """
    for path in listing.files["scribbles"].get(i, [])[:1]:
        if i not in listing.strokes and path.suffix.lower() not in PICTURES:
            with reading(path):
                return annotations.count_classes(path, encoding.words, settings.plane)
    return Counter()


@functools.cache
def say(text: str) -> None:
    """Prints a text the first time."""
    print(printable(text), flush=True)


def read_mask(
    path: Path, shape: tuple[int, int], settings: Settings = USUAL
) -> tuple[np.ndarray, list[Finding]]:
    """Instances (H, W) int32 of a label image or a file of outlines, and what was done to them.

    Raises:
        Fault: see `input_faults.toml`.
    """
    if path.suffix.lower() in PICTURES + LABELS:
        return read_label_mask(path, shape, settings.mask_background)
    found: list[Finding] = []
    with reading(path):
        instances = annotations.read_instances(path, shape, plane=settings.plane, found=found)
        instances, remarks = numbered(path, instances)
        return instances, found + remarks


def read_scribbles(
    listing: Listing,
    i: str,
    shape: tuple[int, int],
    encoding: Encoding,
    found: list[Finding] | None = None,
    settings: Settings = USUAL,
) -> np.ndarray | None:
    """Scribbles (H, W) uint8 of 0, 1 and IGNORE of an image, or None; what was left out is appended to `found`.

    Raises:
        Fault: see `input_faults.toml`.
    """
    if i in listing.strokes:
        with reading(own_strokes(listing.root)):
            return render(listing.strokes[i], shape)
    if i not in listing.files["scribbles"]:
        return None
    path = listing.files["scribbles"][i][0]
    if path.suffix.lower() not in PICTURES:
        with reading(path):
            return annotations.read_scribbles(
                path, shape, words=encoding.words, plane=settings.plane, found=found
            )
    values = read_values(path)
    fit(path, values, shape)
    known = np.array(sorted(encoding.classes))
    classes = np.array([encoding.classes[value] for value in known.tolist()], np.uint8)
    return classes[np.searchsorted(known, values)]  # (H, W)


def split_folder(folder: Path) -> dict[str, list[str]]:
    """Ids that train, validate and test: those of `splits.json`, or every image with scribbles or a mask trains.

    Where `splits.json` names no training images, these are all labelled ones that it does not name otherwise.

    Raises:
        Fault: nothing is labelled; or a name in `splits.json` that is unknown, twice there, or lacks what it needs.
    """
    listing = sound(folder)
    labelled = sorted({*listing.scribbled, *listing.masked})
    if not labelled:
        raise Fault(
            "nothing-labelled",
            listing.root,
            f"none of {len(listing.ids)} images has scribbles or a mask",
        )

    # A role holds a list of names, whichever way their accents are written.
    path = own_splits(listing.root)
    content = read_json(path, "bad-splits")
    for role, names in content.items():
        if (
            role not in ROLES
            or not isinstance(names, list)
            or not all(isinstance(name, str) for name in names)
        ):
            raise Fault("bad-splits", path, f"{role!r} holds {names!r:.50}")
    lists = {
        role: [unicodedata.normalize("NFC", name) for name in content.get(role, [])]
        for role in ROLES
    }

    # Whatever is labelled and not named trains, unless the training images are named themselves.
    named = sum(lists.values(), [])
    if "train" not in content:
        lists["train"] = [i for i in labelled if i not in named]

    # Each fault with the names that have it.
    for fault, names in {
        "is no image": sorted({*named} - {*listing.ids}),
        "is named twice": [name for name, count in Counter(named).items() if count > 1],
        "has neither scribbles nor a mask to train with": [
            i for i in lists["train"] if i not in labelled
        ],
        "has no mask to score against": [
            i for role in ROLES[1:] for i in lists[role] if i not in listing.masked
        ],
        "has to be left to train": [] if lists["train"] else ["one"],
    }.items():
        if names:
            raise Fault(
                "bad-splits", path, f"{names[0]!r} {fault}; images/ has {listed(listing.ids)}"
            )
    return lists


def fingerprint(folder: Path) -> str:
    """Hash of all files that are read from a folder, file times aside."""
    root = Path(folder)
    files = [path for kind in SUBFOLDERS for path in (root / kind).glob("[!.]*")]
    files += [own_encoding(root), own_settings(root), own_splits(root)]
    stats = {path: path.stat() for path in sorted(files) if path.is_file()}
    hashes = {
        path.relative_to(root).as_posix(): _hash(path, s.st_size, s.st_mtime_ns)
        for path, s in stats.items()
    }
    return digest(hashes, 16)


@functools.cache
def _hash(path: Path, size: int, changed: int) -> str:
    """Hash of a file's content, computed again only where its size or its time of change differs."""
    return digest(path, 64)
