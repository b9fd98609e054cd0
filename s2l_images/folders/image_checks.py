"""Checks of arrays that were read without error: an image, a mask, scribbles, images compared.

The check and the reading of a folder call the same functions, so that whoever trains or predicts is
told what the check would have said.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.measure import label

from s2l_core.config import digest
from s2l_images.faults import Finding, listed
from s2l_images.strokes import Stroke, covered, pieces

SIDES = ("background", "foreground")


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of an image after it was looked at.

    Attributes:
        file: of the image.
        pixels: how many it has.
        colour: whether it is in colour.
        deep: whether its file has more than 8 bits.
        key: hash of its pixels.
        drawn: pixels of background and foreground, or None where its scribbles were not read.
    """

    file: Path
    pixels: int
    colour: bool
    deep: bool
    key: str
    drawn: np.ndarray | None


def seen(
    file: Path, image: np.ndarray, remarks: Sequence[Finding], drawn: np.ndarray | None
) -> Seen:
    """What is kept of an image (H, W, 3) uint8 and of the remarks on its reading."""
    return Seen(
        file=file,
        pixels=image.shape[0] * image.shape[1],
        colour=bool((image != image[..., :1]).any()),
        deep=any(remark.code == "image-deep" for remark in remarks),
        key=digest(str(image.shape).encode() + image.tobytes(), 64),
        drawn=drawn,
    )


def image_findings(file: Path, image: np.ndarray) -> Iterator[Finding]:
    """What is odd about an image (H, W, 3) uint8."""
    height, width = image.shape[:2]
    if min(height, width) < 32:
        yield Finding("image-tiny", file, f"{height} x {width} pixels")

    low, bright = image.min(), np.percentile(image, 99.9)
    if low == image.max():
        yield Finding("image-constant", file, f"every pixel is {low}")
    if bright < 26:
        yield Finding("image-dark", file, f"99.9 % of the values are at most {bright:.0f}")


def mask_findings(file: Path, mask: np.ndarray) -> Iterator[Finding]:
    """What is odd about instances (H, W)."""
    numbers, areas = np.unique(mask[mask > 0], return_counts=True)
    if not len(numbers):
        yield Finding("mask-empty", file, "no nucleus")
        return
    share = areas.sum() / mask.size
    if share > 0.95:
        yield Finding("mask-no-background", file, f"{share:.0%} of it is labelled")

    # The largest connected piece of each label. Memory follows the pixels, not the largest label.
    connected = label(mask, background=0)
    _, first = np.unique(connected, return_index=True)
    first = first[-connected.max() :]  # without the background's
    largest = np.zeros(len(numbers), int)
    places = np.searchsorted(numbers, mask.flat[first])
    np.maximum.at(largest, places, np.bincount(connected.ravel())[1:])
    broken = numbers[largest < 0.9 * areas].tolist()
    if broken:
        found = f"{len(broken)} of {len(numbers)} labels lie in pieces ({listed(broken)})"
        yield Finding("mask-pieces", file, found)

    usual, most = np.median(areas), areas.argmax()
    if len(numbers) > 4 and areas[most] > 10 * usual:
        found = f"label {numbers[most]} has {areas[most]} pixels, half of the labels"
        found = f"{found} {usual:.0f} or fewer"
        yield Finding("mask-merged", file, found)
    if len(numbers) > 20 and usual < 10:
        found = f"{len(numbers)} labels, half of them with {usual:.0f} pixels or fewer"
        yield Finding("mask-specks", file, found)


def drawn_pixels(scribbles: np.ndarray) -> np.ndarray:
    """Pixels (2,) of background and foreground in scribbles (H, W)."""
    return np.array([(scribbles == side).sum() for side in (0, 1)])


def scribble_findings(file: Path, scribbles: np.ndarray, whose: str = "") -> Iterator[Finding]:
    """What is odd about scribbles (H, W); `whose` goes before what is said."""
    drawn = drawn_pixels(scribbles)
    if not drawn.any():
        yield Finding("scribble-empty", file, f"{whose}nothing is drawn")
        return
    if not drawn.all():
        found = f"{whose}only {SIDES[drawn.argmax()]} is drawn"
        yield Finding("scribble-one-class", file, found)
    for side, pixels in zip(SIDES, drawn, strict=True):
        if 0 < pixels < 30:
            yield Finding("scribble-few", file, f"{whose}{pixels} pixels of {side}")
    if drawn.sum() > scribbles.size / 2:
        share = drawn.sum() / scribbles.size
        yield Finding("scribble-dense", file, f"{whose}{share:.0%} of the image is drawn on")


def contradiction_findings(
    file: Path, scribbles: np.ndarray, mask: np.ndarray, whose: str = ""
) -> Iterator[Finding]:
    """Whether scribbles (H, W) lie where instances (H, W) say otherwise."""
    said = ("background strokes lie on nuclei", "foreground strokes lie on background")
    wrong = []
    for side in (0, 1):
        on_nucleus = mask[scribbles == side] > 0
        share = (on_nucleus != side).mean() if on_nucleus.size else 0
        if share > 0.1:
            wrong.append(f"{share:.0%} of {said[side]}")
    if wrong:
        yield Finding("scribble-contradicts-mask", file, whose + " and ".join(wrong))


def stroke_findings(
    file: Path, strokes: Sequence[Stroke], shape: tuple[int, int], whose: str = ""
) -> Iterator[Finding]:
    """Strokes that lie outside their image."""
    outside = 0
    for stroke in strokes:
        if not any(covered(piece, shape)[0].size for piece in pieces(stroke, shape)):
            outside += 1
    if outside:
        found = f"{whose}{outside} of {len(strokes)} strokes outside the image"
        yield Finding("strokes-astray", file, found)


def compared(images: Path, found: Sequence[Seen]) -> Iterator[Finding]:
    """What shows only when images are compared; `images` is their folder."""
    yield from _mixed(images, "mixed-colour", ("grey", "in colour"), _sorted(found, "colour"))
    yield from _mixed(images, "mixed-depth", ("of 8 bits", "of more"), _sorted(found, "deep"))

    usual = np.median([one.pixels for one in found]) if found else 0
    for one in found:
        if one.pixels > 16 * usual:
            text = f"{one.pixels:,} pixels, half of the images {usual:,.0f} or fewer"
            yield Finding("image-much-larger", one.file, text)

    alike = defaultdict(list)
    for one in found:
        alike[one.key].append(one.file)
    for files in alike.values():
        if len(files) > 1:
            others = listed([file.name for file in files if file != files[1]])
            yield Finding("duplicate-images", files[1], f"the same pixels as {others}")


def _sorted(found: Sequence[Seen], field: str) -> Mapping[bool, list[str]]:
    """Names of the images of which a field is true, and of the others."""
    names: dict[bool, list[str]] = {False: [], True: []}
    for one in found:
        names[one.colour if field == "colour" else one.deep].append(one.file.name)
    return names


def _mixed(
    images: Path, code: str, kinds: tuple[str, str], names: Mapping[bool, list[str]]
) -> Iterator[Finding]:
    """Two kinds of images in one folder; the rarer ones are named."""
    if names[False] and names[True]:
        rare = (
            min(names.values(), key=len) if len(names[False]) != len(names[True]) else names[True]
        )
        counts = f"{len(names[False])} are {kinds[0]}, {len(names[True])} {kinds[1]}"
        yield Finding(code, images, f"{counts} ({listed(rare)})")
