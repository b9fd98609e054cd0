"""Image files of one's own -> arrays: images of any depth and colour, and label images with every value kept.

An image with more than 8 bits is mapped linearly, its own 0.1 and 99.9 percentiles to 0 and 255: cameras rarely fill
their range, and one hot pixel must not decide.
"""

import io
import math
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from skimage.measure import label
from tifffile import TiffFile, TiffPage

from s2l_core.config import S2LError
from s2l_images.faults import Fault, Finding
from s2l_images.parsers import MAX_PIXELS, members, size_of

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
TRANSPARENT, COLOUR = (
    -1,
    1 << 32,
)  # values of label images beside numbers: no paint, and COLOUR + 0xRRGGBB
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a decoder stumbles over becomes one Fault: no list of their exceptions is complete."""
    if path.exists() and not path.is_file():  # a pipe or a device has no end
        raise Fault("unreadable-file", path, "is no file")
    try:
        yield
    except Fault:
        raise
    except Image.DecompressionBombError as error:
        raise Fault("image-huge", path, str(error)) from error
    except Exception as error:
        reason = str(error) if isinstance(error, S2LError) else f"cannot be read ({error!r:.200})"
        raise Fault(
            "unreadable-file", path, reason.removeprefix(f"{path}: ").rstrip(".")
        ) from error


def _opened(path: Path) -> tuple[bytes, Image.Image | None, TiffPage | None]:
    """Content, the picture unless Pillow would lose some of its bits, and the page of a TIFF; nothing is decoded."""
    if not (size := path.stat().st_size):
        raise Fault("empty-file", path, "holds 0 bytes")
    if size > 8 * MAX_PIXELS:
        raise Fault("image-huge", path, f"{size:,} bytes, of {8 * MAX_PIXELS:,} at most")
    data, picture, page, count = path.read_bytes(), None, None, 1
    if data[:4] in _TIFF:
        with TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages[0]
            count = max(planes(tiff), page.imagedepth)
    if (
        page is None
        or page.dtype is not None
        and page.dtype.itemsize == 1
        and _channels(page) in (1, 3)
    ):
        with warnings.catch_warnings(
            action="ignore", category=Image.DecompressionBombWarning
        ):  # refused below
            picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF"))
        count = getattr(picture, "n_frames", 1) if picture.format == "PNG" else count
    width, height = picture.size if picture else (page.imagewidth, page.imagelength)
    if width * height > MAX_PIXELS:
        raise Fault("image-huge", path, f"{height} x {width} pixels, of {MAX_PIXELS:,} at most")
    if count > 1:
        raise Fault("stack", path, f"holds {count} planes")
    if (
        page is not None
        and page.dtype is not None
        and math.prod(page.shape) * page.dtype.itemsize > 8 * MAX_PIXELS
    ):
        raise Fault(
            "image-huge",
            path,
            f"{page.shape} values of {page.dtype}, of {8 * MAX_PIXELS:,} bytes at most",
        )
    return data, picture, page


def _channels(page: TiffPage) -> int:
    """Channels of a TIFF that show something: without alpha, and without what is beside red, green and blue."""
    return (
        3
        if page.photometric in (2, 6)
        else page.samplesperpixel - sum(kind in (1, 2) for kind in page.extrasamples)
    )


def read_image(path: Path) -> tuple[np.ndarray, list[Finding]]:
    """An image (H, W, 3) uint8, and what was done to it: turned, mapped to 8 bits, freed from transparency.

    Raises:
        Fault: see `findings.ERRORS`.
    """
    with reading(path):
        data, picture, page = _opened(path)
        remarks, alpha = [], None
        if page is not None and _channels(page) not in (1, 3):
            raise Fault("image-channels", path, f"holds {page.samplesperpixel} channels")
        if picture is None:
            values, alpha = _deep(path, data, page)
        elif picture.mode in ("CMYK", "LAB", "HSV"):
            raise Fault("image-channels", path, f"holds {picture.mode} colours")
        elif _deep_colour(picture, data):
            raise Fault("image-deep-colour", path, "colour of 16 bits, of which only 8 can be read")
        else:
            if (turn := picture.getexif().get(0x0112, 1)) != 1:
                remarks.append(
                    Finding("image-turned", path, f"orientation {turn} in its EXIF data")
                )
            picture = ImageOps.exif_transpose(picture)
            if picture.has_transparency_data:
                alpha = np.asarray(picture.convert("RGBA"))[..., 3]
            values = np.array(picture if picture.mode[0] in "IF" else picture.convert("RGB"))
        if values.ndim not in (2, 3) or not values.size:
            raise Fault("unreadable-file", path, f"pixels of shape {values.shape}")
        if alpha is not None and not alpha.any():
            raise Fault("image-hidden", path, "every pixel is transparent")
        if alpha is not None and (hidden := float((alpha == 0).mean())):
            remarks.append(
                Finding("image-transparent", path, f"{hidden:.0%} of the pixels are transparent")
            )
        if values.dtype != np.uint8:
            values, low, high = _eight_bits(path, values)
            remarks.append(
                Finding("image-deep", path, f"{low:g} to {high:g} are mapped to 0 to 255")
            )
        return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2), remarks


def _deep_colour(picture: Image.Image, data: bytes) -> bool:
    """A PNG of more than 8 bits a channel, of which Pillow drops the lower ones."""
    return picture.format == "PNG" and data[24] == 16 and data[25] != 0


def _deep(path: Path, data: bytes, page: TiffPage) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (H, W) or (H, W, 3) of a TIFF with more than 8 bits, and its alpha."""
    values = LABELS[".tif"](data, page.shape)
    if values.dtype.itemsize < page.dtype.itemsize:
        raise Fault(
            "image-deep-colour", path, "compressed colour of 16 bits, of which only 8 can be read"
        )
    if page.photometric == 0:  # white is zero
        values = values.max() - values
    values = np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values
    alpha = values[..., -1] if page.extrasamples and page.extrasamples[-1] in (1, 2) else None
    if values.ndim > 2:
        values = values[..., :3] if _channels(page) == 3 else values[..., 0]
    return values, alpha


