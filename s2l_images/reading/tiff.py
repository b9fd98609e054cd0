"""TIFF files -> numbers: which page is the image, and whether all of it is there."""

import contextlib
import io
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tifffile import TIFF, TiffFile, TiffPage

from s2l_images.faults import Fault, Finding, listed
from s2l_images.reading.pixels import Pixels, channel_names, turn_remark, turned, without_alpha
from s2l_images.reading.tiff_description import Description, described, printed_size
from s2l_images.reading.unreadable import check_size

MAX_PAGES = 100  # of a TIFF that are looked at: in a damaged one their chain may have no end

# Compressions whose segments say how large they become, and that lose nothing; 7 is JPEG.
_CODINGS = {
    1: "none", 2: "CCITT RLE", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 7: "JPEG",
    8: "Deflate", 32773: "PackBits", 32946: "Deflate", 34925: "LZMA", 34926: "Zstandard",
    50000: "Zstandard", 50013: "Deflate",
}  # fmt: skip
_OTHER_COLOURS = {5: "CMYK", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "raw", 32844: "LogL"}
_STK_PLANES = 33629  # the tag with an entry for each plane of a MetaMorph stack
_JPEG, _WHITE_IS_ZERO, _RGB, _PALETTE, _YCBCR = 7, 0, 2, 3, 6


def from_tiff(path: Path, data: bytes) -> Pixels:
    """The one plane of a TIFF, in all its channels."""
    with TiffFile(io.BytesIO(data)) as tiff:
        chain = list(islice(tiff.pages, MAX_PAGES))
        if len(chain) < MAX_PAGES and _next_page(tiff, chain[-1], data) > len(data):
            found = f"it is cut short: the page after page {len(chain)} lies beyond its end"
            raise Fault("unreadable-file", path, found)
        about = described(tiff, chain[0])
        _refuse_planes_without_pages(path, tiff, chain[0])
        pages, remarks = _chosen(path, data, chain, about)

        # Channels lie in pages of their own, behind the first page, or in that page: (H, W, C).
        page = pages[0]
        if len(pages) > 1:
            values = np.stack([_decoded(path, data, one)[..., 0] for one in pages], axis=2)
        elif about.contiguous > 1:
            values = _following(path, data, page, about.contiguous)
        else:
            values = _decoded(path, data, page)
        values = _calibrated(values, about.calibration)

        # The last channel may be transparency; what is left has the names that the file tells.
        colour = page.photometric in (_RGB, _YCBCR) and values.shape[2] >= 3
        extra = tuple(page.extrasamples)
        opacity = None
        if extra and extra[-1] in (1, 2) and values.shape[2] > 1:
            highest = 2.0**page.bitspersample - 1 if values.dtype.kind == "u" else None
            values, opacity = without_alpha(values, highest)
        channels = about.channels
        if len(channels) != values.shape[2] or not any(channels):
            channels = channel_names(values.shape[2], colour)

        palette = _colours(page) if page.photometric == _PALETTE else None
        orientation = page.tags.valueof(274, 1)
        return Pixels(
            values=turned(values, orientation),
            channels=channels,
            colour=colour,
            bits=page.bitspersample,
            form="TIFF",
            white_is_zero=page.photometric == _WHITE_IS_ZERO,
            palette=palette,
            opacity=None if opacity is None else turned(opacity, orientation),
            lossy=page.compression == _JPEG,
            pixel_size=about.pixel_size or printed_size(page),
            remarks=remarks + turn_remark(path, orientation),
        )


def _next_page(tiff: TiffFile, page: TiffPage, data: bytes) -> int:
    """Where in a file the page after this one begins; 0 after the last one."""
    form, start = tiff.tiff, page.offset
    order = "little" if form.byteorder == "<" else "big"
    count = int.from_bytes(data[start : start + form.tagnosize], order)
    place = start + form.tagnosize + count * form.tagsize
    return int.from_bytes(data[place : place + form.offsetsize], order)


def _calibrated(values: np.ndarray, line: tuple[float, float] | None) -> np.ndarray:
    """Values by ImageJ's straight line; whole numbers stay whole where it only shifts them."""
    if line is None or line == (0.0, 1.0) or values.dtype.kind not in "iu":
        return values
    offset, slope = line
    if slope == 1 and offset.is_integer() and values.dtype.itemsize <= 2 and abs(offset) < 2**30:
        return values.astype(np.int32) + int(offset)
    return values * slope + offset


