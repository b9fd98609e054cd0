"""What an image measured, as its file tells it."""

from dataclasses import dataclass

import numpy as np

# Micrometres in a unit, as ImageJ and OME spell it; what is none of these is no length.
MICRONS_PER_UNIT = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "micrometre": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4,
    "m": 1e6, "inch": 25400.0,
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Raw values of an image, which no display changed.

    Attributes:
        values: (H, W, C) as in the file.
        channels: their names; an empty one where the file tells none and there is only one.
        pixel_size: the width of a pixel in `unit`, or None.
        unit: such as "um", or "".
    """

    values: np.ndarray
    channels: tuple[str, ...]
    pixel_size: float | None = None
    unit: str = ""


def micrometres(measured: Measured | None) -> float | None:
    """The size of a pixel in micrometres, where the image file tells it."""
    if measured is None or not measured.pixel_size:
        return None
    unit = MICRONS_PER_UNIT.get((measured.unit or "").strip().casefold())
    return measured.pixel_size * unit if unit else None
