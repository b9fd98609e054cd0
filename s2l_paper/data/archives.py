"""Readers of the official archives, packed or unpacked: BBBC038 and MoNuSeg -> CellImage.

Labels follow the sorted mask file names (BBBC038) or the regions of the XML (MoNuSeg): label k is
the k-th. A pixel that belongs to several nuclei goes to the first, so that a nucleus wholly under
others has no pixel left.

An archive is read in memory by member name: nothing is extracted, and no member can leave its
place. Members and images far larger than the official ones are refused unread. An unpacked folder
may be a link; in it none may lead out.
"""

import io
import os
import stat
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from s2l_core.config import S2LError
from s2l_core.images import CellImage
from s2l_images.annotation_files.aperio import rasterise

# Eight times and more what a file of the official archives holds.
MAX_MEMBER_BYTES, MAX_MEMBER_PIXELS = 2**25, 2**24
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


class Source:
    """Files of an archive or a folder, read by name from several threads; nothing is ever
    extracted.
    """

    def __init__(self, path: Path):
        self.path, self._zip, self._lock = path, None, threading.Lock()
        try:
            if path.is_dir():
                files = [(f, f.stat()) for f in self._unpacked()]
                files = [
                    (f, about) for f, about in files if stat.S_ISREG(about.st_mode)
                ]  # a pipe has no end
                entries = [
                    (f.relative_to(path).as_posix(), about.st_size, about.st_mtime_ns)
                    for f, about in files
                ]
            else:
                self._zip = zipfile.ZipFile(path)
                entries = [
                    (info.filename, info.file_size, info.CRC) for info in self._zip.infolist()
                ]
        except S2LError:
            raise
        except (
            Exception
        ) as error:  # also what zipfile thinks of a version or a word it does not know
            raise S2LError(
                f"{path} cannot be read ({error}): is it truncated? Delete it and get it again."
            ) from error
        self.entries = sorted(
            entry for entry in entries if "__MACOSX" not in entry[0] and "/." not in entry[0]
        )
        self.names = [entry[0] for entry in self.entries]

    def _unpacked(self) -> Iterator[Path]:
        """Pictures and outlines of a folder. The folder itself may be a link, but no link inside
        it may lead out of it.
        """
        for file in self.path.rglob("*"):
            known = file.suffix.lower() in (*_SUFFIXES, ".xml")
            outside = file.is_symlink() and not file.resolve().is_relative_to(self.path.resolve())
            if outside and (known or file.is_dir()):
                raise S2LError(
                    f"{file}: a link to {file.resolve()}, which is not followed. Put a copy in its"
                    " place."
                )
            if known:
                yield file

    def read(self, name: str) -> bytes:
        """Content of one file; damage is found by the archive's checksums."""
        try:
            if self._zip is None:
                return (self.path / name).read_bytes()
            with self._lock:  # ZipFile counts its open members without one
                if (size := self._zip.getinfo(name).file_size) > MAX_MEMBER_BYTES:
                    raise OSError(
                        f"it unpacks to {size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read"
                    )
                return self._zip.read(name)
        except Exception as error:  # zipfile, zlib and the folder have errors of their own
            raise S2LError(
                f"{self.path}: {name} is damaged ({error}). Get the archive again."
            ) from error

    def picture(self, name: str, mode: str) -> Image.Image:
        """A decoded image, converted to a mode of Pillow's."""
        data = self.read(name)
        try:
            picture = Image.open(io.BytesIO(data), formats=("PNG", "TIFF", "JPEG"))
            if picture.width * picture.height > MAX_MEMBER_PIXELS:
                raise ValueError(
                    f"it has {picture.height} x {picture.width} pixels; "
                    f"at most {MAX_MEMBER_PIXELS:,} are read"
                )
            return picture.convert(mode)
        except Exception as error:  # no list of what decoders raise is complete
            raise S2LError(
                f"{self.path}: {name} is not a readable image ({error}). Get this file again."
            ) from error

    def close(self) -> None:
        """Closes the archive."""
        if self._zip is not None:
            self._zip.close()


def read_bbbc038(source: Source, name: str) -> Iterator[CellImage]:
    """Images of one part of BBBC038, `dsb-bf` or `dsb-fluo`, as `group` tells them apart."""
    images, masks = {}, defaultdict(list)
    for file in source.names:
        match file.split("/")[-3:]:
            case [i, "images", _]:
                images[i] = file
            case [i, "masks", mask] if mask.endswith(".png"):
                masks[i].append(file)

    def read(i: str) -> CellImage | None:
        image = np.asarray(source.picture(images[i], "RGB"))
        if group(image) != name:
            return None
        if not masks.get(i):
            raise S2LError(
                f"{source.path}: image {i} has no mask: expected PNG files in {i}/masks/. Get the"
                " archive again."
            )
        instances = np.zeros(image.shape[:2], np.int32)
        for label, file in enumerate(masks[i], start=1):
            mask = source.picture(file, "L")
            if mask.size != instances.shape[::-1]:
                raise S2LError(
                    f"{source.path}: {file} measures {mask.size} pixels, but its image"
                    f" {instances.shape[::-1]}. Get the archive again."
                )
            _claim(instances, mask, label)
        return CellImage(i, image, instances)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from filter(None, pool.map(read, sorted(images)))


def _claim(instances: np.ndarray, mask: Image.Image, label: int) -> None:
    """Gives the mask's pixels to `label` where no earlier nucleus has them; in place."""
    if box := mask.getbbox():
        left, top, right, bottom = box
        window = instances[top:bottom, left:right]
        window[(np.asarray(mask.crop(box)) > 0) & (window == 0)] = label


def group(image: np.ndarray) -> str:
    """Which part of BBBC038 an image (H, W, 3) uint8 belongs to: `dsb-bf`, `dsb-fluo` or
    `histology`.
    """
    red, green, blue = np.moveaxis(image, 2, 0)  # ten times as fast as image.max(axis=2)
    highest, lowest = (
        np.maximum(np.maximum(red, green), blue),
        np.minimum(np.minimum(red, green), blue),
    )
    chroma = (highest - lowest).mean()
    if chroma >= 1:
        return "histology"
    return "dsb-bf" if image.mean() > 128 else "dsb-fluo"


def read_monuseg(source: Source, ids: Sequence[str]) -> Iterator[CellImage]:
    """The images `ids` of one MoNuSeg archive, in either layout (test: flat; training: two
    folders).
    """
    images = {
        Path(file).stem: file for file in source.names if file.lower().endswith((".tif", ".tiff"))
    }
    outlines = {Path(file).stem: file for file in source.names if file.lower().endswith(".xml")}
    for i in ids:
        if i not in images:
            raise S2LError(
                f"{source.path}: image {i}.tif is missing (found {len(images)} images). Get the"
                " archive again."
            )
        if i not in outlines:
            raise S2LError(
                f"{source.path}: {i}.tif has no outlines: expected {i}.xml beside it or in"
                " Annotations/. Get the archive again."
            )
        image, outline = np.asarray(source.picture(images[i], "RGB")), source.read(outlines[i])
        try:
            instances = rasterise(outline, image.shape[:2])
        except Exception as error:  # of the parser, of numbers, of the polygon
            raise S2LError(
                f"{source.path}: {outlines[i]} is not an Aperio XML file ({error!r}). Get it again."
            ) from error
        yield CellImage(i, image, instances)
