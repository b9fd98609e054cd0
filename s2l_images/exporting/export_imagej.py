"""Instances and strokes as ROIs of ImageJ: outlines of nuclei, and lines that can be changed."""

import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from s2l_core.config import CLASSES
from s2l_images.annotation_files.items import INSTANCE
from s2l_images.exporting.exports import CLASS_COLOURS, checked, save, say_limits
from s2l_images.outlines import outlines
from s2l_images.strokes import Stroke


def write_rois(path: Path, instances: np.ndarray) -> None:
    """Instances (H, W) as ImageJ ROIs (.zip), "cell k" for label k; those with pieces or holes are
    composite ROIs.
    """
    rois, points, parts = [], 0, 0
    for k, polygons in outlines(checked(path, instances)):
        rings = [ring[:, ::-1] for polygon in polygons for ring in polygon]  # (N, 2), x before y
        points += sum(len(ring) for ring in rings)
        parts += len(rings)

        # One ring is a traced outline; several are a composite ROI, drawn as one path.
        roi = ImagejRoi.frompoints(np.concatenate(rings), name=INSTANCE.format(k))
        roi.roitype = ROI_TYPE.TRACED
        if len(rings) > 1:
            roi.multi_coordinates = _path(rings)
            roi.roitype, roi.shape_roi_size = ROI_TYPE.RECT, len(roi.multi_coordinates)
        rois.append(roi)

    content = _zipped(rois)
    unpacked = sum(len(roi.tobytes()) for roi in rois)
    say_limits(path, points, parts, max(len(content), unpacked))
    save(path, content)


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


def stroke_rois(strokes: Sequence[Stroke]) -> bytes:
    """Strokes as a .zip of lines and points; group 1 is foreground, group 2 background."""
    rois = []
    for number, stroke in enumerate(strokes, start=1):
        name = f"{CLASSES[stroke.label]} {number}"
        roi = ImagejRoi.frompoints(np.array(stroke.points, float)[:, ::-1], name=name)
        roi.roitype = ROI_TYPE.POLYLINE if len(stroke.points) > 1 else ROI_TYPE.POINT
        roi.stroke_width = max(round(stroke.width), 1)
        roi.float_stroke_width = stroke.width
        roi.group = 2 - stroke.label
        roi.stroke_color = bytes((255, *CLASS_COLOURS[stroke.label]))
        rois.append(roi)
    return _zipped(rois)


def _zipped(rois: Iterable[ImagejRoi]) -> bytes:
    """ROIs in an archive; its members have no date, so that the same ROIs make the same file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for roi in rois:
            member = zipfile.ZipInfo(f"{roi.name}.roi")
            archive.writestr(member, roi.tobytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()
