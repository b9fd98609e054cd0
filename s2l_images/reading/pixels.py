"""What a decoder gives of an image file, and what files of all formats have in common: the way up,
transparency, and channels without a name.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from s2l_images.faults import Finding

OPAQUE_SHARE = 0.5  # of what is not wholly transparent: less, and a last channel is no alpha


@dataclass(frozen=True, eq=False)
class Pixels:
    """What an image file holds.

    Attributes:
        values: (H, W, C) as stored, upright, in native byte order, without alpha.
        channels: names of the C channels; empty strings where the file tells none.
        colour: the first three channels are red, green and blue.
        bits: of a value.
        white_is_zero: large numbers are shown dark.
        palette: (N, 3) uint8, the colour that each number is shown in, or None.
        opacity: (H, W) from 0 to 1, or None.
        form: `TIFF`, `PNG` or `JPEG`.
        lossy: the numbers went through JPEG.
        pixel_size: micrometres, or None.
        remarks: what was turned or left out.
    """

    values: np.ndarray
    channels: tuple[str, ...]
    colour: bool
    bits: int
    form: str
    white_is_zero: bool = False
    palette: np.ndarray | None = None
    opacity: np.ndarray | None = None
    lossy: bool = False
    pixel_size: float | None = None
    remarks: list[Finding] = field(default_factory=list)


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """An array (H, W, ...) as viewers show it, by the number that EXIF and TIFF give."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def turn_remark(path: Path, orientation: int) -> list[Finding]:
    """Says that an image was turned, where it was."""
    if orientation not in range(2, 9):
        return []
    return [Finding("image-turned", path, f"orientation {orientation}")]


def without_alpha(
    values: np.ndarray, highest: float | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Channels (H, W, C - 1) and opacity (H, W), or all C where the last one is no transparency.

    Programs write a fourth stain as the alpha of a picture. Transparency is opaque almost wherever
    it is not nought; a stain hardly ever is.
    """
    last = values[..., -1]
    if highest is None:  # floating point: 1, or what its brightest pixel has
        highest = max(float(last.max()), 1.0)
    visible = last[last > 0]
    constant = last.min() == last.max()
    if visible.size and not constant and (visible == highest).mean() < OPAQUE_SHARE:
        return values, None
    return values[..., :-1], last.astype(np.float32) / highest


def channel_names(count: int, colour: bool) -> tuple[str, ...]:
    """Names of channels that have none; one alone needs none."""
    if count == 1:
        return ("",)
    known = ("red", "green", "blue") if colour else ()
    return known + tuple(f"channel {k + 1}" for k in range(len(known), count))
