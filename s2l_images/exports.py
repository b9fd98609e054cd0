"""Out to other programs: instances and strokes -> label TIFF, ImageJ ROIs, QuPath GeoJSON, Aperio XML, a CSV of cells.

Outlines run along the edges of pixels, so that `annotations.read_instances` gives back the very same instances.
"""

import csv
import io
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from itertools import count, groupby
from pathlib import Path

import numpy as np
import tifffile
from roifile import ROI_TYPE, ImagejRoi
from scipy.ndimage import mean
from skimage.measure import label, regionprops_table

from s2l_core.config import S2LError
from s2l_images.parsers import INSTANCE, STROKE_WIDTH
from s2l_images.strokes import Stroke

CLASSES = ("background", "foreground")
COLOURS = ((0, 114, 178), (230, 159, 0))  # of the classes; colour-blind readers tell them apart
SHAPE = {  # columns of `write_cells` -> scikit-image's names
    "area": "area", "centroid_row": "centroid-0", "centroid_column": "centroid-1", "min_row": "bbox-0",
    "min_column": "bbox-1", "max_row": "bbox-2", "max_column": "bbox-3", "perimeter": "perimeter",
    "eccentricity": "eccentricity", "solidity": "solidity", "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
}  # fmt: skip
MICRONS = {  # those that have a size, and its power of the pixel's
    "area": 2, "centroid_row": 1, "centroid_column": 1, "perimeter": 1, "major_axis": 1, "minor_axis": 1,
}  # fmt: skip


def write_label_tiff(path: Path, instances: np.ndarray) -> None:
    """Instances (H, W) as an ImageJ TIFF: uint16 up to label 65,535, float32 up to 2**24, then an S2LError."""
    if (highest := int(_checked(path, instances).max(initial=0))) > 2**24:
        raise S2LError(
            f"{path}: label {highest}; {2**24} is the last that ImageJ holds exactly. Renumber them."
        )
    plane, file = instances.astype(np.uint16 if highest < 2**16 else np.float32), io.BytesIO()
    tifffile.imwrite(
        file, plane, imagej=True, metadata={"axes": "YX", "min": 0.0, "max": float(highest)}
    )
    _save(path, file.getvalue())


def write_rois(path: Path, instances: np.ndarray) -> None:
    """Instances (H, W) as ImageJ ROIs (.zip), "cell k" for label k; those with pieces or holes are composite ROIs."""
    rois = []
    for k, polygons in outlines(_checked(path, instances)):
        rings = [ring[:, ::-1] for rings in polygons for ring in rings]
        roi = ImagejRoi.frompoints(np.concatenate(rings), name=INSTANCE.format(k))
        roi.roitype = ROI_TYPE.TRACED
        if len(rings) > 1:  # a path of commands: 0 goes to, 1 draws to, 4 closes
            paths = [np.insert(ring.astype(np.float32), 0, 1, axis=1).ravel() for ring in rings]
            for steps in paths:
                steps[0] = 0
            roi.multi_coordinates = np.concatenate(
                [np.append(steps, np.float32(4)) for steps in paths]
            )
            roi.roitype, roi.shape_roi_size = ROI_TYPE.RECT, len(roi.multi_coordinates)
        rois.append(roi)
    _save(path, _zipped(rois))


def write_geojson(path: Path, instances: np.ndarray, probability: np.ndarray | None = None) -> None:
    """Instances (H, W) as QuPath detections of class Nucleus, "cell k" for label k, with all their pieces and holes.

    The mean of `probability` (H, W), if given, becomes a measurement of each.
    """
    cells = outlines(_checked(path, instances))
    means = (
        [None] * len(cells)
        if probability is None
        else mean(probability, instances, [k for k, _ in cells])
    )
    features = []
    for (k, polygons), value in zip(cells, means, strict=True):
        rings = [
            [[*ring[:, ::-1].tolist(), ring[0, ::-1].tolist()] for ring in rings]
            for rings in polygons
        ]
        kind, coordinates = ("Polygon", rings[0]) if len(rings) == 1 else ("MultiPolygon", rings)
        about = {
            "objectType": "detection",
            "name": INSTANCE.format(k),
            "classification": {"name": "Nucleus"},
        }
        about |= {} if value is None else {"measurements": {"Probability": round(float(value), 6)}}
        features.append(_feature(kind, coordinates, about))
    _save(path, _collection(features))


