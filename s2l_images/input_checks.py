"""What is wrong with a folder of one's own, before anything is trained: `python -m s2l_images.input_checks FOLDER`.

Errors are what reading and training stop at; warnings and notes are what they would not notice. All kinds are in
`faults.KINDS` and, explained, in `docs/bad_inputs.md`. One image is in memory at a time.
"""

import difflib
import hashlib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import label

from s2l_images.annotations import WORDS, understood
from s2l_images.faults import LEVELS, Fault, Finding, listed
from s2l_images.folder import (
    KINDS,
    SUFFIXES,
    Listing,
    count_items,
    read_mask,
    read_scribbles,
    split_folder,
    structure,
    survey,
)
from s2l_images.label_values import Encoding, count_values, encoding_of
from s2l_images.pictures import COLOUR, PICTURES, read_image
from s2l_images.places import own_results, own_strokes
from s2l_images.strokes import covered, pieces

SHOWN = 3  # findings of a kind that are printed in full
_MISNOMERS = (*KINDS, "image", "imgs", "scribble", "mask", "labels", "annotations", "truth", "gt")
_DUBIOUS = re.compile(r'[\x00-\x1f\\/:*?"<>|]|^[\s-]|[\s.]$|.{101}')  # in a file's stem
_SIDES = ("background", "foreground")


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of an image after it was looked at; `drawn`: pixels of background and foreground, unless unread."""

    file: Path
    pixels: int
    colour: bool
    deep: bool
    key: bytes
    drawn: np.ndarray | None


def check_folder(folder: Path) -> list[Finding]:
    """All that can be said of a folder of one's own, errors first. Nothing is raised, and nothing written."""
    found: list[Finding] = []
    with _noted(found):
        listing = survey(folder)
        found += [*structure(listing), *_places(listing), *_names(listing)]
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
                items += count_items(listing, i, encoding)
        if items:
            found.append(Finding("scribble-encoding", listing.root / "scribbles", understood(items)))
        seen: list[_Seen] = []
        for i in listing.ids:
            with _noted(found):
                seen.append(_look(listing, i, encoding, counts, found))
        found += [*_together(listing, seen)]
        split = split_folder(listing.root)
        if missing := [role for role in ("validation", "test") if not split[role]]:
            found.append(
                Finding(
                    "nothing-held-out",
                    listing.root,
                    f"no image is named for {' or '.join(missing)}",
                )
            )
    rank = {level: place for place, level in enumerate(LEVELS)}
    return sorted(
        dict.fromkeys(found),
        key=lambda finding: (rank[finding.level], finding.code, str(finding.file)),
    )


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
        if path.name in KINDS or path == own_results(listing.root):
            continue
        if path.is_dir() and difflib.get_close_matches(name, _MISNOMERS, 1, 0.8):
            yield Finding("wrong-folder-name", path, f"a folder {path.name}/")
        elif listing.ids and name.endswith(PICTURES):
            yield Finding("wrong-place", path, "an image beside images/")
    for kind in KINDS:
        for path in sorted((listing.root / kind).glob("*")):
            if path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini"):
                yield Finding("hidden-file", path, "a file of the system")
            elif path.is_dir():
                yield Finding("wrong-place", path, "a folder")
            elif path.suffix.lower() not in SUFFIXES[kind]:
                yield Finding(
                    "unsupported-suffix", path, f"a file of type {path.suffix or 'unknown'}"
                )


def _names(listing: Listing) -> Iterator[Finding]:
    """Names that other systems refuse or confuse, and images without labels."""
    for kind in KINDS:
        alike = defaultdict(list)
        for i, (path, *_) in listing.files[kind].items():
            alike[i.casefold()].append(i)
            if _DUBIOUS.search(i):
                yield Finding("odd-name", path, f"the name {i!r:.60}")
        for names in alike.values():
            if len(names) > 1:
                yield Finding("case-twins", listing.root / kind, f"{', '.join(names)}")
    for i in listing.ids:
        if i not in listing.scribbled:
            kind = (
                ("mask-only", "a mask, no scribbles")
                if i in listing.masked
                else ("unlabelled-image", "no label")
            )
            yield Finding(kind[0], listing.files["images"][i][0], kind[1])
    for i in sorted({*listing.strokes} - {*listing.ids}):
        yield Finding(
            "strokes-astray", own_strokes(listing.root), f"strokes on {i!r}, which is no image here"
        )


