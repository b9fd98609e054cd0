"""What the pixels of a file mean: an image for the network, or measurements.

An image becomes 8 bits a colour. One with more bits is mapped linearly, its own 0.1 and 99.9
percentiles to 0 and 255: cameras rarely fill their range, and one hot pixel must not decide.
Images are taken as they are shown; measurements are the numbers that were written, even where a
palette or "white is zero" shows them otherwise. `label_images` reads labels.
"""

import math
from pathlib import Path

import numpy as np

from s2l_images.faults import Fault, Finding, listed
from s2l_images.reading.decoding import read_pixels
from s2l_images.reading.measured import Measured
from s2l_images.reading.pixels import Pixels
from s2l_images.reading.unreadable import reading

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


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
        if len(alike) > 1:
            found = f"{len(alike)} channels are called {channel!r} (choose by number): {shown}"
            raise Fault("image-channels", path, found)
        chosen = alike
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
