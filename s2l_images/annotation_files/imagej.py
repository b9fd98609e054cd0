"""ImageJ's ROIs -> items. ImageJ counts lines and points from the centres of pixels, areas from
their corners.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi
from scipy.interpolate import CubicSpline

from s2l_core.config import S2LError
from s2l_images.annotation_files.items import (
    MAX_BYTES,
    MAX_PARTS,
    MAX_PATH,
    MAX_POINTS,
    Item,
    errors_named,
    members,
    new_item,
)

_LINES = (ROI_TYPE.LINE, ROI_TYPE.FREELINE, ROI_TYPE.POLYLINE, ROI_TYPE.ANGLE)
_AUTOMATIC = re.compile(r"(\d{4})-\d{4,}-\d{4,}(-\d+)?")  # ImageJ's names: slice, row, column
_PULL = 4 / 3 * (math.sqrt(2) - 1)  # of the Bézier curve that is nearest to a quarter of a circle
_CORNER_CURVE = np.array(
    [(1, 0), (1, _PULL), (_PULL, 1), (0, 1)]
)  # that curve, by which Java rounds
_FLATNESS = 0.01  # pixels: how near to a curve Java's polygon is
_QUARTER = 90  # points of a quarter of an oval: within 1/100 px up to 500 px across
_WRAP = 7  # control points by which ImageJ continues a closed spline at both ends
_SHORTEST = 1e-3  # step of a spline's parameter between points on the same spot


def read_rois(data: bytes, path: Path) -> Iterator[Item]:
    """One ROI, or a set of them (.zip), in the file's order."""
    rois = [(path.stem, data)]
    if data[:2] == b"PK":
        rois = members(data, ".roi", MAX_BYTES)
    for file, content in rois:
        with errors_named(f"ROI {file}"):
            roi = ImagejRoi.frombytes(content)
            name = roi.name or file
            # The name of a lone file is that of its image, and tells no class.
            texts = [] if name.isdigit() or name == path.stem else [name]
            yield from _items(roi, name, texts)


def _items(roi: ImagejRoi, name: str, texts: list[str]) -> Iterator[Item]:
    """The items of a ROI: one, except that points may lie on planes of their own."""
    foreign = roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE)
    if foreign or roi.shape_roi_size > MAX_PATH:
        raise S2LError(
            f"a text, an image or over {MAX_PATH} numbers; expected a line, points or an area. "
            "Delete it."
        )
    plane = _plane(roi, name)
    if roi.group > 0:
        texts = [*texts, str(roi.group)]

    if roi.roitype == ROI_TYPE.POINT:  # its stroke width is the size of its symbol
        points = roi.coordinates()[: MAX_PARTS + 1]
        planes = [plane] * len(points)
        if roi.counter_positions is not None:
            planes = [{"slice": int(n)} if n else plane for n in roi.counter_positions]
        for number in dict.fromkeys(tuple(p.items()) for p in planes):
            parts = [
                [xy[None]]
                for xy, p in zip(points, planes, strict=False)
                if tuple(p.items()) == number
            ]
            width = roi.float_stroke_width or None
            yield new_item(name, texts, False, parts, width=width, plane=dict(number))
        return

    width = roi.float_stroke_width or roi.stroke_width or None
    if roi.roitype in _LINES:
        line = roi.coordinates()
        if roi.options & ROI_OPTIONS.SPLINE_FIT:
            line = _spline(line, closed=False)
        yield new_item(name, texts, False, [[line]], width=width, plane=plane)
        return
    yield new_item(name, texts, True, [_outlines(roi)], width=width, corner=0.5, plane=plane)


def _plane(roi: ImagejRoi, name: str) -> dict[str, int]:
    """Planes of a stack or hyperstack that a ROI lies on; old ImageJ tells them by the name alone,
    as `RoiManager` reads it.
    """
    axes = {"c": roi.c_position, "z": roi.z_position, "t": roi.t_position}
    axes = {axis: number for axis, number in axes.items() if number > 0}
    if axes:
        return axes
    if roi.position > 0:
        return {"slice": roi.position}
    named = _AUTOMATIC.fullmatch(name)
    return {"slice": int(named[1])} if named and int(named[1]) else {}