def _look(
    listing: Listing, i: str, encoding: Encoding, counts: Mapping, found: list[Finding]
) -> _Seen:
    """Everything about one image; what stops the reading of its labels is noted."""
    path = listing.files["images"][i][0]
    image, remarks = read_image(path)
    found += remarks
    found += [Finding(code, path, text) for code, text in _pixels(image) if text]
    scribbles = mask = None
    if i in listing.files["masks"]:
        with _noted(found):
            mask, remarks = read_mask(file := listing.files["masks"][i][0], image.shape[:2])
            found += remarks
            found += [Finding(code, file, text) for code, text in _mask(mask) if text]
            if not remarks:
                found += _labels(file, int(mask.max()))
    drawn, whose = (
        None if i in listing.scribbled else np.zeros(2, int),
        f"{i}: " * (i in listing.strokes),
    )
    file = listing.files["scribbles"].get(i, [own_strokes(listing.root)])[0]
    if i in listing.scribbled and (encoding.classes or file not in listing.painted):
        with _noted(found):
            scribbles = read_scribbles(listing, i, image.shape[:2], encoding, found)
            drawn = np.array([(scribbles == side).sum() for side in (0, 1)])
            found += [
                Finding(code, file, whose + text)
                for code, text in _scribbles(drawn, scribbles.size)
                if text
            ]
            found += _labels(file, max(counts.get(file, [COLOUR])))
            if mask is not None and (text := _contradiction(scribbles, mask)):
                found.append(Finding("scribble-contradicts-mask", file, whose + text))
    lines = listing.strokes.get(i, ()) if scribbles is not None else ()
    astray = [
        not any(covered(piece, image.shape[:2])[0].size for piece in pieces(s, image.shape[:2]))
        for s in lines
    ]
    if any(astray):
        outside = f"{sum(astray)} of {len(astray)} strokes outside the image"
        found.append(Finding("strokes-astray", file, whose + outside))
    colour, deep = (
        bool((image != image[..., :1]).any()),
        any(remark.code == "image-deep" for remark in remarks),
    )
    key = hashlib.sha256(str(image.shape).encode() + image.tobytes()).digest()
    return _Seen(path, image[..., 0].size, colour, deep, key, drawn)


def _pixels(image: np.ndarray) -> Iterator[tuple[str, str]]:
    """Code, and what is found in an image (H, W, 3) uint8 or nothing."""
    height, width = image.shape[:2]
    yield "image-tiny", f"{height} x {width} pixels" * (min(height, width) < 32)
    low, bright = image.min(), np.percentile(image, 99.9)
    yield "image-constant", f"every pixel is {low}" * bool(low == image.max())
    yield "image-dark", f"99.9 % of the values are at most {bright:.0f}" * bool(bright < 26)


def _scribbles(drawn: np.ndarray, size: int) -> Iterator[tuple[str, str]]:
    """Code, and what is found in scribbles or nothing."""
    yield "scribble-empty", "nothing is drawn" * (not drawn.any())
    yield (
        "scribble-one-class",
        f"only {_SIDES[drawn.argmax()]} is drawn" * bool(drawn.any() and not drawn.all()),
    )
    for side, pixels in zip(_SIDES, drawn, strict=True):
        yield "scribble-few", f"{pixels} pixels of {side}" * bool(0 < pixels < 30)
    yield (
        "scribble-dense",
        f"{drawn.sum() / size:.0%} of the image is drawn on" * bool(drawn.sum() > size / 2),
    )


def _mask(mask: np.ndarray) -> Iterator[tuple[str, str]]:
    """Code, and what is found in instances or nothing."""
    numbers, areas = np.unique(mask[mask > 0], return_counts=True)
    share = areas.sum() / mask.size
    yield "mask-empty", "no nucleus" * (not len(numbers))
    yield "mask-no-background", f"{share:.0%} of it is labelled" * bool(share > 0.95)
    if not len(numbers):
        return
    pieces = label(mask, background=0)
    first = np.unique(pieces, return_index=True)[1][-pieces.max() :]
    largest = np.zeros(len(numbers), int)
    np.maximum.at(
        largest, np.searchsorted(numbers, mask.flat[first]), np.bincount(pieces.ravel())[1:]
    )
    broken = numbers[largest < 0.9 * areas].tolist()
    yield (
        "mask-pieces",
        f"{len(broken)} of {len(numbers)} labels lie in pieces ({listed(broken)})" * bool(broken),
    )
    usual, most = np.median(areas), areas.argmax()
    merged = len(numbers) > 4 and areas[most] > 10 * usual
    text = f"label {numbers[most]} has {areas[most]} pixels, half of them {usual:.0f} or less"
    yield "mask-merged", text * bool(merged)
    specks = len(numbers) > 20 and usual < 10
    yield (
        "mask-specks",
        f"{len(numbers)} labels, half of them of {usual:.0f} pixels or less" * bool(specks),
    )


