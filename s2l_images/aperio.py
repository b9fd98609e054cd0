"""Regions of an Aperio XML as instances: how MoNuSeg, and ImageScope, say what a nucleus is."""

import numpy as np
from defusedxml import ElementTree as xml
from skimage.draw import polygon

from s2l_core.config import S2LError

MAX_TAGS = 1_000_000  # eight times and more what the official files hold
MAX_WORK = (
    10**9
)  # points times pixels of the box around them, summed over the outlines of an XML: seconds


def rasterise(aperio: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Instances (H, W) int32 of an Aperio XML: region k gets label k.

    Where regions overlap the first wins, as in the challenge's converter. What leaves the image is cut off, and an
    outline that crosses itself is filled by the even-odd rule.

    Raises:
        S2LError: so many points in so large regions that it would take minutes.
    """
    if aperio.count(b"<") > MAX_TAGS:
        raise S2LError(f"more than {MAX_TAGS} tags. Export fewer regions.")
    instances, work = np.zeros(shape, np.int32), 0.0
    for label, region in enumerate(xml.fromstring(aperio).iter("Region"), start=1):
        points = np.array(
            [(vertex.attrib["Y"], vertex.attrib["X"]) for vertex in region.iter("Vertex")], float
        )
        if len(points):
            work += len(points) * np.prod(np.clip(np.ptp(points, 0) + 1, 1, shape))
            if work > MAX_WORK:  # scikit-image looks at every point for every pixel
                raise S2LError(
                    "its regions are too large for so many points. Export fewer or smaller ones."
                )
            rows, columns = polygon(points[:, 0], points[:, 1], shape)
            free = instances[rows, columns] == 0
            instances[rows[free], columns[free]] = label
    return instances
