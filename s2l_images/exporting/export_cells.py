"""Instances as a table with a row for each cell: its place, its shape and its intensities."""

import csv
import io
from pathlib import Path

import numpy as np
from skimage.measure import regionprops_table

from s2l_core.config import S2LError
from s2l_images.exporting.exports import checked, save
from s2l_images.reading.measured import Measured, micrometres

SHAPE = {  # columns of `write_cells` -> scikit-image's names
    "area": "area", "centroid_row": "centroid-0", "centroid_column": "centroid-1",
    "min_row": "bbox-0", "min_column": "bbox-1", "max_row": "bbox-2", "max_column": "bbox-3",
    "perimeter": "perimeter", "eccentricity": "eccentricity", "solidity": "solidity",
    "major_axis": "axis_major_length", "minor_axis": "axis_minor_length",
}  # fmt: skip
MICRONS = {  # those that have a size, and its power of the pixel's
    "area": 2, "centroid_row": 1, "centroid_column": 1, "perimeter": 1, "major_axis": 1,
    "minor_axis": 1,
}  # fmt: skip


def write_cells(
    path: Path,
    instances: np.ndarray,
    measured: Measured | None = None,
    *,
    pixel_size: float | None = None,
) -> None:
    """A CSV with a row per cell: label, `SHAPE` in pixels, intensities.

    Rows and columns count from 0 at the centre of the first pixel: a cell of that pixel alone has
    its centroid at (0, 0), where ImageJ, which counts from the pixel's corner, says (0.5, 0.5). The
    box's upper bounds are exclusive. Intensities are those of the image file, in its own units.

    Args:
        path: Of the CSV.
        instances: (H, W); without any only the header is written.
        measured: The image as it was measured; adds the columns mean, min and max of each channel,
            followed by its name (mean_DAPI), and those of `MICRONS` where it tells the size of a
            pixel.
        pixel_size: Micrometres, which count instead of what `measured` tells; adds area_um2,
            perimeter_um, ...

    Raises:
        S2LError: `measured` does not fit `instances`, or `pixel_size` is not above 0.
    """
    checked(path, instances)
    if pixel_size is None:
        pixel_size = micrometres(measured)
    elif not 0 < pixel_size < np.inf:
        raise S2LError(
            f"{path}: pixel_size {pixel_size}; expected micrometres above 0. Look it up in the "
            "image."
        )
    if measured is not None and measured.values.shape[:2] != instances.shape:
        raise S2LError(
            f"{path}: image of shape {measured.values.shape} for instances of {instances.shape}. "
            "Give the same image."
        )

    # The memory of scikit-image grows with the highest label, so labels are numbered without gaps.
    present = np.unique(instances[instances > 0])
    dense = np.searchsorted(present, instances, side="right")
    names = dict.fromkeys(name.partition("-")[0] for name in SHAPE.values())
    found = regionprops_table(dense, properties=tuple(names))
    table = {"label": present} | {ours: found[theirs] for ours, theirs in SHAPE.items()}
    if pixel_size is not None:
        for name, power in MICRONS.items():
            suffix = "um2" if power == 2 else "um"
            table[f"{name}_{suffix}"] = table[name] * pixel_size**power
    if measured is not None:
        table |= _intensities(dense, measured)

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([f"{value:.10g}" for value in row])
    save(path, text.getvalue().encode())


def _intensities(dense: np.ndarray, measured: Measured) -> dict[str, np.ndarray]:
    """Mean, min and max of each channel within labels 1, 2, ... (H, W)."""
    columns = {}
    # Two channels of one name must not share a column.
    names = measured.channels
    if len(set(names)) < len(names):
        names = tuple(f"{name}_{number}" for number, name in enumerate(names, 1))
    for channel, values in zip(names, np.moveaxis(measured.values, 2, 0), strict=True):
        properties = ("intensity_mean", "intensity_min", "intensity_max")
        found = regionprops_table(dense, values.astype(np.float64), properties=properties)
        for name in properties:
            title = name.removeprefix("intensity_")
            if channel:
                title += f"_{channel}"
            columns[title] = found[name]
    return columns
