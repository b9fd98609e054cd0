"""Out to other programs: instances and strokes -> label TIFF, ImageJ ROIs, QuPath GeoJSON, a CSV of
cells.

Outlines run along the edges of pixels, so that `annotations.read_instances` gives back the very
same instances.
"""

import csv
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from roifile import ROI_TYPE, ImagejRoi
from scipy.ndimage import mean
from skimage.measure import label, regionprops_table

from s2l_core.config import CLASSES, S2LError
from s2l_images.files import write_atomically
from s2l_images.items import INSTANCE, MAX_BYTES, MAX_PARTS, MAX_POINTS, STROKE_WIDTH
from s2l_images.places import own_strokes
from s2l_images.strokes import Stroke, read_strokes

if TYPE_CHECKING:
    from s2l_images.measured import Measured

CLASS_COLOURS = (
    (0, 114, 178),
    (230, 159, 0),
)  # of the classes; colour-blind readers tell them apart
LAST_LABEL = 2**31 - 1  # that a label TIFF holds
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
# Micrometres in a unit, as ImageJ and OME spell it; what is none of these is no length.
MICRONS_PER_UNIT = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "micrometre": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4,
    "m": 1e6, "inch": 25400.0,
}  # fmt: skip


def micrometres(measured: "Measured | None") -> float | None:
    """The size of a pixel in micrometres, where the image file tells it."""
    if measured is None or not measured.pixel_size:
        return None
    unit = MICRONS_PER_UNIT.get((measured.unit or "").strip().casefold())
    return measured.pixel_size * unit if unit else None


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
    highest = int(_checked(path, instances).max(initial=0))
    if highest > LAST_LABEL:
        raise S2LError(
            f"{path}: label {highest}; {LAST_LABEL} is the last that fits. Renumber them."
        )
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
    _save(path, file.getvalue())


def write_rois(path: Path, instances: np.ndarray) -> None:
    """Instances (H, W) as ImageJ ROIs (.zip), "cell k" for label k; those with pieces or holes are
    composite ROIs.
    """
    rois, points, parts = [], 0, 0
    for k, polygons in outlines(_checked(path, instances)):
        rings = [ring[:, ::-1] for rings in polygons for ring in rings]  # (x, y)
        points, parts = points + sum(map(len, rings)), parts + len(rings)
        roi = ImagejRoi.frompoints(np.concatenate(rings), name=INSTANCE.format(k))
        roi.roitype = ROI_TYPE.TRACED
        if len(rings) > 1:
            roi.multi_coordinates = _path(rings)
            roi.roitype, roi.shape_roi_size = ROI_TYPE.RECT, len(roi.multi_coordinates)
        rois.append(roi)
    content = _zipped(rois)
    unpacked = sum(len(roi.tobytes()) for roi in rois)
    _say_limits(path, points, parts, max(len(content), unpacked))
    _save(path, content)


