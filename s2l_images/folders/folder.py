"""A folder of one's own -> CellImages: each image with its mask and its scribbles; and what is odd
about them, said once.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s2l_core.images import CellImage
from s2l_images.annotation_files import annotations
from s2l_images.annotation_files.item_classes import understood
from s2l_images.faults import Finding, printable
from s2l_images.folders import image_checks
from s2l_images.folders.listing import Listing, sound
from s2l_images.folders.settings import USUAL, Settings, read_settings
from s2l_images.places import own_strokes
from s2l_images.reading.label_images import (
    LABELS,
    fit,
    read_label_mask,
    read_values,
    renumbered,
)
from s2l_images.reading.label_values import Encoding, count_values, encoding_of
from s2l_images.reading.pictures import PICTURES, read_image
from s2l_images.reading.unreadable import reading
from s2l_images.strokes import render


def read_folder(folder: Path, ids: Sequence[str] | None = None) -> list[CellImage]:
    """Images of a folder of one's own, or those of `ids` that are there.

    How scribbles are understood is printed once, and so are the warnings that the check would give
    on these images.

    Raises:
        Fault: whatever `s2l_images.folders.input_checks` calls an error of a file.
    """
    listing = sound(folder)
    settings = read_settings(listing.root)
    chosen = set(listing.ids if ids is None else ids)
    wanted = [i for i in listing.ids if i in chosen]

    # How values of label images and names of drawn items are understood.
    encoding = encoding_of(listing.root, {path: count_values(path) for path in listing.painted})
    if encoding.said:
        say(f"{listing.root / 'scribbles'}: {encoding.said}")
    counts = [count_items(listing, i, encoding, settings) for i in wanted]
    if any(counts):
        say(f"{listing.root / 'scribbles'}: {understood(sum(counts, Counter()))}")

    cells, looked, found = [], [], []
    for i in wanted:
        file = listing.files["images"][i][0]
        image, remarks = read_image(file, settings.channel)
        found += [*remarks, *image_checks.image_findings(file, image)]

        mask = None
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
    """Prints what is worse than a note among findings, one line a kind, each once."""
    kinds: dict[str, list[Finding]] = {}
    for finding in found:
        if finding.level != "note":
            kinds.setdefault(finding.code, []).append(finding)
    for code, group in kinds.items():
        more = f" (and {len(group) - 1} more like it)" if len(group) > 1 else ""
        first = group[0]
        inside = first.file.is_relative_to(root)
        where = Path(root.name, first.file.relative_to(root)) if inside else first.file
        say(f"{first.level}: {code}: {where}: {first.found}{more}. {first.remedy}")


def count_items(
    listing: Listing, i: str, encoding: Encoding, settings: Settings = USUAL
) -> Counter[tuple[str, int]]:
    """How many items drawn on an image bear which name, and the class it was taken for.

    Empty where no file of ROIs or the like belongs to the image.

    Raises:
        Fault: see `input_faults.toml`.
    """
    files = listing.files["scribbles"].get(i, [])
    if not files or i in listing.strokes or files[0].suffix.lower() in PICTURES:
        return Counter()
    with reading(files[0]):
        return annotations.count_classes(files[0], encoding.words, settings.plane)


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
        instances, remarks = renumbered(path, instances)
        return instances, found + remarks


def read_scribbles(
    listing: Listing,
    i: str,
    shape: tuple[int, int],
    encoding: Encoding,
    found: list[Finding] | None = None,
    settings: Settings = USUAL,
) -> np.ndarray | None:
    """Scribbles (H, W) uint8 of 0, 1 and IGNORE of an image, or None; what was left out is appended
    to `found`.

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

    # A label image: a class for each value.
    values = read_values(path)
    fit(path, values, shape)
    known = np.array(sorted(encoding.classes))
    classes = np.array([encoding.classes[value] for value in known.tolist()], np.uint8)
    return classes[np.searchsorted(known, values)]  # (H, W)
