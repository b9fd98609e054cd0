"""What is wrong with a folder of one's own, before anything is trained: `s2l check FOLDER`.

Errors are what reading and training stop at; warnings and notes are what they would not notice. All
kinds are in `input_faults.toml` and, explained, in `docs/bad_inputs.md`. One image is in memory at
a time.
"""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from s2l_images.annotation_files.item_classes import WORDS, understood
from s2l_images.faults import LEVELS, Fault, Finding, printable
from s2l_images.folders import image_checks
from s2l_images.folders.folder import count_items, read_mask, read_scribbles, scribble_findings
from s2l_images.folders.listing import SUBFOLDERS, SUFFIXES, Listing, structure, survey
from s2l_images.folders.roles import split_folder
from s2l_images.folders.settings import Settings, read_settings
from s2l_images.places import own_results, own_strokes
from s2l_images.reading.decoding import read_pixels
from s2l_images.reading.label_values import Encoding, count_values, encoding_of
from s2l_images.reading.pictures import PICTURES, read_image

FINDINGS_LISTED = 3  # findings of a kind that are printed in full
_MISNOMERS = (
    *SUBFOLDERS,
    "image",
    "imgs",
    "scribble",
    "mask",
    "labels",
    "annotations",
    "truth",
    "gt",
)
_DUBIOUS = re.compile(r'[\x00-\x1f\\/:*?"<>|]|^[\s-]|[\s.]$|.{101}')  # in a file's stem


def check_folder(folder: Path) -> list[Finding]:
    """All that can be said of a folder of one's own, errors first; nothing is raised or written."""
    found: list[Finding] = []
    with _noted(found):
        listing = survey(folder)
        found += [*structure(listing), *_places(listing), *_names(listing)]

        # What cannot be followed is noted, and the rest is looked at as if it were not there.
        settings = Settings()
        with _noted(found):
            settings = read_settings(listing.root)
        encoding = _encoding(listing, settings, found)

        seen: list[image_checks.Seen] = []
        for i in listing.ids:
            with _noted(found):
                seen.append(_look(listing, i, encoding, settings, found))
        found += image_checks.compared(listing.root / "images", seen)
        found += _one_sided(listing, seen)

        split = split_folder(listing.root)
        missing = [role for role in ("validation", "test") if not split[role]]
        if missing:
            text = f"no image is named for {' or '.join(missing)}"
            found.append(Finding("nothing-held-out", listing.root, text))

    def order(finding: Finding) -> tuple:
        return LEVELS.index(finding.level), finding.code, str(finding.file)

    return sorted(dict.fromkeys(found), key=order)


def _encoding(listing: Listing, settings: Settings, found: list[Finding]) -> Encoding:
    """What scribbles mean, as far as it can be told."""
    counts: dict[Path, Mapping[int, int]] = {}
    for path in listing.painted:
        with _noted(found):
            counts[path] = count_values(path)
    encoding = Encoding({}, WORDS, "")
    with _noted(found):
        encoding = encoding_of(listing.root, counts)
    if encoding.said:
        found.append(Finding("scribble-encoding", listing.root / "scribbles", encoding.said))

    items = Counter()
    for i in listing.ids:
        with _noted([]):  # what is wrong with a file is noted when it is drawn
            items += count_items(listing, i, encoding, settings)
    if items:
        found.append(Finding("scribble-encoding", listing.root / "scribbles", understood(items)))
    return encoding


@contextmanager
def _noted(found: list[Finding]) -> Iterator[None]:
    """A Fault inside becomes a finding, and what follows goes on."""
    try:
        yield
    except Fault as fault:
        found.append(fault.finding)


def _places(listing: Listing) -> Iterator[Finding]:
    """What is not read, and what leads elsewhere."""
    for path in sorted(listing.root.iterdir()):
        name = path.name.lower()
        if path.name in SUBFOLDERS or path == own_results(listing.root):
            continue
        if path.is_dir() and difflib.get_close_matches(name, _MISNOMERS, 1, 0.8):
            yield Finding("wrong-folder-name", path, f"a folder {path.name}/")
        elif listing.ids and name.endswith(PICTURES):
            yield Finding("wrong-place", path, "an image beside images/")
    for kind in SUBFOLDERS:
        for path in sorted((listing.root / kind).glob("*")):
            if path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini"):
                yield Finding("hidden-file", path, "a file of the operating system")
            elif path.is_dir():
                yield Finding("wrong-place", path, "a folder")
            elif path.suffix.lower() not in SUFFIXES[kind]:
                yield Finding(
                    "unsupported-suffix", path, f"a file of type {path.suffix or 'unknown'}"
                )