def write_cells(
    path: Path,
    instances: np.ndarray,
    image: np.ndarray | None = None,
    pixel_size: float | None = None,
) -> None:
    """A CSV with a row per cell: label, `SHAPE` in pixels (the box's upper bounds are exclusive), intensities.

    Args:
        path: Of the CSV.
        instances: (H, W); without any only the header is written.
        image: (H, W) or (H, W, C); adds mean, min and max (of each channel: mean_0, ...).
        pixel_size: Micrometres; adds `MICRONS` as area_um2, perimeter_um, ...

    Raises:
        S2LError: `image` does not fit `instances`, or `pixel_size` is not above 0.
    """
    present = np.unique(_checked(path, instances)[instances > 0])
    if image is not None and image.shape[:2] != instances.shape:
        raise S2LError(
            f"{path}: image of shape {image.shape} for instances of {instances.shape}. Give the same image."
        )
    if pixel_size is not None and not 0 < pixel_size < np.inf:
        raise S2LError(
            f"{path}: pixel_size {pixel_size}; expected micrometres above 0. Look it up in the image."
        )
    names = dict.fromkeys(name.partition("-")[0] for name in SHAPE.values())
    intensity = () if image is None else ("intensity_mean", "intensity_min", "intensity_max")
    dense = np.searchsorted(
        present, instances, side="right"
    )  # scikit-image's memory grows with the highest label
    found = regionprops_table(dense, image, properties=(*names, *intensity))
    table = {"label": present} | {ours: found[theirs] for ours, theirs in SHAPE.items()}
    if pixel_size is not None:
        table |= {
            f"{name}_um{'2' * (n > 1)}": table[name] * pixel_size**n for name, n in MICRONS.items()
        }
    table |= {
        name.removeprefix("intensity_").replace("-", "_"): found[name]
        for name in found
        if "intensity" in name
    }
    writer = csv.writer(text := io.StringIO(), lineterminator="\n")
    writer.writerow(table)
    writer.writerows(
        [f"{value:.10g}" for value in row] for row in zip(*table.values(), strict=True)
    )
    _save(path, text.getvalue().encode())


def write_strokes_as(path: Path, strokes: Sequence[Stroke]) -> None:
    """Strokes as vectors in the format of the suffix: .zip (ImageJ), .geojson (QuPath) or .xml (Aperio).

    Multiples of 1/4 px stay exact; of other numbers GeoJSON and XML keep 15 digits, ImageJ 7.
    """
    path = Path(path)
    if (writer := STROKES.get(path.suffix.lower())) is None:
        raise S2LError(
            f"{path}: strokes are written as one of {', '.join(STROKES)}. Choose another suffix."
        )
    _save(path, writer(strokes))