def _refuse_planes_without_pages(path: Path, tiff: TiffFile, first: TiffPage) -> None:
    """Refuses stacks that count their planes elsewhere: MetaMorph's, and tifffile's when truncated.

    Raises:
        Fault: it is one.
    """
    planes = 1
    if _STK_PLANES in first.tags:
        planes = first.tags[_STK_PLANES].count
    elif tiff.is_shaped and first.is_contiguous and first.shape:
        with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):  # a damaged shape
            said = tiff.shaped_metadata[0]
            if said.get("truncated"):
                planes = math.prod(said["shape"]) // math.prod(first.shape)
    if planes > 1:
        raise Fault("stack", path, f"holds {planes} planes")


def _chosen(
    path: Path, data: bytes, chain: Sequence[TiffPage], about: Description
) -> tuple[list[TiffPage], list[Finding]]:
    """The pages to be read: one, or one a channel; and what is left out.

    Raises:
        Fault: several planes, or a page that is larger than the one that counts as the image.
    """
    full, copies = _image_and_copies(path, chain)
    first = full[0]

    # Planes of ImageJ may follow their first page without pages of their own.
    present = len(full)
    plane = math.prod(first.shape) * (first.dtype.itemsize if first.dtype else 1)
    if about.program == "ImageJ" and present == 1 and about.planes > 1 and first.dataoffsets:
        room = (len(data) - first.dataoffsets[0]) // max(plane, 1)
        if first.compression == 1 and first.is_contiguous:
            present = max(1, min(about.planes, room))
            about.contiguous = present

    # Several planes are read only where each is one channel of one image.
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
        found = f"its {about.program} description promises {promised} planes, but holds {present}"
        remarks.append(Finding("planes-missing", path, found))
    return full, remarks


def _image_and_copies(
    path: Path, chain: Sequence[TiffPage]
) -> tuple[list[TiffPage], list[TiffPage]]:
    """The pages in full size, and the smaller copies and masks beside them.

    Raises:
        Fault: pages of several sizes, or a copy that is larger than the image.
    """
    full = [page for page in chain if not page.is_reduced and not page.is_mask]
    if not full:
        full = [max(chain, key=lambda page: page.imagewidth * page.imagelength)]
    sizes = {(page.imagelength, page.imagewidth) for page in full}
    if len(sizes) > 1:
        found = " and ".join(f"{height} x {width}" for height, width in sorted(sizes)[:4])
        raise Fault("stack", path, f"holds {len(full)} pages of {found} pixels")

    first = full[0]
    copies = [page for page in chain if page not in full]
    copies += list(islice(first.pages or (), 8))
    for page in copies:
        if page.imagewidth * page.imagelength > first.imagewidth * first.imagelength:
            size = f"{page.imagelength} x {page.imagewidth}"
            raise Fault("stack", path, f"a further page of {size} pixels is larger than the first")
    return full, copies


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
        raise Fault("image-coding", path, f"written with predictor {int(page.predictor)}")
    if coding != 1 and coding not in TIFF.DECOMPRESSORS:
        raise Fault("image-coding", path, f"compressed by {_CODINGS[coding]}")

    size, itemsize = math.prod(page.shape), page.dtype.itemsize
    check_size(path, page.imagelength, page.imagewidth, page.samplesperpixel * itemsize)
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
        found = f"{missing} of {expected} strips or tiles lie beyond its end or are missing"
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
    check_size(path, height, width, count * page.dtype.itemsize)
    stored = page.dtype.newbyteorder(page.parent.byteorder)
    values = np.frombuffer(data, stored, count * height * width, page.dataoffsets[0])
    values = np.moveaxis(values.reshape(count, height, width), 0, 2)  # (H, W, C)
    return values.astype(page.dtype.newbyteorder("="))


def _colours(page: TiffPage) -> np.ndarray:
    """Palette (N, 3) uint8. Values of 16 bits are usual, of 8 bits a known mistake."""
    table = np.asarray(page.colormap).T  # (N, 3)
    return (table if table.max() < 256 else table >> 8).astype(np.uint8)
