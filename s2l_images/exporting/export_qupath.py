"""Instances and strokes as GeoJSON of QuPath: detections, and annotations that can be changed."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import mean

from s2l_core.config import CLASSES
from s2l_images.annotation_files.items import INSTANCE, STROKE_WIDTH
from s2l_images.exporting.exports import CLASS_COLOURS, checked, save, say_limits
from s2l_images.outlines import outlines
from s2l_images.strokes import Stroke


def write_geojson(path: Path, instances: np.ndarray, probability: np.ndarray | None = None) -> None:
    """Instances (H, W) as QuPath detections of class Nucleus, "cell k" for label k, with all their
    pieces and holes.

    The mean of `probability` (H, W), if given, becomes a measurement of each.
    """
    cells = outlines(checked(path, instances))
    means = [None] * len(cells)
    if probability is not None:
        means = mean(probability, instances, [k for k, _ in cells])

    features, points, parts = [], 0, 0
    for (k, polygons), value in zip(cells, means, strict=True):
        points += sum(len(ring) for rings in polygons for ring in rings)
        parts += sum(len(rings) for rings in polygons)

        # x before y, in a list for each polygon.
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

    # `geojson.read_geojson` counts values by these characters, and takes six for each point.
    content = _collection(features)
    values = sum(content.count(mark) for mark in (b",", b"[", b"{"))
    say_limits(path, max(points + parts, values // 6), parts, len(content))
    save(path, content)


def _closed(ring: np.ndarray) -> list:
    """A ring as GeoJSON wants it: its first point is its last, too."""
    return [*ring.tolist(), ring[0].tolist()]


def stroke_features(strokes: Sequence[Stroke]) -> bytes:
    """Strokes as GeoJSON: annotations of class Foreground and Background."""
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
