"""Files of images -> numbers: the one decoder of images, masks, scribbles and measurements.

tifffile with imagecodecs decodes every TIFF, Pillow and imagecodecs decode PNG and JPEG. What comes
out are the numbers as they were written, in their own type. How they are *shown* (a palette,
"white is zero") is told beside them: images follow it, labels and measurements do not. Orientation
is applied to all of them, so that an image and its labels are turned alike.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import imagecodecs
import numpy as np
from defusedxml import ElementTree
from PIL import Image
from tifffile import TIFF, TiffFile, TiffPage

from s2l_core.config import S2LError
from s2l_images.faults import Fault, Finding, listed
from s2l_images.items import MAX_PIXELS

MAX_BYTES_PER_PIXEL = 8
MAX_PAGES = 100  # of a TIFF that are looked at: in a damaged one their chain may have no end
OPAQUE_SHARE = 0.5  # of what is not wholly transparent: less, and a last channel is no alpha
PLAUSIBLE = (0.01, 20.0)  # micrometres of a pixel, where a file tells no more than dots per inch

# Compressions whose segments say how large they become, and that lose nothing; 7 is JPEG.
_CODINGS = {
    1: "none", 2: "CCITT RLE", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 7: "JPEG",
    8: "Deflate", 32773: "PackBits", 32946: "Deflate", 34925: "LZMA", 34926: "Zstandard",
    50000: "Zstandard", 50013: "Deflate",
}  # fmt: skip
_OTHER_COLOURS = {5: "CMYK", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "raw", 32844: "LogL"}
_JPEG, _WHITE_IS_ZERO, _RGB, _PALETTE, _YCBCR = 7, 0, 2, 3, 6

# What files of other kinds begin with, at which byte, and what they are.
_OTHER_KINDS = (
    (0, b"ZISRAWFILE", "a Zeiss CZI file"),
    (0, b"\x89HDF", "an HDF5 file, such as Imaris or ilastik write"),
    (0, b"\xd0\xcf\x11\xe0", "an OLE file, such as Olympus OIB or Zeiss ZVI"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
    (0, b"\x70\0\0\0\x2a", "a Leica LIF file"),
    (0, b"\x70\0\0\0", "a Leica LIF file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftyp", "a HEIC or AVIF picture, or a film"),
    (0, b"\0\0\0\x0cjP", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\0\0\0\x0cJXL", "a JPEG XL picture"),
    (0, b"II\xbc", "a JPEG XR picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\x93NUMPY", "an array of NumPy"),
    (128, b"DICM", "a DICOM file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"NRRD", "an NRRD file"),
    (0, b"Iout", "an ROI of ImageJ"),
    (0, b"<?xml", "an XML file"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"SQLite", "a database"),
)
_IMAGEJ_UNITS = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "\\u00b5m": 1.0,
                 "micrometer": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0,
                 "å": 1e-4, "pm": 1e-6}  # fmt: skip


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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a decoder stumbles over becomes one Fault, since no list of their exceptions is
    complete.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device has no end
            raise Fault("unreadable-file", path, "is no file")
        yield
    except Fault:
        raise
    except Image.DecompressionBombError as error:
        raise Fault("image-huge", path, str(error)) from error
    except PermissionError as error:
        raise Fault("no-access", path, f"may not be read ({error.strerror})") from error
    except Exception as error:
        raise Fault("unreadable-file", path, _reason(path, error)) from error


def _reason(path: Path, error: Exception) -> str:
    """What a decoder says, as far as it says something to people."""
    text = str(error).strip()
    if isinstance(error, S2LError):
        return text.removeprefix(f"{path}: ").rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror

    # Addresses in memory say nothing, and many exceptions hold nothing but a number or a name.
    text = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>", "it", " ".join(text.split()))
    if len(text) < 12:
        text = f"{type(error).__name__} {text}".strip()
    return f"cannot be read ({text:.200})"


def read_pixels(path: Path) -> Pixels:
    """The numbers of a TIFF, PNG or JPEG file.

    Raises:
        Fault: no such file, damaged, too large, several planes, or a coding that is not read.
    """
    with reading(path):
        data = _content(path)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _from_tiff(path, data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _from_pillow(path, data, "PNG")
        if data[:3] == b"\xff\xd8\xff":
            return _from_pillow(path, data, "JPEG")
        raise _other_kind(path, data)


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    if not size:
        raise Fault("empty-file", path, "holds 0 bytes")
    limit = MAX_BYTES_PER_PIXEL * MAX_PIXELS
    if size > limit:
        raise Fault("image-huge", path, f"{size:,} bytes, of {limit:,} at most")
    return path.read_bytes()


def _other_kind(path: Path, data: bytes) -> Fault:
    """What a file is that is no TIFF, PNG or JPEG, by its first bytes."""
    start = data[:512].lstrip().lower()
    if data.startswith(b"version https://git-lfs"):
        return Fault("git-lfs-pointer", path, "a pointer of Git LFS, which stands for the file")
    if start.startswith((b"<!doctype html", b"<html")) or b"<head>" in start:
        return Fault("web-page", path, "a web page")

    for place, beginning, kind in _OTHER_KINDS:
        if data[place : place + len(beginning)] == beginning:
            return Fault("other-format", path, kind)
    if not data.strip(b"\0"):
        return Fault("unreadable-file", path, f"{len(data):,} bytes, all of them 0")
    if start[:1] in (b"{", b"["):
        return Fault("other-format", path, "a JSON file")
    if re.fullmatch(rb"[\t\r\n -\x7e]{4,}", data[:512]):
        return Fault("other-format", path, f"text ({data[:30].decode('ascii')!r} ...)")
    beginning = data[:8].hex(" ")
    return Fault("unreadable-file", path, f"cannot be read (it begins with the bytes {beginning})")


def _check_size(path: Path, height: int, width: int, value_bytes: int = 1) -> None:
    """Refuses what would not fit into memory, before anything is decoded."""
    if not height or not width:
        raise Fault("unreadable-file", path, f"{height} x {width} pixels")
    if height * width > MAX_PIXELS:
        raise Fault("image-huge", path, f"{height} x {width} pixels, of {MAX_PIXELS:,} at most")
    needed, limit = height * width * value_bytes, MAX_BYTES_PER_PIXEL * MAX_PIXELS
    if needed > limit:
        raise Fault("image-huge", path, f"{needed:,} bytes of pixels, of {limit:,} at most")


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """An array (H, W, ...) as viewers show it, by the number that EXIF and TIFF give."""
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _turn_remark(path: Path, orientation: int) -> list[Finding]:
    if orientation not in range(2, 9):
        return []
    return [Finding("image-turned", path, f"orientation {orientation}")]


def _without_alpha(
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


# PNG and JPEG


def _from_pillow(path: Path, data: bytes, form: str) -> Pixels:
    """PNG or JPEG; PNG with 16 bits a colour, of which Pillow drops eight, by imagecodecs."""
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        picture = Image.open(io.BytesIO(data), formats=(form,))
    _check_size(path, picture.height, picture.width)
    if getattr(picture, "n_frames", 1) > 1 and form == "PNG":
        raise Fault("stack", path, f"holds {picture.n_frames} planes")
    if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I"):
        raise Fault("image-colours", path, f"holds {picture.mode} colours")
    orientation = picture.getexif().get(0x0112, 1)

    # The header of a PNG says how many bits a value has; its colour type 3 is a palette.
    depth, kind = (data[24], data[25]) if form == "PNG" else (8, -1)
    palette = alpha = None
    if depth == 16:
        values = imagecodecs.png_decode(data)
    else:
        if picture.has_transparency_data and picture.mode not in ("LA", "RGBA"):
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        if picture.mode == "P":
            palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        values = np.array(picture)
        if depth in (2, 4) and kind == 0:
            values //= 255 // (2**depth - 1)  # Pillow stretches grey values to 8 bits

    values = values.reshape(picture.height, picture.width, -1)  # (H, W, C)
    if alpha is not None:
        opacity = alpha / np.float32(255)
    elif values.shape[2] in (2, 4):
        values, opacity = _without_alpha(values, 2.0**depth - 1)
    else:
        opacity = None

    return Pixels(
        values=_turned(values, orientation),
        channels=_numbered(values.shape[2], values.shape[2] >= 3),
        colour=values.shape[2] >= 3,
        bits=1 if values.dtype == bool else depth,
        form=form,
        palette=palette,
        opacity=None if opacity is None else _turned(opacity, orientation),
        lossy=form == "JPEG",
        remarks=_turn_remark(path, orientation),
    )


def _numbered(count: int, colour: bool) -> tuple[str, ...]:
    """Names of channels that have none; one alone needs none."""
    if count == 1:
        return ("",)
    known = ("red", "green", "blue") if colour else ()
    return known + tuple(f"channel {k + 1}" for k in range(len(known), count))


# TIFF


def _from_tiff(path: Path, data: bytes) -> Pixels:
    """The one plane of a TIFF, in all its channels."""
    with TiffFile(io.BytesIO(data)) as tiff:
        chain = list(islice(tiff.pages, MAX_PAGES))
        if len(chain) < MAX_PAGES and _next_page(tiff, chain[-1], data) > len(data):
            found = f"it is cut short: a page after {len(chain)} lies behind its end"
            raise Fault("unreadable-file", path, found)
        about = _described(tiff, chain[0])
        pages, remarks = _chosen(path, data, chain, about)
        page = pages[0]
        if len(pages) > 1:
            values = np.stack([_decoded(path, data, one)[..., 0] for one in pages], axis=2)
        elif about.contiguous > 1:
            values = _following(path, data, page, about.contiguous)
        else:
            values = _decoded(path, data, page)
        values = _calibrated(values, about.calibration)

        orientation = page.tags.valueof(274, 1)
        colour = page.photometric in (_RGB, _YCBCR) and values.shape[2] >= 3
        extra = tuple(page.extrasamples)
        opacity = None
        if extra and extra[-1] in (1, 2) and values.shape[2] > 1:
            highest = 2.0**page.bitspersample - 1 if values.dtype.kind == "u" else None
            values, opacity = _without_alpha(values, highest)
        channels = about.channels
        if len(channels) != values.shape[2] or not any(channels):
            channels = _numbered(values.shape[2], colour)
        palette = _colours(page) if page.photometric == _PALETTE else None

        return Pixels(
            values=_turned(values, orientation),
            channels=channels,
            colour=colour,
            bits=page.bitspersample,
            form="TIFF",
            white_is_zero=page.photometric == _WHITE_IS_ZERO,
            palette=palette,
            opacity=None if opacity is None else _turned(opacity, orientation),
            lossy=page.compression == _JPEG,
            pixel_size=about.pixel_size or _printed_size(page),
            remarks=remarks + _turn_remark(path, orientation),
        )


def _next_page(tiff: TiffFile, page: TiffPage, data: bytes) -> int:
    """Where in a file the page after this one begins; 0 after the last one."""
    form, start = tiff.tiff, page.offset
    order = "little" if form.byteorder == "<" else "big"
    count = int.from_bytes(data[start : start + form.tagnosize], order)
    place = start + form.tagnosize + count * form.tagsize
    return int.from_bytes(data[place : place + form.offsetsize], order)


@dataclass
class _About:
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


def _described(tiff: TiffFile, page: TiffPage) -> _About:
    """What a description says; nothing where it is damaged."""
    text = page.description or ""
    try:
        if tiff.is_imagej:
            return _imagej(tiff.imagej_metadata or {}, page)
        if "<OME" in text[:1000] or "<ome" in text[:1000]:
            return _ome(text)
    except (ValueError, TypeError, KeyError, ZeroDivisionError, ElementTree.ParseError):
        pass
    return _About()


def _imagej(said: dict, page: TiffPage) -> _About:
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
    return _About("ImageJ", planes, count, names, size, calibration)


def _ome(text: str) -> _About:
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
    return _About("OME", math.prod(sizes.values()), sizes["C"], names, size)


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


def _printed_size(page: TiffPage) -> float | None:
    """Of a file that tells dots per inch or centimetre: believed only if a microscope may have it,
    because 72 and 300 stand in files that were never measured.
    """
    unit = {2: 25400.0, 3: 1e4}.get(page.tags.valueof(296, 2))
    size = _resolution(page, unit) if unit else None
    return size if size and PLAUSIBLE[0] <= size <= PLAUSIBLE[1] else None


def _calibrated(values: np.ndarray, line: tuple[float, float] | None) -> np.ndarray:
    """Values by ImageJ's straight line; whole numbers stay whole where it only shifts them."""
    if line is None or line == (0.0, 1.0) or values.dtype.kind not in "iu":
        return values
    offset, slope = line
    if slope == 1 and offset.is_integer() and values.dtype.itemsize <= 2 and abs(offset) < 2**30:
        return values.astype(np.int32) + int(offset)
    return values * slope + offset


