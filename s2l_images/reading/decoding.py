"""Files of images -> numbers: the one decoder of images, masks, scribbles and measurements.

tifffile with imagecodecs decodes every TIFF, Pillow and imagecodecs decode PNG and JPEG. What comes
out are the numbers as they were written, in their own type. How they are *shown* (a palette,
"white is zero") is told beside them: images follow it, labels and measurements do not. Orientation
is applied to all of them, so that an image and its labels are turned alike.
"""

from pathlib import Path

from s2l_images.reading.pixels import Pixels
from s2l_images.reading.png_and_jpeg import from_png_or_jpeg
from s2l_images.reading.tiff import from_tiff
from s2l_images.reading.unreadable import content, other_kind, reading


def read_pixels(path: Path) -> Pixels:
    """The numbers of a TIFF, PNG or JPEG file.

    Raises:
        Fault: no such file, damaged, too large, several planes, or a coding that is not read.
    """
    with reading(path):
        data = content(path)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return from_tiff(path, data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return from_png_or_jpeg(path, data, "PNG")
        if data[:3] == b"\xff\xd8\xff":
            return from_png_or_jpeg(path, data, "JPEG")
        raise other_kind(path, data)
