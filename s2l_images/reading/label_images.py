"""Label images: masks, and scribbles that were painted, as the numbers or colours of their pixels.

Labels are the numbers that were written, even where a palette or "white is zero" shows them
otherwise; only the palette of a PNG may mean colours.
"""

import io
import math
from pathlib import Path

import numpy as np
from skimage.measure import label

from s2l_core.config import S2LError
from s2l_images.annotation_files.items import members
from s2l_images.annotation_files.parsers import size_of
from s2l_images.faults import Fault, Finding, listed
from s2l_images.reading.decoding import read_pixels
from s2l_images.reading.unreadable import reading

LABELS = (".tif", ".tiff", ".png", ".npy", ".npz")
# Values of label images beside numbers: no paint, and COLOUR + 0xRRGGBB.
TRANSPARENT, COLOUR = -1, 1 << 32
LARGEST_LABEL = 2**24  # a label of a mask above is renumbered: tables so long would cost memory


def read_values(path: Path, *, indexed: bool = False) -> np.ndarray:
    """A label image (H, W) int64: numbers, TRANSPARENT, or COLOUR + 0xRRGGBB where red, green and
    blue differ.

    Args:
        path: PNG or TIFF.
        indexed: the palette of a PNG means numbers, not the colours that are seen. That of a TIFF
            always does, as ImageJ's; a pixel that is less than half opaque is transparent.

    Raises:
        Fault: see `input_faults.toml`.
    """
    with reading(path):
        values, painted = _label_values(path, indexed)
        if not painted and values.max() >= COLOUR:
            raise Fault("label-values", path, f"numbers up to {values.max()}")
        return values.astype(np.int64)


def _label_values(path: Path, indexed: bool) -> tuple[np.ndarray, bool]:
    """Whole numbers (H, W) of any type, TRANSPARENT among them, and whether they may be colours."""
    pixels = read_pixels(path)
    if pixels.lossy:
        kind = "a JPEG" if pixels.form == "JPEG" else f"a {pixels.form} compressed as JPEG"
        raise Fault("label-jpeg", path, kind)
    values = pixels.values
    if pixels.palette is not None and pixels.form == "PNG" and not indexed:
        values = pixels.palette[values[..., 0]]
    elif values.shape[2] == 1:
        numbers = _whole(path, values[..., 0])
        if pixels.opacity is not None and (pixels.opacity < 0.5).any():
            numbers = np.where(pixels.opacity < 0.5, TRANSPARENT, numbers.astype(np.int64))
        return numbers, False
    elif not pixels.colour or values.shape[2] > 3:
        raise Fault("label-values", path, f"{values.shape[2]} channels")

    # Grey that was saved as colour is its grey value.
    red, green, blue = np.moveaxis(_whole(path, values).astype(np.int64), 2, 0)
    grey = (red == green) & (green == blue)
    shift = max(pixels.bits - 8, 0)  # of 16 bits, the upper eight name the colour
    colour = (red >> shift << 16) + (green >> shift << 8) + (blue >> shift)
    found = np.where(grey, red, COLOUR + colour)
    if pixels.opacity is not None:
        found = np.where(pixels.opacity < 0.5, TRANSPARENT, found)
    return found, True


def _whole(path: Path, values: np.ndarray) -> np.ndarray:
    """The values, which must be whole numbers from 0."""
    if values.dtype.kind in "bu":
        return values
    bad = int((~((values >= 0) & (values % 1 == 0))).sum())
    if bad:
        found = f"{bad} pixels of {values.dtype} are negative or not whole numbers"
        raise Fault("label-values", path, found)
    if values.dtype.kind == "f":
        if float(values.max(initial=0)) > 2**53:
            raise Fault("label-values", path, f"numbers up to {values.max():g}")
        return values.astype(np.int64)
    return values


def renumbered(path: Path, values: np.ndarray) -> tuple[np.ndarray, list[Finding]]:
    """Labels (H, W) int32; where one is above `LARGEST_LABEL` they are numbered 1, 2, ... in their
    order.
    """
    largest = int(values.max(initial=0))
    if largest <= LARGEST_LABEL:
        return values.astype(np.int32), []
    known, places = np.unique(values, return_inverse=True)
    first = 0 if known[0] == 0 else 1
    count = len(known) - 1 + first
    found = f"{count} labels up to {largest} are numbered 1 to {count} in their order"
    numbers = (places.reshape(values.shape) + first).astype(np.int32)
    return numbers, [Finding("mask-renumbered", path, found)]


