"""Files of other programs, taken apart: ImageJ ROIs, QuPath GeoJSON, Aperio XML -> items.

Coordinates become (row, column) from pixel centres. QuPath counts from pixel corners, Aperio XML is taken to count from
centres, and ImageJ counts lines and points from centres, areas from corners. Files may come from anybody: whatever they
hold, reading takes seconds and less than a gigabyte, and fails with nothing but S2LError. S2L_LIMITS allows more.
"""

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.handler import ContentHandler

import numpy as np
from defusedxml import sax
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from s2l_core.config import S2LError

INSTANCE = "cell {}"  # what our writers call an instance
STROKE_WIDTH = "stroke_width"  # where GeoJSON and Aperio XML, which know no width, carry it


def _most(usual: int) -> int:
    """A limit on what files of others may hold, times the environment variable S2L_LIMITS."""
    text = os.environ.get("S2L_LIMITS") or "1"
    if not re.fullmatch(r"\d{0,5}\.?\d{1,5}", text):
        raise S2LError(
            f"S2L_LIMITS = {text!r}: expected a factor such as 4. Unset it, and start Python anew."
        )
    return int(usual * float(text))


MAX_BYTES, MAX_POINTS, MAX_PARTS = (
    _most(32 * 2**20),
    _most(1_000_000),
    _most(50_000),
)  # parts: lines, rings, members
MAX_ELEMENTS, MAX_PATH = _most(400_000), _most(1_000_000)  # of XML; numbers in a composite ROI
MAX_PIXELS = _most(2**25)  # of an image; 8 bytes a pixel at most, also in its file
MAX_WIDTH, MAX_COORDINATE = 256, 1e9  # pixels


