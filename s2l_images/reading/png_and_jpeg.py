"""PNG and JPEG files -> numbers."""

import io
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from s2l_images.faults import Fault
from s2l_images.reading.pixels import Pixels, channel_names, turn_remark, turned, without_alpha
from s2l_images.reading.unreadable import check_size


def from_png_or_jpeg(path: Path, data: bytes, form: str) -> Pixels:
    """PNG or JPEG; PNG with 16 bits a colour, of which Pillow drops eight, by imagecodecs."""
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        picture = Image.open(io.BytesIO(data), formats=(form,))
    check_size(path, picture.height, picture.width)
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
        values, opacity = without_alpha(values, 2.0**depth - 1)
    else:
        opacity = None

    return Pixels(
        values=turned(values, orientation),
        channels=channel_names(values.shape[2], values.shape[2] >= 3),
        colour=values.shape[2] >= 3,
        bits=1 if values.dtype == bool else depth,
        form=form,
        palette=palette,
        opacity=None if opacity is None else turned(opacity, orientation),
        lossy=form == "JPEG",
        remarks=turn_remark(path, orientation),
    )