def read_label_mask(
    path: Path, shape: tuple[int, int], background: int | None = None
) -> tuple[np.ndarray, list[Finding]]:
    """Instances (H, W) int32 of a label image, and a remark where nuclei had to be counted.

    A label image with one value beside the background is taken apart into its connected pieces.

    Args:
        path: PNG, TIFF or an array of NumPy.
        shape: of its image.
        background: the number that is no nucleus. None: 0, and an image without one is refused.

    Raises:
        Fault: see `input_faults.toml`.
    """
    with reading(path):
        values = _numbers(path, shape)
        if background is None:
            _check_background(path, values)
        elif background:
            values = np.where(values == background, 0, values)

        instances, remarks = renumbered(path, values)
        numbers, counts = np.unique(instances[instances > 0], return_counts=True)
        if len(numbers) > 3 and numbers[-1] == 255 and 2 * counts[-1] > counts.sum():
            found = f"0, 255 and {len(numbers) - 1} values between, as a smoothed mask has"
            raise Fault("mask-smooth", path, found)
        if len(numbers) == 1:
            pieces, count = label(instances, return_num=True)
            if count > 1:
                share = counts[0] / instances.size
                found = f"0 and {numbers[0]} only, in {count} pieces on {share:.0%} of the image"
                return pieces.astype(np.int32), [Finding("mask-binary", path, found)]
        return instances, remarks


def _numbers(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Whole numbers (H, W) of a label image in which nothing is painted, transparent ones 0."""
    if path.suffix.lower() in (".npy", ".npz"):
        return _whole(path, _from_numpy(path, tuple(shape)))
    values, painted = _label_values(path, indexed=True)
    fit(path, values, shape)
    if painted and values.max() >= COLOUR:
        colours = len(np.unique(values[values >= COLOUR]))
        raise Fault("mask-colours", path, f"{colours} colours")
    return np.maximum(values, 0)


def _check_background(path: Path, values: np.ndarray) -> None:
    """Asks whether a number other than 0 is the background, as in ilastik's segmentations."""
    numbers, counts = np.unique(values, return_counts=True)
    labelled = numbers > 0
    if not labelled.any():
        return
    largest = counts[labelled].max() / values.size
    empty = 1 - counts[labelled].sum() / values.size
    if empty == 0 or (empty < 0.05 and largest > 0.5):
        order = np.argsort(-counts)
        shares = [f"{numbers[k]} on {counts[k] / values.size:.0%}" for k in order]
        nought = f"only {empty:.0%} of the pixels are 0" if empty else "no pixel is 0"
        raise Fault("mask-background", path, f"{nought}, {listed(shares, 3)}")


def _from_numpy(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """An array of NumPy's, bare or alone in an archive; never a pickled object."""
    size, limit = size_of(path), 8 * math.prod(shape) + 2**20
    if size > limit:
        found = f"{size} bytes; at most {limit} fit an image of {shape}"
        raise S2LError(f"{found}. Save one plane without extras.")
    data = path.read_bytes()
    if data[:2] == b"PK":
        arrays = list(members(data, ".npy", 8 * math.prod(shape) + 2**16))
        if len(arrays) != 1:
            raise S2LError(f"an archive of {len(arrays)} arrays. Save one of them alone.")
        ((_, data),) = arrays

    # The shape stands in the header; nothing larger than the image is made.
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    found, _, kind = headers[version](stream)
    if kind.hasobject:
        program = "an array of Python objects, as Cellpose's _seg.npy is"
        raise Fault("other-program", path, f"{program} (save its masks as PNG or TIFF instead)")
    if tuple(found) != shape:
        raise Fault("label-size", path, f"an array of shape {found}, but its image is {shape}")
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if values.dtype.kind not in "buif":
        raise Fault("label-values", path, f"numbers of {values.dtype}")
    return values


def fit(path: Path, labels: np.ndarray, shape: tuple[int, int]) -> None:
    """Raises a Fault unless labels have the shape of their image."""
    if labels.shape != tuple(shape):
        sizes = [" x ".join(map(str, size)) for size in (labels.shape, shape)]
        raise Fault("label-size", path, f"{sizes[0]} pixels, but its image has {sizes[1]}")
