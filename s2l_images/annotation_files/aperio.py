"""Regions of an Aperio XML: how ImageScope draws, and how MoNuSeg says what a nucleus is. The only
parser of it here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.handler import ContentHandler

import numpy as np
from defusedxml import sax
from skimage.draw import polygon

from s2l_core.config import S2LError
from s2l_images.annotation_files.items import (
    MAX_ELEMENTS,
    SAVE_MASKS,
    STROKE_WIDTH,
    Item,
    OtherProgram,
    errors_named,
    new_item,
)

# Points times pixels of the box around them, summed over the outlines of an XML: seconds.
MAX_OUTLINE_WORK = 10**9
_OTHER_ROOTS = {  # root element -> program, and what to do instead
    "ASAP_Annotations": ("ASAP", SAVE_MASKS),
    "annotations": ("CVAT or NDP.view", "in CVAT export `Segmentation mask` instead"),
    "annotation": ("Pascal VOC or LabelMe", f"boxes outline no nucleus; {SAVE_MASKS}"),
    "TrackMate": ("TrackMate", "its action `Export label image` makes one"),
    "CellCounter_Marker_File": ("ImageJ's Cell Counter", "mark with multi-point, and save ROIs"),
}


@dataclass
class Region:
    """A region as it stands in the file.

    Attributes:
        texts: its layer's name and attributes, then its own.
        points: (x, y) of its vertices.
        kind: `Type`: 0 and 1 are areas, 3 and 4 lines.
        negative: whether it is cut out of others.
        width: of a line, where our own writer left one.
    """

    texts: list[str]
    kind: str
    negative: bool
    points: list[tuple[float, float]] = field(default_factory=list)
    width: float | None = None


def regions(data: bytes) -> list[Region]:
    """All regions of an Aperio XML, in its order.

    Raises:
        OtherProgram: an XML of another program, which is named.
        S2LError: more elements than are read. Damaged files raise errors of the parser.
    """
    handler = _Handler()
    sax.parseString(data, handler)
    if not handler.layers:
        raise S2LError("it holds no <Annotation>, as every Aperio XML does. Export it again.")
    return handler.regions


def read_aperio(data: bytes, path: object) -> list[Item]:
    """Regions as items."""
    found = []
    for number, region in enumerate(regions(data), start=1):
        with errors_named(f"region {number}"):
            if region.kind not in ("0", "1", "3", "4") or region.negative:
                raise S2LError(
                    f"a negative region, or of type {region.kind!r:.20}; expected a freehand "
                    "region, rectangle or line. Delete it."
                )
            area = region.kind in ("0", "1")
            found.append(
                new_item(
                    f"region {number}", region.texts, area, [[region.points]], width=region.width
                )
            )
    return found


def rasterise(aperio: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Instances (H, W) int32 of an Aperio XML: region k gets label k, whatever its type.

    Where regions overlap the first wins, as in the challenge's converter. What leaves the image is
    cut off, and an outline that crosses itself is filled by the even-odd rule.

    Raises:
        S2LError: so many points in so large regions that it would take minutes.
    """
    return fill([np.array(region.points, float)[:, ::-1] if region.points else None
                 for region in regions(aperio)], shape)  # fmt: skip


def fill(outlines: Sequence[np.ndarray | None], shape: tuple[int, int]) -> np.ndarray:
    """Instances (H, W) int32 of outlines (N, 2) of row and column: outline k gets label k, and the
    first wins.

    Pixels on an edge are those that scikit-image takes, on which MoNuSeg's instances here have
    always rested.
    """
    instances, work = np.zeros(shape, np.int32), 0.0
    for label, points in enumerate(outlines, start=1):
        if points is None:
            continue
        work += len(points) * np.prod(np.clip(np.ptp(points, 0) + 1, 1, shape))
        if work > MAX_OUTLINE_WORK:  # scikit-image looks at every point for every pixel
            raise S2LError(
                "its regions are too large for so many points. Export fewer or smaller ones."
            )
        rows, columns = polygon(points[:, 0], points[:, 1], shape)
        free = instances[rows, columns] == 0
        instances[rows[free], columns[free]] = label
    return instances


class _Handler(ContentHandler):
    """Collects regions from the stream: the tree of a hostile file would fill the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.regions: list[Region] = []
        self.region: Region | None = None  # the one that is open
        self.layer: list[str] = []  # texts of the layer that is open
        self.layers = self.elements = 0

    def startElement(self, name, attributes):  # noqa: N802
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise S2LError(f"more than {MAX_ELEMENTS} elements. Export fewer regions.")
        if self.elements == 1:
            _refuse_others(name)
        match name:
            case "Annotation":
                self.layers += 1
                self.layer = [attributes.get("Name", "")]
            case "Region":
                texts = [*self.layer, attributes.get("Text", "")]
                negative = attributes.get("NegativeROA", "0") != "0"
                self.region = Region(texts, attributes.get("Type", "0"), negative)
                self.regions.append(self.region)
            case "Vertex" if self.region:
                self.region.points.append((float(attributes["X"]), float(attributes["Y"])))
            case "Attribute":
                self._attribute(attributes.get("Name"), attributes.get("Value", ""))

    def _attribute(self, name: str | None, value: str) -> None:
        """A width of our own writer, or a text that may name the class; a bare number is none."""
        if name == STROKE_WIDTH and self.region:
            self.region.width = float(value)
        elif not value.isdigit():
            (self.region.texts if self.region else self.layer).append(value)

    def endElement(self, name):  # noqa: N802
        if name == "Region":
            self.region = None


def _refuse_others(root: str) -> None:
    """Only `Annotations` is Aperio's."""
    if root != "Annotations":
        program, remedy = _OTHER_ROOTS.get(root, ("an unknown program", SAVE_MASKS))
        raise OtherProgram(f"an XML of {program} (<{root[:40]}>)", remedy)