def _path(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Rings (N, 2) as one path of ImageJ's commands: 0 goes to a point, 1 draws to one, 4 closes
    the ring.
    """
    commands = []
    for ring in rings:
        steps = np.insert(ring.astype(np.float32), 0, 1, axis=1).ravel()  # 1 x y 1 x y ...
        steps[0] = 0
        commands += [steps, np.float32([4])]
    return np.concatenate(commands)


def write_geojson(path: Path, instances: np.ndarray, probability: np.ndarray | None = None) -> None:
    """Instances (H, W) as QuPath detections of class Nucleus, "cell k" for label k, with all their
    pieces and holes.

    The mean of `probability` (H, W), if given, becomes a measurement of each.
    """
    cells = outlines(_checked(path, instances))
    means = [None] * len(cells)
    if probability is not None:
        means = mean(probability, instances, [k for k, _ in cells])
    features, points, parts = [], 0, 0
    for (k, polygons), value in zip(cells, means, strict=True):
        points += sum(map(len, chain.from_iterable(polygons)))
        parts += sum(map(len, polygons))
        rings = [[_closed(ring[:, ::-1]) for ring in rings] for rings in polygons]
        kind, coordinates = ("Polygon", rings[0]) if len(rings) == 1 else ("MultiPolygon", rings)
        about = {
            "objectType": "detection",
            "name": INSTANCE.format(k),
            "classification": {"name": "Nucleus", "color": CLASS_COLOURS[1]},
        }
        if value is not None:
            about["measurements"] = {"Probability": round(float(value), 6)}
        features.append(_feature(kind, coordinates, about))
    content = _collection(features)
    values = sum(map(content.count, (b",", b"[", b"{")))
    _say_limits(path, max(points + parts, values // 6), parts, len(content))
    _save(path, content)


def _closed(ring: np.ndarray) -> list:
    """A ring as GeoJSON wants it: its first point is its last, too."""
    return [*ring.tolist(), ring[0].tolist()]


def write_cells(
    path: Path,
    instances: np.ndarray,
    measured: "Measured | None" = None,
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
    _checked(path, instances)
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
    _save(path, text.getvalue().encode())


def _intensities(dense: np.ndarray, measured: "Measured") -> dict[str, np.ndarray]:
    """Mean, min and max of each channel within labels 1, 2, ... (H, W)."""
    columns = {}
    for channel, values in zip(measured.channels, np.moveaxis(measured.values, 2, 0), strict=True):
        properties = ("intensity_mean", "intensity_min", "intensity_max")
        found = regionprops_table(dense, values.astype(np.float64), properties=properties)
        for name in properties:
            title = f"{name.removeprefix('intensity_')}_{channel}" if channel else name[10:]
            columns[title] = found[name]
    return columns


def export_strokes(folder: Path, to: Path, kind: str = "imagej") -> list[Path]:
    """The strokes drawn with the widget, for other programs: one file for each image that was drawn
    on.

    Args:
        folder: One's own, see `places`.
        to: The folder for the files; it is made.
        kind: One of `STROKES`.

    Returns:
        The files.

    Raises:
        S2LError: an unknown kind, no strokes, or files that cannot be read or written.
    """
    if kind not in STROKES:
        raise S2LError(f"kind {kind!r}; expected one of {', '.join(STROKES)}. Choose one.")
    file = own_strokes(folder)
    if not file.exists():
        raise S2LError(f"{file}: there is none; expected strokes of notebook 08. Draw some first.")
    suffix, write = STROKES[kind]
    files = []
    for image, strokes in read_strokes(file).items():
        if strokes:
            files.append(Path(to) / f"{image}{suffix}")
            _save(files[-1], write(strokes))
    return files


def outlines(instances: np.ndarray) -> list[tuple[int, list[list[np.ndarray]]]]:
    """Labels, ascending, and their polygons: lists of rings, the outer one first, then holes.

    A ring (N, 2) holds the corners (row, column) along the edges of pixels, (0, 0) the image's own
    corner. A polygon is a 4-connected piece; its rings never cross or touch themselves, so that
    every program takes it as valid.

    Every side of a pixel where its piece ends becomes an edge of length 1, which leads around the
    pixel clockwise::

            0 east             the edge above a pixel starts at its own corner (row, column),
          +------->+           that to the right at (row, column + 1), that below at
        3 |        | 1         (row + 1, column + 1), that to the left at (row + 1, column).
          +<-------+           Each ends where the next edge of the same piece starts, so
            2 west             following them gives the rings: holes turn the other way.
    """
    pieces = label(instances, background=0, connectivity=1).astype(np.int64)  # (H, W)
    piece, row, column, heading = _edges(pieces)

    # Edges sorted by piece and start, so that those which start at a place are found by bisection.
    height, width = pieces.shape
    key = (piece * (height + 1) + row) * (width + 1) + column
    order = np.argsort(key)
    piece, row, column, heading, key = (
        array[order] for array in (piece, row, column, heading, key)
    )
    following = _following(key, heading, width)

    # Each ring is followed once. The first edge of a piece, its topmost, is on the outer ring.
    unseen, rings = bytearray(b"\1") * len(key), {}
    for first in range(len(key)):
        ring, edge = [], first
        while unseen[edge]:
            unseen[edge] = 0
            ring.append(edge)
            edge = following[edge]
        if ring:  # of a straight run only the corner at its start is kept
            corners = np.array(ring)[heading[ring] != heading[np.roll(ring, 1)]]
            corners = np.stack([row[corners], column[corners]], axis=1)  # (N, 2)
            rings.setdefault(piece[first], []).append(corners)

    # Pieces of one label belong together.
    numbers, places = np.unique(pieces, return_index=True)
    where = dict(zip(numbers.tolist(), places.tolist(), strict=True))
    polygons: dict[int, list] = {}
    for number, polygon in rings.items():
        polygons.setdefault(int(instances.flat[where[int(number)]]), []).append(polygon)
    return sorted(polygons.items())


def _edges(pieces: np.ndarray) -> tuple[np.ndarray, ...]:
    """Piece, row and column of the start, and heading (0 east, 1 south, 2 west, 3 north) of each
    edge, (E,) each.
    """
    height, width = pieces.shape
    around = np.pad(pieces, 1)
    found = []
    # The neighbour across the edge, and where the edge starts, from the pixel.
    sides = (((-1, 0), (0, 0)), ((0, 1), (0, 1)), ((1, 0), (1, 1)), ((0, -1), (1, 0)))
    for heading, ((down, right), (lower, further)) in enumerate(sides):
        beside = around[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        rows, columns = np.nonzero((pieces > 0) & (pieces != beside))
        headings = np.full(len(rows), heading)
        found.append(np.stack([pieces[rows, columns], rows + lower, columns + further, headings]))
    return tuple(np.concatenate(found, axis=1))


def _following(key: np.ndarray, heading: np.ndarray, width: int) -> list[int]:
    """The edge that starts where each edge ends; `key` is sorted and tells piece and start."""
    step = np.array([1, width + 1, -1, -width - 1])  # of the key, by heading
    end = key + step[heading]
    first = np.searchsorted(key, end)

    # Where a piece meets itself at a corner two edges start: to turn left keeps apart what lies
    # outside of it.
    second = np.minimum(first + 1, len(key) - 1)
    left = (key[second] == end) & (heading[second] == (heading - 1) % 4)
    return np.where(left, second, first).tolist()


def _checked(path: Path, instances: np.ndarray) -> np.ndarray:
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        found = f"instances of {instances.dtype} {instances.shape}"
        raise S2LError(f"{path}: {found}; expected (H, W) whole numbers from 0. Give labels.")
    return instances


def _say_limits(path: Path, points: int, parts: int, size: int) -> None:
    """Warns where a file holds more than is read here, which other programs read all the same."""
    factor = max(points / MAX_POINTS, parts / MAX_PARTS, size / MAX_BYTES)
    if factor >= 1:
        warnings.warn(
            f"{path}: {parts:,} outlines of {points:,} points are more than is read here, unless "
            "S2L_LIMITS is at "
            f"least {int(factor) + 1}. Other programs may read them; the label image has no such "
            "limit.",
            stacklevel=3,
        )


def _stroke_rois(strokes: Sequence[Stroke]) -> bytes:
    """Group 1 is foreground, group 2 background."""
    rois = []
    for number, stroke in enumerate(strokes, start=1):
        name = f"{CLASSES[stroke.label]} {number}"
        roi = ImagejRoi.frompoints(np.array(stroke.points, float)[:, ::-1], name=name)
        roi.roitype = ROI_TYPE.POLYLINE if len(stroke.points) > 1 else ROI_TYPE.POINT
        roi.stroke_width, roi.float_stroke_width = max(round(stroke.width), 1), stroke.width
        roi.group, roi.stroke_color = 2 - stroke.label, bytes((255, *CLASS_COLOURS[stroke.label]))
        rois.append(roi)
    return _zipped(rois)


def _stroke_features(strokes: Sequence[Stroke]) -> bytes:
    """Annotations of class Foreground and Background."""
    features = []
    for stroke in strokes:
        points = (np.array(stroke.points, float)[:, ::-1] + 0.5).tolist()
        name, colour = CLASSES[stroke.label].capitalize(), CLASS_COLOURS[stroke.label]
        about = {
            "objectType": "annotation",
            "classification": {"name": name, "color": colour},
            "measurements": {STROKE_WIDTH: stroke.width},
        }
        kind, coordinates = ("LineString", points) if len(points) > 1 else ("Point", points[0])
        features.append(_feature(kind, coordinates, about))
    return _collection(features)


def _feature(kind: str, coordinates: list, about: dict) -> dict:
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": about,
    }


def _collection(features: Iterable[dict]) -> bytes:
    text = ",\n".join(json.dumps(feature, separators=(",", ":")) for feature in features)
    return f'{{"type":"FeatureCollection","features":[\n{text}]}}\n'.encode()


def _zipped(rois: Iterable[ImagejRoi]) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for roi in rois:  # undated: the same ROIs make the same file
            archive.writestr(
                zipfile.ZipInfo(f"{roi.name}.roi"), roi.tobytes(), zipfile.ZIP_DEFLATED
            )
    return file.getvalue()


def _save(path: Path, content: bytes) -> None:
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))


STROKES = {"imagej": (".zip", _stroke_rois), "qupath": (".geojson", _stroke_features)}
