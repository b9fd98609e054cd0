"""What the pixels of a file mean: an image for the network, labels, or measurements.

An image becomes 8 bits a colour. One with more bits is mapped linearly, its own 0.1 and 99.9
percentiles to 0 and 255: cameras rarely fill their range, and one hot pixel must not decide.
Images are taken as they are shown; labels and measurements are the numbers that were written, even
where a palette or "white is zero" shows them otherwise.
"""

import io
import math
from pathlib import Path

import numpy as np
from skimage.measure import label

from s2l_core.config import S2LError
from s2l_images.decoding import read_pixels
from s2l_images.faults import Fault, Finding, listed
from s2l_images.items import members
from s2l_images.measured import Measured
from s2l_images.parsers import size_of
from s2l_images.pixels import Pixels
from s2l_images.unreadable import reading

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
LABELS = (".tif", ".tiff", ".png", ".npy", ".npz")
# Values of label images beside numbers: no paint, and COLOUR + 0xRRGGBB.
TRANSPARENT, COLOUR = -1, 1 << 32
LARGEST_LABEL = 2**24  # a label of a mask above is renumbered: tables so long would cost memory


def read_image(path: Path, channel: str | int | None = None) -> tuple[np.ndarray, list[Finding]]:
    """An image (H, W, 3) uint8, and what was done to it or left out.

    Args:
        path: PNG, JPEG or TIFF.
        channel: the one to be seen, by its name or its number from 1; "RGB" for the three colours
            of an image that has more channels. None: the image is grey or in colour.

    Raises:
        Fault: see `input_faults.toml`.
    """
    with reading(path):
        pixels = read_pixels(path)
        remarks = list(pixels.remarks)
        chosen = _chosen_channels(path, pixels, channel, remarks)
        values = _shown(pixels)[..., chosen]  # (H, W, 1 or 3)
        remarks += _transparency(path, pixels)

        if values.dtype != np.uint8:
            values, low, high = _eight_bits(path, values)
            found = f"{low:g} to {high:g} are mapped to 0 to 255"
            remarks.append(Finding("image-deep", path, found))
        if values.shape[2] == 1:
            values = np.repeat(values, 3, axis=2)  # (H, W, 3)
        return np.ascontiguousarray(values), remarks


def raw_channels(path: Path) -> Measured:
    """All channels of an image as the camera wrote them, with the size of a pixel.

    Raises:
        Fault: see `input_faults.toml`.
    """
    pixels = read_pixels(path)
    unit = "um" if pixels.pixel_size else ""
    return Measured(pixels.values, pixels.channels, pixels.pixel_size, unit)


def _chosen_channels(
    path: Path, pixels: Pixels, channel: str | int | None, remarks: list[Finding]
) -> list[int]:
    """Places of the channels that are seen: one, or red, green and blue."""
    names, count = pixels.channels, len(pixels.channels)
    if pixels.palette is not None:
        return [0, 1, 2]
    shown = listed([f"{k} = {name!r}" for k, name in enumerate(names, 1)], 8)

    # Without a choice, nothing may be left out.
    constant = [pixels.values[..., k].min() == pixels.values[..., k].max() for k in range(count)]
    if channel is None:
        if count == 1 or (count == 3 and pixels.colour):
            return list(range(count))
        if pixels.colour and all(constant[3:]):
            found = f"{count} channels ({shown}); those after blue are empty and left out"
            remarks.append(Finding("channels-left-out", path, found))
            return [0, 1, 2]
        raise Fault("image-channels", path, f"holds {count} channels: {shown}")

    if pixels.colour and str(channel).casefold() == "rgb":
        chosen = [0, 1, 2]
    elif isinstance(channel, str):
        alike = [k for k, name in enumerate(names) if name.casefold() == channel.casefold()]
        if names == ("",):  # a channel that was saved alone lost its name
            alike = [0]
        chosen = alike[:1]
    else:
        chosen = [channel - 1] if 1 <= channel <= count else []
    if not chosen:
        raise Fault("no-such-channel", path, f"has no channel {channel!r} but {shown}")
    if len(chosen) < count:
        left = listed([repr(name) for k, name in enumerate(names) if k not in chosen], 8)
        remarks.append(Finding("channels-left-out", path, f"{channel!r} is read, {left} is not"))
    return chosen