def _names(listing: Listing) -> Iterator[Finding]:
    """Names that other systems refuse or confuse, and images without labels."""
    for kind in SUBFOLDERS:
        alike = defaultdict(list)
        for i, (path, *_) in listing.files[kind].items():
            alike[i.casefold()].append(i)
            if _DUBIOUS.search(i):
                yield Finding("odd-name", path, f"the name {i!r:.60}")
        for names in alike.values():
            if len(names) > 1:
                yield Finding("case-twins", listing.root / kind, f"{', '.join(names)}")

    for i in listing.ids:
        file = listing.files["images"][i][0]
        if i in listing.scribbled:
            continue
        if i in listing.masked:
            yield Finding("mask-only", file, "a mask, no scribbles")
        else:
            yield Finding("unlabelled-image", file, "no label")

    for i in sorted({*listing.strokes} - {*listing.ids}):
        yield Finding(
            "strokes-astray",
            own_strokes(listing.root),
            f"strokes on {i!r}, which is not an image of this folder",
        )


def _look(
    listing: Listing, i: str, encoding: Encoding, settings: Settings, found: list[Finding]
) -> image_checks.Seen:
    """Everything about one image; what stops the reading of its labels is noted."""
    path = listing.files["images"][i][0]
    image, remarks = read_image(path, settings.channel)
    found += [*remarks, *image_checks.image_findings(path, image)]

    mask = scribbles = None
    if i in listing.files["masks"]:
        with _noted(found):
            file = listing.files["masks"][i][0]
            mask, remarks_on_mask = read_mask(file, image.shape[:2], settings)
            found += [*remarks_on_mask, *image_checks.mask_findings(file, mask)]
            if not any(remark.code == "mask-binary" for remark in remarks_on_mask):
                found += _label_notes(file)

    # Where the values of label images have no meaning yet, that is what is wrong with them.
    drawn = None if i in listing.scribbled else np.zeros(2, int)
    file = listing.files["scribbles"].get(i, [own_strokes(listing.root)])[0]
    if i in listing.scribbled and (encoding.classes or file not in listing.painted):
        with _noted(found):
            scribbles = read_scribbles(listing, i, image.shape[:2], encoding, found, settings)
            drawn = image_checks.drawn_pixels(scribbles)
            found += scribble_findings(listing, i, scribbles, mask)
            found += _label_notes(file)
    return image_checks.seen(path, image, remarks, drawn)


def _label_notes(path: Path) -> Iterator[Finding]:
    """What is said of any label image: small numbers look black, and grey may be saved as RGB."""
    if path.suffix.lower() not in PICTURES:
        return
    pixels = read_pixels(path)
    shown = pixels.palette is not None and pixels.form == "PNG"
    if shown or not (pixels.values == pixels.values[..., :1]).all():
        return  # colours
    largest = pixels.values.max()
    if 0 < largest <= 20:
        yield Finding("label-looks-black", path, f"numbers up to {largest:g}")
    if pixels.colour:
        yield Finding("label-rgb", path, "RGB without colours")


def _one_sided(listing: Listing, seen: Sequence[image_checks.Seen]) -> Iterator[Finding]:
    """A class that is drawn in no image at all, if all of them could be read."""
    if len(seen) < len(listing.ids) or any(one.drawn is None for one in seen):
        return
    drawn = sum((one.drawn for one in seen), np.zeros(2, int))
    masks_alone = set(listing.masked) - set(listing.scribbled)
    if drawn.any() and not drawn.all() and not masks_alone:
        found = f"no {image_checks.SIDES[drawn.argmin()]} in any image"
        yield Finding("scribble-one-sided", listing.root / "scribbles", found)


def report(folder: Path, found: Sequence[Finding]) -> str:
    """The findings for people: kind by kind, with what to do, in characters that can be printed."""
    kinds = defaultdict(list)
    for finding in found:
        kinds[finding.code].append(finding)

    lines = []
    for code, group in kinds.items():
        lines.append(f"{group[0].level}: {code}")
        for finding in group[:FINDINGS_LISTED]:
            inside = finding.file != folder and finding.file.is_relative_to(folder)
            where = finding.file.relative_to(folder) if inside else finding.file
            lines.append(f"  {where}: {finding.found}")
        if len(group) > FINDINGS_LISTED:
            lines.append(f"  ... and {len(group) - FINDINGS_LISTED} more")
        expected = f"expected {group[0].expected}. " if group[0].expected else ""
        lines.append(f"  {expected}{group[0].remedy}")

    totals = []
    for level in LEVELS:
        count = sum(finding.level == level for finding in found)
        totals.append(f"{count} {level}" if count == 1 else f"{count} {level}s")
    lines.append(f"{folder}: {', '.join(totals)}. Each is explained in docs/bad_inputs.md.")
    return printable("\n".join(lines))
