"""Instances as a label image: a TIFF for ImageJ, napari and QuPath."""

import io
from pathlib import Path

import numpy as np
import tifffile

from s2l_core.config import S2LError
from s2l_images.exporting.exports import checked, save

LAST_LABEL = 2**31 - 1  # that a label TIFF holds


def write_label_tiff(path: Path, instances: np.ndarray, pixel_size: float | None = None) -> None:
    """Instances (H, W) as a TIFF: uint16 up to label 65,535, which ImageJ reads best, else uint32.

    napari opens uint32 as labels. ImageJ turns it into floating point, which is exact up to label
    2**24.

    Args:
        path: .tif.
        instances: labels up to `LAST_LABEL`.
        pixel_size: micrometres, which ImageJ then knows.

    Raises:
        S2LError: no labels, or one too high; a file that cannot be written.
    """
    highest = int(checked(path, instances).max(initial=0))
    if highest > LAST_LABEL:
        raise S2LError(f"{path}: label {highest}; at most {LAST_LABEL} fits. Renumber the labels.")

    # The size of a pixel, and the kind of TIFF.
    options: dict = {}
    if pixel_size is not None:
        options["resolution"] = (1 / pixel_size, 1 / pixel_size)
    unit = "pixel" if pixel_size is None else "um"
    if highest < 2**16:
        about = {"axes": "YX", "min": 0.0, "max": float(highest), "unit": unit}
        options |= {"imagej": True, "metadata": about}
    else:  # ImageJ's own kind of TIFF knows no uint32, but its reader does, calibration included
        text = f"ImageJ=1.53t\nunit={unit}\nmin=0.0\nmax={float(highest)}\n"
        options |= {"description": text, "metadata": None, "resolutionunit": "NONE"}

    plane = instances.astype(np.uint16 if highest < 2**16 else np.uint32)
    file = io.BytesIO()
    tifffile.imwrite(file, plane, **options)
    save(path, file.getvalue())