def _transparency(path: Path, pixels: Pixels) -> list[Finding]:
    if pixels.opacity is None:
        return []
    if not pixels.opacity.any():
        raise Fault("image-hidden", path, "every pixel is transparent")
    hidden = float((pixels.opacity == 0).mean())
    if not hidden:
        return []
    found = f"{hidden:.0%} of the pixels are transparent"
    return [Finding("image-transparent", path, found)]


def _shown(pixels: Pixels) -> np.ndarray:
    """Values (H, W, C) as a viewer shows them: bright is large, colours are red, green, blue."""
    values = pixels.values
    if pixels.palette is not None:
        return pixels.palette[values[..., 0]]
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if pixels.white_is_zero:
        if values.dtype.kind == "u":
            values = values.dtype.type(2**pixels.bits - 1) - values
        else:
            values = values.max().astype(np.float64) - values
    if values.dtype == np.uint8 and pixels.bits < 8:
        values = values * (255 / (2**pixels.bits - 1))
        values = np.rint(values).astype(np.uint8)
    return values


def _eight_bits(path: Path, values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values as uint8, and those that became 0 and 255."""
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise Fault("image-not-finite", path, f"{bad} pixels are NaN or infinite")
    low, high = np.percentile(values, (0.1, 99.9)).tolist()
    if low == high:  # a few spots on nothing
        low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        raise Fault("image-not-finite", path, f"values from {low:g} to {high:g}")

    # Single precision holds numbers of 16 bits exactly; larger ones would lose their differences.
    small = values.dtype.itemsize <= 2
    scaled = values.astype(np.float32 if small else np.float64)
    scaled -= low
    scaled *= 255 / ((high - low) or 1)
    return np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled).astype(np.uint8), low, high


# Labels


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
        found = f"{bad} pixels of {values.dtype} are negative or no whole numbers"
        raise Fault("label-values", path, found)
    if values.dtype.kind == "f":
        if float(values.max(initial=0)) > 2**53:
            raise Fault("label-values", path, f"numbers up to {values.max():g}")
        return values.astype(np.int64)
    return values


def numbered(path: Path, values: np.ndarray) -> tuple[np.ndarray, list[Finding]]:
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

        instances, remarks = numbered(path, values)
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
        nought = f"0 is on {empty:.0%} of the image alone" if empty else "no pixel is 0"
        raise Fault("mask-background", path, f"{nought}, {listed(shares, 3)}")


def _from_numpy(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """An array of NumPy's, bare or alone in an archive; never a pickled object."""
    size, limit = size_of(path), 8 * math.prod(shape) + 2**20
    if size > limit:
        found = f"{size} bytes; at most {limit} fit an image of {shape}"
        raise S2LError(f"{found}. Save one plane without extras.")
    data = path.read_bytes()
    if data[:2] == b"PK":
        ((_, data),) = members(data, ".npy", 8 * math.prod(shape) + 2**16)

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
        raise Fault("label-size", path, f"an array of shape {found}, its image {shape}")
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if values.dtype.kind not in "buif":
        raise Fault("label-values", path, f"numbers of {values.dtype}")
    return values


def fit(path: Path, labels: np.ndarray, shape: tuple[int, int]) -> None:
    """Raises a Fault unless labels have the shape of their image."""
    if labels.shape != tuple(shape):
        sizes = [" x ".join(map(str, size)) for size in (labels.shape, shape)]
        raise Fault("label-size", path, f"{sizes[0]} pixels, its image {sizes[1]}")