def _chosen(
    path: Path, data: bytes, chain: Sequence[TiffPage], about: _About
) -> tuple[list[TiffPage], list[Finding]]:
    """The pages to be read: one, or one a channel; and what is left out.

    Raises:
        Fault: several planes, or a page that is larger than the one that counts as the image.
    """
    full = [page for page in chain if not page.is_reduced and not page.is_mask]
    if not full:
        full = [max(chain, key=lambda page: page.imagewidth * page.imagelength)]
    sizes = {(page.imagelength, page.imagewidth) for page in full}
    if len(sizes) > 1:
        found = " and ".join(f"{height} x {width}" for height, width in sorted(sizes)[:4])
        raise Fault("stack", path, f"holds {len(full)} pages of {found} pixels")

    # A copy that is larger than the image is none.
    first = full[0]
    copies = [page for page in chain if page not in full]
    copies += list(islice(first.pages or (), 8))
    for page in copies:
        if page.imagewidth * page.imagelength > first.imagewidth * first.imagelength:
            size = f"{page.imagelength} x {page.imagewidth}"
            raise Fault("stack", path, f"a further page of {size} pixels is larger than the first")

    # Planes of ImageJ may follow their first page without pages of their own.
    present = len(full)
    plane = math.prod(first.shape) * (first.dtype.itemsize if first.dtype else 1)
    if about.program == "ImageJ" and present == 1 and about.planes > 1 and first.dataoffsets:
        room = (len(data) - first.dataoffsets[0]) // max(plane, 1)
        if first.compression == 1 and first.is_contiguous:
            present = max(1, min(about.planes, room))
            about.contiguous = present

    depth = first.imagedepth
    alike = about.count == about.planes == present and first.samplesperpixel == 1
    if depth > 1 or (present > 1 and not alike):
        told = f" ({about.count} channels)" if about.count > 1 else ""
        raise Fault("stack", path, f"holds {max(present, depth)} planes{told}")

    remarks = []
    if copies:
        small = listed([f"{page.imagelength} x {page.imagewidth}" for page in copies], 3)
        found = f"holds {len(copies)} smaller copies or masks beside it ({small})"
        remarks.append(Finding("pages-left-out", path, found))
    promised = about.planes if about.program != "OME" else about.planes // first.samplesperpixel
    if promised > present:
        found = f"its {about.program} description promises {promised} planes, {present} is there"
        remarks.append(Finding("planes-missing", path, found))
    return full, remarks