def _labels(path: Path, largest: int) -> Iterator[Finding]:
    """What is said of any label image, by its largest value."""
    if path.suffix.lower() in PICTURES and largest < COLOUR:
        if 0 < largest <= 20:
            yield Finding("label-looks-black", path, f"numbers up to {largest}")
        with Image.open(path) as picture:
            if picture.mode in ("RGB", "RGBA"):
                yield Finding("label-rgb", path, f"{picture.mode} without colours")


def _contradiction(scribbles: np.ndarray, mask: np.ndarray) -> str:
    wrong = [(mask[scribbles == side] > 0) != side for side in (0, 1)]
    shares = [values.mean() if values.size else 0 for values in wrong]
    places = ("background strokes lie on nuclei", "foreground strokes lie on background")
    return " and ".join(
        f"{share:.0%} of {place}"
        for share, place in zip(shares, places, strict=True)
        if share > 0.1
    )


def _together(listing: Listing, seen: Sequence[_Seen]) -> Iterator[Finding]:
    """What shows only when images are compared."""
    images, scribbles = listing.root / "images", listing.root / "scribbles"
    for code, kinds, values in (
        ("mixed-colour", ("grey", "in colour"), [one.colour for one in seen]),
        ("mixed-depth", ("of 8 bits", "of more"), [one.deep for one in seen]),
    ):
        if len({*values}) > 1:
            rare = sum(values) * 2 <= len(seen)
            few = listed(
                [one.file.name for one, value in zip(seen, values, strict=True) if value == rare]
            )
            yield Finding(
                code,
                images,
                f"{values.count(False)} are {kinds[0]}, {sum(values)} {kinds[1]} ({few})",
            )
    usual = np.median([one.pixels for one in seen]) if seen else 0
    for one in (one for one in seen if one.pixels > 16 * usual):
        text = f"{one.pixels:,} pixels, half of the images {usual:,.0f} or less"
        yield Finding("image-much-larger", one.file, text)
    alike = defaultdict(list)
    for one in seen:
        alike[one.key].append(one.file)
    for files in alike.values():
        if len(files) > 1:
            others = listed([file.name for file in files if file != files[1]])
            yield Finding("duplicate-images", files[1], f"the same pixels as {others}")
    if len(seen) < len(listing.ids) or any(one.drawn is None for one in seen):
        return
    drawn = sum((one.drawn for one in seen), np.zeros(2, int))
    if drawn.any() and not drawn.all() and not {*listing.masked} - {*listing.scribbled}:
        yield Finding("scribble-one-sided", scribbles, f"no {_SIDES[drawn.argmin()]} in any image")


def report(folder: Path, found: Sequence[Finding]) -> str:
    """The findings for people: kind by kind, with what to do."""
    kinds = defaultdict(list)
    for finding in found:
        kinds[finding.code].append(finding)
    lines = []
    for code, group in kinds.items():
        lines.append(f"{group[0].level}: {code}")
        for finding in group[:SHOWN]:
            inside = finding.file != folder and finding.file.is_relative_to(folder)
            where = finding.file.relative_to(folder) if inside else finding.file
            lines.append(f"  {where}: {finding.found}")
        lines += [f"  ... and {len(group) - SHOWN} more"] * (len(group) > SHOWN)
        lines.append(
            f"  expected {group[0].expected}. {group[0].remedy}".replace("  expected . ", "  ")
        )
    counts = {level: sum(finding.level == level for finding in found) for level in LEVELS}
    totals = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())
    return "\n".join([*lines, f"{folder}: {totals}. Each is explained in docs/bad_inputs.md."])


def main(arguments: list[str]) -> int:
    """Prints the report of a folder; 1 where there is an error, else 0."""
    if len(arguments) != 1:
        print("usage: python -m s2l_images.input_checks FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).expanduser()
    found = check_folder(folder)
    print(report(folder, found))
    return int(any(finding.level == "error" for finding in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