def outlines(instances: np.ndarray) -> list[tuple[int, list[list[np.ndarray]]]]:
    """Labels, ascending, and their polygons: lists of rings, the outer one first, then holes.

    A ring (N, 2) holds the corners (row, column) along the edges of pixels, (0, 0) the image's own corner. A polygon is
    a 4-connected piece; its rings never cross or touch themselves, so that every program takes it as valid.
    """
    pieces = label(instances, background=0, connectivity=1).astype(np.int64)
    (height, width), around, edges = pieces.shape, np.pad(pieces, 1), []
    for heading, (down, right) in enumerate(
        ((-1, 0), (0, 1), (1, 0), (0, -1))
    ):  # east above a pixel, south beside it
        beside = around[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        rows, columns = np.nonzero((pieces > 0) & (pieces != beside))
        start = rows + (heading in (2, 3)), columns + (heading in (1, 2))
        edges.append([pieces[rows, columns], *start, np.full(len(rows), heading)])
    piece, row, column, heading = np.concatenate(edges, axis=1)
    key = (piece * (height + 1) + row) * (width + 1) + column
    order = np.argsort(key)
    piece, row, column, heading, key = (
        piece[order],
        row[order],
        column[order],
        heading[order],
        key[order],
    )
    end = key + np.array([1, width + 1, -1, -width - 1])[heading]
    first = np.searchsorted(key, end)
    # where a piece meets itself at a corner two edges start: to turn left keeps what lies outside of it apart
    second = np.minimum(first + 1, len(key) - 1)
    left = (key[second] == end) & (heading[second] == (heading - 1) % 4)
    following, unseen, rings = (
        np.where(left, second, first).tolist(),
        bytearray(b"\1") * len(key),
        {},
    )
    for edge in range(len(key)):  # the first edge of a piece, its topmost, is on the outer ring
        ring = []
        while unseen[edge]:
            unseen[edge] = 0
            ring.append(edge)
            edge = following[edge]
        if ring:
            corners = np.array(ring)[heading[ring] != heading[np.roll(ring, 1)]]
            rings.setdefault(piece[edge], []).append(
                np.stack([row[corners], column[corners]], axis=1)
            )
    polygons: dict[int, list] = {}
    where = dict(zip(*np.unique(pieces, return_index=True), strict=True))
    for number, polygon in rings.items():
        polygons.setdefault(int(instances.flat[where[number]]), []).append(polygon)
    return sorted(polygons.items())


def _checked(path: Path, instances: np.ndarray) -> np.ndarray:
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        found = f"instances of {instances.dtype} {instances.shape}"
        raise S2LError(f"{path}: {found}; expected (H, W) whole numbers from 0. Give labels.")
    return instances


def _stroke_rois(strokes: Sequence[Stroke]) -> bytes:
    """Group 1 is foreground, group 2 background."""
    rois = []
    for number, stroke in enumerate(strokes, start=1):
        name = f"{CLASSES[stroke.label]} {number}"
        roi = ImagejRoi.frompoints(np.array(stroke.points, float)[:, ::-1], name=name)
        roi.roitype = ROI_TYPE.POLYLINE if len(stroke.points) > 1 else ROI_TYPE.POINT
        roi.stroke_width, roi.float_stroke_width = max(round(stroke.width), 1), stroke.width
        roi.group, roi.stroke_color = 2 - stroke.label, bytes((255, *COLOURS[stroke.label]))
        rois.append(roi)
    return _zipped(rois)


def _stroke_features(strokes: Sequence[Stroke]) -> bytes:
    features = []
    for stroke in strokes:
        points = (np.array(stroke.points, float)[:, ::-1] + 0.5).tolist()
        classification = {
            "name": CLASSES[stroke.label].capitalize(),
            "color": COLOURS[stroke.label],
        }
        about = {"objectType": "annotation", "classification": classification}
        about["measurements"] = {STROKE_WIDTH: stroke.width}
        kind, coordinates = ("LineString", points) if len(points) > 1 else ("Point", points[0])
        features.append(_feature(kind, coordinates, about))
    return _collection(features)


def _stroke_regions(strokes: Sequence[Stroke]) -> bytes:
    """A layer for every run of strokes of one class: which stroke is on top stays as it is."""
    lines, numbers = ["<Annotations>"], count(1)
    for layer, (kind, run) in enumerate(groupby(strokes, key=lambda stroke: stroke.label), start=1):
        red, green, blue = COLOURS[kind]
        colour = red + 256 * green + 65536 * blue
        lines.append(
            f'<Annotation Id="{layer}" Name="{CLASSES[kind]}" LineColor="{colour}" Visible="1"><Regions>'
        )
        for stroke in run:
            width = f'<Attributes><Attribute Name="{STROKE_WIDTH}" Id="0" Value="{stroke.width}"/></Attributes>'
            points = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for y, x in stroke.points)
            parts = f"{width}<Vertices>{points}</Vertices>"
            lines.append(f'<Region Id="{next(numbers)}" Type="4" NegativeROA="0">{parts}</Region>')
        lines.append("</Regions></Annotation>")
    return "\n".join([*lines, "</Annotations>\n"]).encode()


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
    """Whole or not at all."""
    part = Path(path).with_name(f"{Path(path).name}.tmp")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        hint = "Choose a folder that exists and may be written"
        raise S2LError(f"{path}: cannot be written ({error}). {hint}.") from error


STROKES = {".zip": _stroke_rois, ".geojson": _stroke_features, ".xml": _stroke_regions}