def _decoded(path: Path, data: bytes, page: TiffPage) -> np.ndarray:
    """A page (H, W, C) in native byte order; nothing that could fill the memory is begun."""
    _check_page(path, page)
    _check_segments(path, data, page)
    values = page.asarray(squeeze=False, maxworkers=1)  # (separate, depth, H, W, interleaved)
    values = np.moveaxis(values[:, 0], 0, 2)  # (H, W, separate, interleaved)
    values = values.reshape(page.imagelength, page.imagewidth, -1)  # (H, W, C)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _check_page(path: Path, page: TiffPage) -> None:
    """Refuses what this package or its decoders would not read exactly."""
    coding = page.compression
    if coding not in _CODINGS:
        name = getattr(coding, "name", str(coding)).lower()
        raise Fault("image-coding", path, f"compressed by {name}")
    if page.photometric in _OTHER_COLOURS:
        colours = _OTHER_COLOURS[page.photometric]
        raise Fault("image-colours", path, f"holds {colours} colours")
    if page.photometric == _YCBCR and coding != _JPEG:
        raise Fault("image-colours", path, "holds YCbCr colours")
    if page.dtype is None or page.dtype.kind not in "buif":
        kind = page.dtype or f"{page.bitspersample} bits of sample format {page.sampleformat}"
        raise Fault("image-coding", path, f"numbers of {kind}")
    if page.predictor not in (1, 2, 3) or (page.predictor > 1 and page.bitspersample % 8):
        raise Fault("image-coding", path, f"predicted by rule {int(page.predictor)}")
    if coding != 1 and coding not in TIFF.DECOMPRESSORS:
        raise Fault("image-coding", path, f"compressed by {_CODINGS[coding]}")

    size, itemsize = math.prod(page.shape), page.dtype.itemsize
    _check_size(path, page.imagelength, page.imagewidth, page.samplesperpixel * itemsize)
    if math.prod(page.chunks) > 16 * size + 2**20:
        raise Fault("unreadable-file", path, "its tiles are larger than the image")


