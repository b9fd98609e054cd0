"""What a TIFF tells of itself, as ImageJ and OME write it: planes, channels, calibration and the
size of a pixel.
"""

import math
from dataclasses import dataclass

from defusedxml import ElementTree
from tifffile import TiffFile, TiffPage

PLAUSIBLE = (0.01, 20.0)  # micrometres of a pixel, where a file tells no more than dots per inch
_IMAGEJ_UNITS = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "\\u00b5m": 1.0,
                 "micrometer": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0,
                 "å": 1e-4, "pm": 1e-6}  # fmt: skip


@dataclass
class Description:
    """What the description in a TIFF tells, as ImageJ and OME write it.

    Attributes:
        program: who wrote the description, or "".
        planes: how many it promises, channels included.
        count: how many channels it promises.
        channels: their names.
        pixel_size: micrometres.
        calibration: offset and slope of ImageJ's straight line, or None.
        contiguous: channels that follow the first page without pages of their own.
    """

    program: str = ""
    planes: int = 1
    count: int = 1
    channels: tuple[str, ...] = ()
    pixel_size: float | None = None
    calibration: tuple[float, float] | None = None
    contiguous: int = 1


def described(tiff: TiffFile, page: TiffPage) -> Description:
    """What a description says; nothing where it is damaged."""
    text = page.description or ""
    try:
        if tiff.is_imagej:
            return _imagej(tiff.imagej_metadata or {}, page)
        if "<OME" in text[:1000] or "<ome" in text[:1000]:
            return _ome(text)
    except (ValueError, TypeError, KeyError, ZeroDivisionError, ElementTree.ParseError):
        pass
    except StopIteration:  # an OME-XML whose <Pixels> lie in a companion file
        pass
    return Description()


def _imagej(said: dict, page: TiffPage) -> Description:
    count = max(int(said.get("channels", 1)), 1)
    others = max(int(said.get("slices", 1)), 1) * max(int(said.get("frames", 1)), 1)
    planes = max(int(said.get("images", 1)), count * others)

    names = said.get("Labels") or ()
    names = tuple(str(name).split("\n")[0].strip() for name in names) if count > 1 else ()

    # A straight line from numbers to values: signed numbers are stored with 32768 added.
    calibration = None
    if "c0" in said and "c1" in said and int(said.get("cf", 0)) == 0:
        calibration = float(said["c0"]), float(said["c1"])

    unit = _IMAGEJ_UNITS.get(str(said.get("unit", "")).strip().lower())
    size = _resolution(page, unit) if unit else None
    return Description("ImageJ", planes, count, names, size, calibration)


def _ome(text: str) -> Description:
    """Of the first image of an OME-XML."""
    root = ElementTree.fromstring(text.strip("\0 \n").encode())
    pixels = next(one for one in root.iter() if one.tag.rpartition("}")[2] == "Pixels")
    found = pixels.attrib
    sizes = {axis: max(int(found.get(f"Size{axis}", 1)), 1) for axis in "CZT"}
    channels = [one for one in pixels if one.tag.rpartition("}")[2] == "Channel"]
    names = tuple(one.get("Name") or f"channel {k + 1}" for k, one in enumerate(channels))

    size, unit = None, _IMAGEJ_UNITS.get(found.get("PhysicalSizeXUnit", "µm").lower())
    if unit and "PhysicalSizeX" in found:
        across = float(found["PhysicalSizeX"])
        down = float(found.get("PhysicalSizeY", across))
        size = _square(across * unit, down * unit)
    return Description("OME", math.prod(sizes.values()), sizes["C"], names, size)


def _square(across: float, down: float) -> float | None:
    """The side of a pixel where both sides are alike, as they are in a microscope."""
    good = 0 < across < math.inf and abs(down - across) <= 0.01 * across
    return across if good else None


def _resolution(page: TiffPage, micrometres: float) -> float | None:
    """Micrometres of a pixel, from how many there are to a unit of so many micrometres."""
    ratios = [page.tags.valueof(tag) for tag in (282, 283)]
    if not all(isinstance(ratio, tuple) and ratio[0] and ratio[1] for ratio in ratios):
        return None
    across, down = (micrometres * ratio[1] / ratio[0] for ratio in ratios)
    return _square(across, down)


def printed_size(page: TiffPage) -> float | None:
    """Of a file that tells dots per inch or centimetre: believed only if a microscope may have it,
    because 72 and 300 stand in files that were never measured.
    """
    unit = {2: 25400.0, 3: 1e4}.get(page.tags.valueof(296, 2))
    size = _resolution(page, unit) if unit else None
    return size if size and PLAUSIBLE[0] <= size <= PLAUSIBLE[1] else None
