"""One image of a folder: how its nuclei are found, and the four files that they leave."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2l_core.config import digest
from s2l_images.exporting.export_cells import write_cells
from s2l_images.exporting.export_imagej import write_rois
from s2l_images.exporting.export_labels import write_label_tiff
from s2l_images.exporting.export_qupath import write_geojson
from s2l_images.nuclei.journal import Predicted
from s2l_images.nuclei.proposals import uncertainty
from s2l_images.nuclei.sizes import nuclei
from s2l_images.nuclei.split import SplitExploded, divided
from s2l_images.reading.measured import Measured, micrometres

EXPORTED_SUFFIXES = (".tif", ".zip", ".geojson", ".csv")  # what is left of an image


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in one image.

    Attributes:
        instances: (H, W) int32.
        probability: (H, W).
        measured: the image in its own units.
        dropped, holes: as in `Predicted`.
    """

    instances: np.ndarray
    probability: np.ndarray
    measured: Measured
    dropped: int
    holes: int

    def write(self, stem: Path, pixel_size: float | None) -> None:
        """Writes the four files of the image."""
        write_nuclei(
            stem,
            self.instances,
            self.measured,
            probability=self.probability,
            pixel_size=pixel_size,
        )

    def in_numbers(self, key: str) -> Predicted:
        """What is noted of it."""
        count = int(self.instances.max(initial=0))
        return Predicted(key, count, self.dropped, self.holes, _unsure(self.probability))


@dataclass(frozen=True)
class Way:
    """How all images of a folder are predicted: what is asked, and the settings."""

    ask: Callable[[np.ndarray], np.ndarray]
    key_of_source: str
    min_size: int
    pixel_size: float | None
    channel: int | str | None
    threshold: float
    split: float | None

    def key(self, image_file: Path) -> str:
        """A hash of all that decides what is found in an image."""
        settings = [
            self.key_of_source,
            self.min_size,
            self.pixel_size,
            self.channel,
            self.threshold,
            self.split,
        ]
        return digest([*settings, digest(image_file, 64)], 16)

    def find(self, name: str, image: np.ndarray, measured: Measured) -> Found:
        """Finds the nuclei of an image.

        Args:
            name: of the image, for errors.
            image: (H, W, 3) uint8.
            measured: the same in its own units.

        Raises:
            SplitExploded: its objects fall into too many pieces.
        """
        probability = self.ask(image)  # (H, W)
        kept = nuclei(probability, self.min_size, threshold=self.threshold)
        instances = _apart(name, kept.instances, self.split)
        return Found(instances, probability, measured, kept.dropped, kept.holes)


def _apart(name: str, objects: np.ndarray, diameter: float | None) -> np.ndarray:
    """Objects (H, W) int32 of an image; touching nuclei apart where a diameter is given."""
    if diameter is None:
        return objects
    try:
        return divided(objects, diameter)
    except SplitExploded as error:
        raise SplitExploded(f"{name}: {error}") from error


def _unsure(probability: np.ndarray) -> float:
    """Share of the pixels whose probability (H, W) lies between .25 and .75."""
    return round(float((uncertainty(probability) > 0.5).mean()), 6)


def write_nuclei(
    stem: Path,
    found: np.ndarray,
    measured: Measured,
    *,
    probability: np.ndarray | None = None,
    pixel_size: float | None = None,
) -> None:
    """The four files of an image: label image, ROIs, GeoJSON and table.

    Args:
        stem: their path without the ending.
        found: (H, W) instances.
        measured: the image in its own units.
        probability: (H, W); its mean over a nucleus goes into the GeoJSON.
        pixel_size: micrometres. None: what the image file tells, if anything.
    """
    tiff, rois, geojson, table = (
        stem.with_name(f"{stem.name}{kind}") for kind in EXPORTED_SUFFIXES
    )
    size = micrometres(measured) if pixel_size is None else pixel_size
    write_label_tiff(tiff, found, size)
    write_rois(rois, found)
    write_geojson(geojson, found, probability)
    write_cells(table, found, measured, pixel_size=size)