def _eight_bits(path: Path, values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values as uint8, and those that became 0 and 255."""
    if bad := int((~np.isfinite(values)).sum()):
        raise Fault("image-not-finite", path, f"{bad} pixels are NaN or infinite")
    low, high = np.percentile(values, (0.1, 99.9)).tolist()
    if low == high:  # a few spots on nothing
        low, high = float(values.min()), float(values.max())
    scaled = values.astype(np.float32)  # and no copy more
    scaled -= low
    scaled *= 255 / ((high - low) or 1)
    return np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled).astype(np.uint8), low, high


def read_values(path: Path, *, indexed: bool = False) -> np.ndarray:
    """A label image (H, W) int64: numbers, TRANSPARENT, or COLOUR + 0xRRGGBB where red, green and blue differ.

    Args:
        path: PNG or TIFF.
        indexed: the palette of a PNG means numbers, not the colours that are seen. That of a TIFF always does, as
            ImageJ's; a pixel that is less than half opaque is transparent.

    Raises:
        Fault: see `findings.ERRORS`.
    """
    with reading(path):
        data, picture, page = _opened(path)
        if (
            path.suffix.lower() in (".jpg", ".jpeg")
            or picture
            and picture.format not in ("PNG", "TIFF")
        ):
            raise Fault("label-jpeg", path, "a JPEG")
        if page is not None and page.samplesperpixel == 1:
            values = LABELS[".tif"](data, page.shape)
        elif picture is None or _deep_colour(picture, data):
            raise Fault("label-values", path, "several channels of more than 8 bits")
        elif picture.mode in ("1", "L", "P" if indexed else "L") or picture.mode[0] in "IF":
            values = np.asarray(picture)
        else:
            red, green, blue, alpha = np.moveaxis(
                np.asarray(picture.convert("RGBA")).astype(np.int64), 2, 0
            )
            grey = (red == green) & (green == blue)
            values = np.where(grey, red, COLOUR + (red << 16) + (green << 8) + blue)
            return np.where(alpha < 128, TRANSPARENT, values)
        if values.ndim != 2 or not values.size:
            raise Fault("unreadable-file", path, f"pixels of shape {values.shape}")
        if values.dtype.kind not in "bu" and (
            bad := int((~((values >= 0) & (values % 1 == 0))).sum())
        ):
            raise Fault(
                "label-values",
                path,
                f"{bad} pixels of {values.dtype} are negative or no whole numbers",
            )
        return values.astype(np.int64)


def read_label_mask(path: Path, shape: tuple[int, int]) -> tuple[np.ndarray, list[Finding]]:
    """Instances (H, W) int32 of a label image, and a remark where nuclei had to be counted.

    A label image with one value beside 0 is taken apart into its connected pieces.

    Raises:
        Fault: see `findings.ERRORS`.
    """
    values = read_values(path, indexed=True)
    fit(path, values, shape)
    if values.max() >= COLOUR:
        raise Fault("mask-colours", path, f"{np.unique(values[values >= COLOUR]).size} colours")
    if values.max() >= 2**31:
        raise Fault("label-values", path, f"numbers up to {values.max()}")
    instances = np.maximum(values, 0).astype(np.int32)
    numbers, counts = np.unique(instances[instances > 0], return_counts=True)
    if len(numbers) > 3 and numbers[-1] == 255 and 2 * counts[-1] > counts.sum():
        raise Fault(
            "mask-smooth",
            path,
            f"0, 255 and {len(numbers) - 1} values between, as a smoothed mask has",
        )
    if len(numbers) == 1:
        pieces, count = label(instances, return_num=True)
        if count > 1:
            found = f"0 and {numbers[0]} only, in {count} pieces"
            return pieces.astype(np.int32), [Finding("mask-binary", path, found)]
    return instances, []


def fit(path: Path, labels: np.ndarray, shape: tuple[int, int]) -> None:
    """Raises a Fault unless labels have the shape of their image."""
    if labels.shape != tuple(shape):
        sizes = [" x ".join(map(str, size)) for size in (labels.shape, shape)]
        raise Fault("label-size", path, f"{sizes[0]} pixels, its image {sizes[1]}")


def read_labels(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A label image (H, W) int32; S2LError unless it has the image's shape and whole numbers from 0."""
    if (size := size_of(path)) > (limit := 8 * math.prod(shape) + 2**20):
        raise S2LError(
            f"{size} bytes; at most {limit} fit an image of {shape}. Save one plane without extras."
        )
    plane = LABELS[path.suffix.lower()](path.read_bytes(), tuple(shape))
    if (
        plane.dtype.kind not in "buif"
        or not ((plane >= 0) & (plane < 2**31) & (plane % 1 == 0)).all()
    ):
        raise S2LError(
            f"values of type {plane.dtype}; expected labels, whole numbers from 0 to {2**31 - 1}."
        )
    return plane.astype(np.int32)


def planes(tiff: TiffFile) -> int:
    """Planes of a TIFF, up to 100, reduced copies aside: in a damaged one the chain of pages may have no end."""
    full = sum(not page.is_reduced for page in islice(tiff.pages, 100))
    return max((tiff.imagej_metadata or {}).get("images", 1), full)


def _same(found: Sequence[int], shape: tuple[int, int]) -> None:
    """Before anything of that size is decoded."""
    if tuple(found) != shape:
        raise S2LError(
            f"shape {tuple(found)}; expected {shape} like the image. Save one plane with one channel."
        )


def _numpy(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """An array of NumPy's, bare or alone in an archive; never a pickled object."""
    if data[:2] == b"PK":
        ((_, data),) = members(data, ".npy", 8 * math.prod(shape) + 2**16)
    version = np.lib.format.read_magic(stream := io.BytesIO(data))
    header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    _same(header(stream)[0], shape)
    return np.load(io.BytesIO(data), allow_pickle=False)


def _picture(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """PNG, and TIFF of up to 32 bits."""
    with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as picture:
        bands = len(picture.getbands())
        _same((picture.height, picture.width) + (bands,) * (bands > 1), shape)
        return np.asarray(picture)


def _tiff(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """TIFF of any depth, as ImageJ and napari save it; what tifffile cannot unpack is left to Pillow."""
    with TiffFile(io.BytesIO(data)) as tiff:
        page, count = tiff.pages[0], planes(tiff)
        _same(page.shape if count == 1 else (count, *page.shape), shape)
        if (limit := math.prod(page.chunks) * page.dtype.itemsize) > 16 * math.prod(shape) + 2**20:
            raise S2LError("its tiles are larger than itself. Save it again, in strips.")
        if page.compression not in (1, 8, 32946):
            return _picture(data, shape)
        strips = (
            zip(page.dataoffsets, page.databytecounts, strict=True) if page.compression > 1 else ()
        )
        for offset, count in strips:
            if zlib.decompressobj().decompress(data[offset : offset + count], limit + 1)[limit:]:
                raise S2LError("a strip unpacks to more than it should. Save it again.")
        return page.asarray()


LABELS = {".tif": _tiff, ".tiff": _tiff, ".png": _picture, ".npy": _numpy, ".npz": _numpy}