def _outlines(roi: ImagejRoi) -> list[np.ndarray]:
    """Rings (N, 2) of (x, y) of an area."""
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL) and not roi.composite:
        return [_box(roi)]
    rings = roi.coordinates(multi=True)
    if roi.options & ROI_OPTIONS.SPLINE_FIT and len(rings) == 1:
        return [_spline(rings[0], closed=True)]
    return rings


def _box(roi: ImagejRoi) -> np.ndarray:
    """Outline (N, 2) of a rectangle, with rounded corners or without, or of an oval.

    ImageJ fills the whole pixels that a rectangle or oval of broken numbers touches.
    """
    left, top, right, bottom = roi.left, roi.top, roi.right, roi.bottom
    if roi.subpixelrect:
        left, top = math.floor(roi.xd), math.floor(roi.yd)
        right, bottom = math.ceil(roi.xd + roi.widthd), math.ceil(roi.yd + roi.heightd)
    width, height = right - left, bottom - top
    if not width > 0 < height:
        raise S2LError(f"width {width} and height {height}; expected more than 0. Draw it again.")

    # Corners of an oval are quarters of it; those of a rectangle are as large as its rounding.
    corner = np.zeros(2)
    if roi.roitype == ROI_TYPE.OVAL:
        corner = np.array([width, height]) / 2
        turn = np.linspace(0, math.pi / 2, _QUARTER)[:, None]
        quarter = corner * np.hstack([np.cos(turn), np.sin(turn)])
    elif roi.rounded_rect_arc_size > 0:
        corner = np.minimum(roi.rounded_rect_arc_size, [width, height]) / 2
        quarter = np.array([corner * (1, 0), *_curve(corner * _CORNER_CURVE)])
    if not corner.any():
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)

    # The quarter from the right to the bottom, put into each corner of the box, clockwise.
    outline = []
    for x, y, sides in (
        (right, bottom, (1, 1)),
        (left, bottom, (-1, 1)),
        (left, top, (-1, -1)),
        (right, top, (1, -1)),
    ):
        turned = quarter if sides[0] == sides[1] else quarter[::-1]
        outline.append(np.array([x, y]) + (turned - corner) * sides)
    return np.concatenate(outline)


def _curve(ends: np.ndarray) -> list[np.ndarray]:
    """Corners of the polygon that Java draws for a Bézier curve of four points (4, 2), but for the
    first.

    The curve is halved until its inner points lie within `_FLATNESS` of the chord.
    """
    first, one, two, last = ends
    chord = (last - first) / np.linalg.norm(last - first)
    beside = np.array([-chord[1], chord[0]])
    if max(abs((one - first) @ beside), abs((two - first) @ beside)) <= _FLATNESS:
        return [last]
    middle = (one + two) / 2
    left, right = (first + one) / 2, (two + last) / 2
    before, after = (left + middle) / 2, (middle + right) / 2
    halfway = (before + after) / 2
    earlier = _curve(np.array([first, left, before, halfway]))
    return earlier + _curve(np.array([halfway, after, right, last]))


def _spline(points: np.ndarray, *, closed: bool) -> np.ndarray:
    """The curve (M, 2) that ImageJ fits through control points (N, 2): natural cubic splines of x
    and y.

    Their parameter grows by the square root of the distance between two points. A closed curve goes
    on at both ends for up to `_WRAP` points of the other end.
    """
    points = np.asarray(points, float)
    if len(points) < 3:
        return points
    nodes = np.concatenate([points, points[:1]]) if closed else points
    steps = np.linalg.norm(np.diff(nodes, axis=0), axis=1)  # pixels
    count = max(100, int(steps.sum() / 2))
    if not count < MAX_POINTS:
        raise S2LError(f"a spline of {steps.sum():g} pixels. Draw it again.")
    knots = np.concatenate([[0], np.cumsum(np.maximum(np.sqrt(steps), _SHORTEST))])
    at = np.linspace(0, knots[-1], count)
    if closed:
        wrap = min(_WRAP, len(nodes) - 1)
        knots = np.concatenate(
            [knots[-1 - wrap : -1] - knots[-1], knots, knots[1 : wrap + 1] + knots[-1]]
        )
        nodes = np.concatenate([nodes[-1 - wrap : -1], nodes, nodes[1 : wrap + 1]])
    return CubicSpline(knots, nodes, bc_type="natural")(at)