def _check_segments(path: Path, data: bytes, page: TiffPage) -> None:
    """Refuses strips or tiles that are not wholly there: decoders fill them with noughts."""
    missing = 0
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        if not offset or not length or offset + length > len(data):
            missing += 1
    expected = math.prod(page.chunked)
    missing += max(expected - len(page.dataoffsets), 0)
    if missing:
        found = f"{missing} of {expected} strips or tiles lie behind its end or are missing"
        raise Fault("unreadable-file", path, found)
    if page.compression == _JPEG:
        for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
            _check_jpeg(path, data[offset : offset + length], page)


def _check_jpeg(path: Path, stream: bytes, page: TiffPage) -> None:
    """A strip or tile must not unpack to more pixels than it has in the image."""
    limit = 4 * math.prod(page.chunks) + 2**16
    place = 2
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):  # a frame begins
            height = int.from_bytes(stream[place + 5 : place + 7], "big")
            width = int.from_bytes(stream[place + 7 : place + 9], "big")
            if height * width > limit:
                raise Fault("unreadable-file", path, "a strip unpacks to more than it should")
            return
        place += 2 + length


def _following(path: Path, data: bytes, page: TiffPage, count: int) -> np.ndarray:
    """Channels (H, W, C) that lie one after the other, as ImageJ stores a hyperstack."""
    _check_page(path, page)
    height, width = page.imagelength, page.imagewidth
    _check_size(path, height, width, count * page.dtype.itemsize)
    stored = page.dtype.newbyteorder(page.parent.byteorder)
    values = np.frombuffer(data, stored, count * height * width, page.dataoffsets[0])
    values = np.moveaxis(values.reshape(count, height, width), 0, 2)  # (H, W, C)
    return values.astype(page.dtype.newbyteorder("="))


def _colours(page: TiffPage) -> np.ndarray:
    """Palette (N, 3) uint8. Values of 16 bits are usual, of 8 bits a known mistake."""
    table = np.asarray(page.colormap).T  # (N, 3)
    return (table if table.max() < 256 else table >> 8).astype(np.uint8)