@dataclass(frozen=True)
class Item:
    """One drawn thing: an area (polygons, each of rings filled by the even-odd rule) or lines (one point: a disc)."""

    name: str
    texts: tuple[str, ...]  # what may tell its class
    area: bool
    parts: list[list[np.ndarray]]  # polygons of rings, or lines, each alone; all (N, 2) row, column
    width: float | None
    detected: bool  # by a program, in QuPath

    @property
    def points(self) -> np.ndarray:
        """All its points (N, 2)."""
        return np.concatenate([points for part in self.parts for points in part])


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Whatever a parser stumbles over becomes one S2LError that says where: no list of their exceptions is complete."""
    try:
        yield
    except S2LError as error:
        raise S2LError(f"{where}: {error}") from error
    except Exception as error:
        raise S2LError(
            f"{where}: cannot be read ({error!r:.200}). Is it damaged? Export it again."
        ) from error


def items(path: Path) -> list[Item]:
    """All items of a file, in its order; S2LError where it is damaged or beyond the limits."""
    if (reader := ITEMS.get(path.suffix.lower())) is None:
        raise S2LError(
            f"unknown format; expected one of {', '.join(ITEMS)}. Export it as one of these."
        )
    if (size := size_of(path)) > MAX_BYTES:
        raise S2LError(
            f"{size} bytes; at most {MAX_BYTES} are read. Export fewer objects, or without measurements."
        )
    found, points, parts = [], 0, 0
    for item in reader(path.read_bytes(), path.stem):
        points, parts = points + len(item.points), parts + sum(map(len, item.parts))
        if points >= MAX_POINTS or parts > MAX_PARTS:
            raise S2LError(
                f"{MAX_POINTS} points or more, or over {MAX_PARTS} outlines. Export fewer objects."
            )
        found.append(item)
    return found


def size_of(path: Path) -> int:
    """Bytes of a file; what has no end, as a pipe or a device, is none."""
    if path.exists() and not path.is_file():
        raise S2LError("this is no file. Export it again.")
    return path.stat().st_size


def _item(
    name: str, texts: Sequence, area: bool, parts: Sequence, width=None, corner=0.0, detected=False
) -> Item:
    """An item from parts in (x, y); `corner`: where its program puts the centre of the first pixel."""
    if sum(map(len, parts)) > MAX_PARTS:
        raise S2LError(f"more than {MAX_PARTS} outlines. Export fewer objects.")
    arrays = [[np.array(points, float) for points in part] for part in parts]
    if wrong := {
        a.shape
        for part in arrays
        for a in part
        if a.ndim != 2 or not len(a) or a.shape[1] not in (2, 3)
    }:
        raise S2LError(f"coordinates of shape {min(wrong)}; expected (N, 2). Draw it again.")
    arrays = [[points[:, 1::-1] - corner for points in part] for part in arrays]
    item = Item(name, tuple(texts), area, arrays, width, detected)
    if not (np.abs(item.points) < MAX_COORDINATE).all():
        raise S2LError(
            f"its coordinates are not all numbers below {MAX_COORDINATE:g}. Draw it again."
        )
    if width is not None and not 0 < width <= MAX_WIDTH:
        raise S2LError(
            f"width {width}; expected up to {MAX_WIDTH} pixels. Change its stroke width."
        )
    return item


def _rois(data: bytes, stem: str) -> Iterator[Item]:
    """ImageJ: one ROI or a set of them; a fitted spline is read as its control points."""
    for name, content in members(data, ".roi", MAX_BYTES) if data[:2] == b"PK" else [(stem, data)]:
        with reading(f"ROI {name}"):
            roi = ImagejRoi.frombytes(content)
            if (
                roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE)
                or roi.shape_roi_size > MAX_PATH
            ):
                raise S2LError(
                    f"a text, an image or over {MAX_PATH} numbers; expected a line, points or an area."
                )
            point = roi.roitype == ROI_TYPE.POINT
            area = not point and roi.roitype not in _LINES
            box = roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL) and not roi.composite
            outline = [_box(roi)] if box else roi.coordinates(multi=True)
            parts = [[xy[None]] for xy in outline[0][: MAX_PARTS + 1]] if point else [outline]
            # of points, the other field holds the size of their symbol
            width = roi.float_stroke_width or (0 if point else roi.stroke_width)
            texts = [text for text in (roi.name, name) if not text.isdigit()] + [str(roi.group)] * (
                roi.group > 0
            )
            yield _item(roi.name or name, texts, area, parts, width or None, 0.5 * area)


def _box(roi: ImagejRoi) -> np.ndarray:
    """Outline (N, 2) of a rectangle, or of an oval to within 1/100 px up to 500 px across."""
    x, y, width, height = roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top
    if roi.subpixelrect:
        x, y, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
    if not width > 0 < height:
        raise S2LError(f"width {width} and height {height}; expected more than 0. Draw it again.")
    turn = np.arange(360) * (2 * math.pi / 360)
    oval = 0.5 + 0.5 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    unit = oval if roi.roitype == ROI_TYPE.OVAL else np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    return unit * (width, height) + (x, y)


_LINES = (ROI_TYPE.LINE, ROI_TYPE.FREELINE, ROI_TYPE.POLYLINE, ROI_TYPE.ANGLE)
_PARTS = {  # GeoJSON's kinds of geometry -> parts of an item
    "Point": lambda point: [[[point]]],
    "MultiPoint": lambda points: [[[point]] for point in points],
    "LineString": lambda line: [[line]],
    "MultiLineString": lambda lines: [[line] for line in lines],
    "Polygon": lambda rings: [rings],
    "MultiPolygon": lambda polygons: polygons,
}


def _geojson(data: bytes, stem: str) -> Iterator[Item]:
    """QuPath: a FeatureCollection, a list of features, or one feature."""
    if (
        sum(map(data.count, (b",", b"[", b"{"))) > 6 * MAX_POINTS
    ):  # before they become objects of 100 bytes each
        raise S2LError(
            f"more than {6 * MAX_POINTS} values. Export fewer objects, or without measurements."
        )
    content = json.loads(data)
    if isinstance(content, dict):
        content = content["features"] if "features" in content else [content]
    for number, feature in enumerate(content, start=1):
        with reading(f"feature {number}"):
            about, geometry = feature.get("properties") or {}, feature["geometry"]
            name, group = about.get("name") or "", about.get("classification") or {}
            if (kind := geometry["type"]) not in _PARTS:
                raise S2LError(
                    f"geometry {kind!r:.80}; expected one of {', '.join(_PARTS)}. Leave it out."
                )
            texts = [name] * (not name.isdigit()) + (
                group.get("names") or [group.get("name") or ""]
            )
            measured = about.get("measurements")  # before QuPath 0.4 a list
            width = measured.get(STROKE_WIDTH) if isinstance(measured, dict) else None
            parts, detected = (
                _PARTS[kind](geometry["coordinates"]),
                about.get("objectType") in ("detection", "cell"),
            )
            yield _item(
                name or f"feature {number}",
                texts,
                kind.endswith("Polygon"),
                parts,
                width,
                0.5,
                detected,
            )


def _aperio(data: bytes, stem: str) -> list[Item]:
    """Aperio ImageScope: regions of type 0 and 1 are areas, of type 3 and 4 lines."""
    sax.parseString(data, handler := _Regions())
    return handler.items


class _Regions(ContentHandler):
    """Collects regions from the stream: the tree of a hostile file would fill the memory."""

    def __init__(self):
        super().__init__()
        self.items, self.elements, self.layer, self.region = [], 0, [], None

    def startElement(self, name, attributes):  # noqa: N802
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise S2LError(f"more than {MAX_ELEMENTS} elements. Export fewer regions.")
        if name == "Annotation":
            self.layer = [attributes.get("Name", "")]
        elif name == "Region":
            self.region, self.texts, self.points, self.width = (
                attributes,
                [attributes.get("Text", "")],
                [],
                None,
            )
        elif name == "Vertex":
            self.points.append((float(attributes["X"]), float(attributes["Y"])))
        elif name == "Attribute" and attributes.get("Name") == STROKE_WIDTH:
            self.width = float(attributes["Value"])
        elif name == "Attribute" and not attributes.get("Value", "").isdigit():
            (self.layer if self.region is None else self.texts).append(attributes.get("Value", ""))

    def endElement(self, name):  # noqa: N802
        if name == "Region":
            title = f"region {len(self.items) + 1}"
            with reading(title):
                kind = self.region.get("Type", "0")
                if kind not in ("0", "1", "3", "4") or self.region.get("NegativeROA", "0") != "0":
                    raise S2LError(
                        f"type {kind!r:.20}, or negative; expected a freehand region, rectangle or line."
                    )
                self.items.append(
                    _item(title, self.layer + self.texts, kind in "01", [[self.points]], self.width)
                )
            self.region = None


def members(data: bytes, suffix: str, limit: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of the members of an archive, `limit` bytes in all."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or entry.filename.startswith("__MACOSX/"):
                continue
            known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not known or not entry.filename.lower().endswith(suffix):
                raise S2LError(
                    f"holds {entry.filename!r:.80}; expected {suffix} files only, deflated. Zip it again."
                )
            with archive.open(entry) as stream:
                content = stream.read(limit + 1)  # what the archive says of its size may be wrong
            if (limit := limit - len(content)) < 0:
                raise S2LError("unpacks to more than is read. Export fewer objects.")
            yield Path(entry.filename).stem, content


ITEMS = {".roi": _rois, ".zip": _rois, ".geojson": _geojson, ".json": _geojson, ".xml": _aperio}
