"""Refusals of image files, before and while they are decoded: what a file is instead of an image,
how large is too large, and what a decoder stumbled over.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from s2l_core.config import S2LError
from s2l_images.annotation_files.items import MAX_PIXELS
from s2l_images.faults import Fault

MAX_BYTES_PER_PIXEL = 8  # of a file, and of what it unpacks to

# What files of other kinds begin with, at which byte, and what they are.
OTHER_KINDS = (
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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a decoder stumbles over becomes one Fault, since no list of their exceptions is
    complete.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device has no end
            raise Fault("unreadable-file", path, "is not a file")
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


def content(path: Path) -> bytes:
    """The bytes of a file, unless there are none or more than an image may have.

    Raises:
        Fault: an empty file, or one that is too large.
    """
    size = path.stat().st_size
    if not size:
        raise Fault("empty-file", path, "holds 0 bytes")
    limit = MAX_BYTES_PER_PIXEL * MAX_PIXELS
    if size > limit:
        raise Fault("image-huge", path, f"{size:,} bytes, of {limit:,} at most")
    return path.read_bytes()


def other_kind(path: Path, data: bytes) -> Fault:
    """What a file is that is no TIFF, PNG or JPEG, by its first bytes."""
    start = data[:512].lstrip().lower()
    if data.startswith(b"version https://git-lfs"):
        return Fault("git-lfs-pointer", path, "a pointer of Git LFS, which stands for the file")
    if start.startswith((b"<!doctype html", b"<html")) or b"<head>" in start:
        return Fault("web-page", path, "a web page")

    for place, beginning, kind in OTHER_KINDS:
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


def check_size(path: Path, height: int, width: int, value_bytes: int = 1) -> None:
    """Refuses what would not fit into memory, before anything is decoded."""
    if not height or not width:
        raise Fault("unreadable-file", path, f"{height} x {width} pixels")
    if height * width > MAX_PIXELS:
        raise Fault("image-huge", path, f"{height} x {width} pixels, of {MAX_PIXELS:,} at most")
    needed, limit = height * width * value_bytes, MAX_BYTES_PER_PIXEL * MAX_PIXELS
    if needed > limit:
        raise Fault("image-huge", path, f"{needed:,} bytes of pixels, of {limit:,} at most")
