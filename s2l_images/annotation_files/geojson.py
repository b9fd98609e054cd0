"""QuPath's GeoJSON -> items. QuPath counts from the corners of pixels, and planes from 0."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from s2l_core.config import S2LError
from s2l_images.annotation_files.items import (
    MAX_POINTS,
    SAVE_MASKS,
    STROKE_WIDTH,
    Item,
    OtherProgram,
    errors_named,
    new_item,
)
from s2l_images.faults import listed

_GEOMETRIES = {  # kind of geometry -> parts of an item
    "Point": lambda point: [[[point]]],
    "MultiPoint": lambda points: [[[point]] for point in points],
    "LineString": lambda line: [[line]],
    "MultiLineString": lambda lines: [[line] for line in lines],
    "Polygon": lambda rings: [rings],
    "MultiPolygon": lambda polygons: polygons,
}
_KINDS = {  # what QuPath calls an object, since version 0.3 and before -> `Item.kind`
    "detection": "detection", "cell": "cell", "tile": "tile", "tmaCore": "tma core",
    "PathDetectionObject": "detection", "PathCellObject": "cell", "PathTileObject": "tile",
    "TMACoreObject": "tma core", "root": "tile", "PathRootObject": "tile",
}  # fmt: skip
_OTHER_KEYS = (  # keys that tell another program's JSON; the program; what to do instead
    ({"images", "annotations"}, "COCO", f"{SAVE_MASKS}, one for each image"),
    ({"image_id", "segmentation"}, "COCO", f"{SAVE_MASKS}, one for each image"),
    ({"shapes"}, "LabelMe", "labelme_export_json makes label images of it"),
    ({"_via_img_metadata"}, "VGG Image Annotator", SAVE_MASKS),
    ({"nuc"}, "HoVer-Net", "export GeoJSON for QuPath instead"),
    ({"objects", "arcs"}, "TopoJSON", "export GeoJSON instead"),
    ({"annotations", "data"}, "Label Studio", "export brush labels to PNG instead"),
    ({"items", "categories"}, "Datumaro", "export segmentation masks instead"),
    ({"unit", "strokes"}, "our drawing widget", "put it into scribbles/ as strokes.json"),
)


def read_geojson(data: bytes, path: Path) -> Iterator[Item]:
    """A FeatureCollection, a list of features, one feature, or one bare geometry; a cell is its
    nucleus, if it has one.

    A feature without a geometry becomes an item without parts.

    Raises:
        OtherProgram: a JSON of another program, which is named.
        S2LError: see `new_item`; no GeoJSON; more values than are read.
    """
    # A value takes about 100 bytes once it is an object.
    values = sum(map(data.count, (b",", b"[", b"{")))
    if values > 6 * MAX_POINTS:
        raise S2LError(
            f"more than {6 * MAX_POINTS} values. Export fewer objects, or without measurements."
        )
    features = _features(json.loads(data))
    stacked = any(_plane(feature) for feature in features)
    for number, feature in enumerate(features, start=1):
        with errors_named(f"feature {number}"):
            yield _item(feature, f"feature {number}", stacked)


def _features(content: object) -> list:
    """The features of whatever GeoJSON may begin with."""
    if isinstance(content, dict) and content.get("type") in _GEOMETRIES:
        return [{"type": "Feature", "geometry": content}]
    if isinstance(content, dict) and isinstance(content.get("features"), list):
        return content["features"]

    # By the first feature the JSON of other programs is told apart.
    features = content if isinstance(content, list) else [content]
    if features:
        _refuse_others(features[0])
    return features


def _refuse_others(feature: object) -> None:
    """Raises OtherProgram unless this is a feature of GeoJSON."""
    if isinstance(feature, dict) and "geometry" in feature:
        return
    keys = set(feature) if isinstance(feature, dict) else set()
    for known, program, remedy in _OTHER_KEYS:
        if known <= keys:
            raise OtherProgram(f"a JSON of {program}", remedy)
    if keys:
        found = f"with {listed(sorted(map(str, keys)))}"
    else:
        found = f"that begins with {feature!r:.40}"
    raise OtherProgram(f"a JSON {found}", "it holds no features of GeoJSON")


def _item(feature: Mapping, title: str, stacked: bool) -> Item:
    """An item of a feature; `stacked`: other features of its file name their planes."""
    about = feature.get("properties") or {}
    kind = _KINDS.get(about.get("objectType") or feature.get("id"), "annotation")
    geometry = feature["geometry"]
    if kind == "cell" and feature.get("nucleusGeometry"):
        kind, geometry = "nucleus", feature["nucleusGeometry"]

    name, group = _text(about.get("name")), about.get("classification") or {}
    texts = [] if name.isdigit() else [name]
    if isinstance(group, str):
        texts.append(group)
    elif "names" in group:  # of a derived class, such as Tumor: Negative
        texts.append(": ".join(map(_text, group["names"])))
    else:
        texts.append(_text(group.get("name")))

    # A plane that is not named is the first where others are, else it may be any.
    plane = _plane(feature)
    if stacked and not plane:
        plane = {"z": 1, "t": 1}
    if not geometry or not geometry.get("coordinates"):
        return Item(name or title, tuple(texts), False, [], kind=kind, plane=plane)
    shape = geometry.get("type")
    if shape not in _GEOMETRIES:
        raise S2LError(
            f"geometry {shape!r:.80}; expected one of {', '.join(_GEOMETRIES)}. Leave it out."
        )
    measured = about.get("measurements")  # before QuPath 0.4 a list
    width = measured.get(STROKE_WIDTH) if isinstance(measured, dict) else None
    parts, area = _GEOMETRIES[shape](geometry["coordinates"]), shape.endswith("Polygon")
    return new_item(
        name or title, texts, area, parts, width=width, corner=0.5, kind=kind, plane=plane
    )


def _plane(feature: object) -> dict[str, int]:
    """Channel, slice and frame of a feature, counted from 1; QuPath leaves the first plane out."""
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    plane = geometry.get("plane") if isinstance(geometry, dict) else None
    if not isinstance(plane, dict):
        return {}
    numbers = {axis: plane.get(axis) for axis in ("c", "z", "t")}
    return {axis: int(n) + 1 for axis, n in numbers.items() if isinstance(n, int) and n >= 0}


def _text(value: object) -> str:
    """A name; some programs write numbers."""
    return str(value) if isinstance(value, (str, int, float)) else ""
