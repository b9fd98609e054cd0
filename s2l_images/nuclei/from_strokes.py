"""A folder answered by its strokes, without a notebook: the forest, or the network in use there.

What is chosen, and at which threshold and sizes, is what notebook 08 exports of the same strokes.
"""

import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from s2l_core.config import S2LError
from s2l_core.images import CellImage
from s2l_images.faults import Finding
from s2l_images.folders import image_checks
from s2l_images.folders.folder import read_folder, tell
from s2l_images.folders.listing import sound
from s2l_images.learning.answers import Choice, choose
from s2l_images.learning.forest import RandomForest
from s2l_images.learning.kept_answers import KeptAnswers
from s2l_images.nuclei.diameters import measured_nuclei
from s2l_images.nuclei.sizes import chosen_min_size, smallest_kept, suggested_min_size
from s2l_images.strokes import read_strokes, render


@dataclass
class Drawn:
    """Images that are drawn on; stands for the board where nobody looks.

    Attributes:
        cells: image id -> (H, W, 3) uint8.
        labels: image id -> strokes (H, W) uint8 of 0, 1 and IGNORE.
    """

    cells: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    strokes: dict = field(default_factory=dict)
    status: str = ""

    def scribbles(self) -> dict[str, np.ndarray]:
        """Image id -> strokes (H, W)."""
        return self.labels


@dataclass(frozen=True)
class Answer:
    """How a folder is predicted.

    Attributes:
        source: a fitted forest, or the model in use.
        choice: which of them, why, and at which threshold.
        split: diameter of a usual nucleus in pixels; None: touching nuclei stay together.
        min_size: the smallest nucleus that is kept, in pixels.
    """

    source: RandomForest | Path
    choice: Choice
    split: float | None
    min_size: int


def answer_from_strokes(
    folder: Path,
    strokes: Path | None = None,
    *,
    wanted: str = "auto",
    threshold: float | None = None,
    split: float | Literal["auto"] | None = None,
    seed: int = 0,
) -> Answer:
    """Fits the forest to strokes, and holds the network in use against it where strokes were held
    out.

    Args:
        folder: of one's own, with `images/`. Only images that are drawn on are read.
        strokes: a `strokes.json` of notebook 08; None: what is drawn in the folder.
        wanted: `auto`, `forest` or `network`; see `answers.choose`.
        threshold: foreground is above it; None: the one of the choice.
        split: as in `predict_folder`.
        seed: of the forest.

    Raises:
        S2LError: nothing is drawn, or only one class; a file of strokes that cannot be read; a
            network is wanted and there is none.
    """
    cells = _drawn_on(folder, strokes)
    images = {cell.id: cell.image for cell in cells}
    answers = KeptAnswers(folder, Drawn(images, {cell.id: cell.scribbles for cell in cells}), seed)
    answers.fit()
    network = answers.of("network") if answers.network_file.exists() else None
    choice = choose(answers.judged, network, answers.held, wanted)
    if threshold is not None:
        choice = replace(choice, threshold=threshold)

    # Sizes follow the strokes that were learned from, wherever they lie.
    drawn_size = chosen_min_size(folder, answers.network_file)[0]
    if strokes is not None:
        sizes = [suggested_min_size(cell.scribbles) for cell in cells]
        drawn_size = min((size for size in sizes if size), default=drawn_size)
    diameter, smallest = split, split
    if split == "auto":
        shown = answers.of(choice.answer)
        usual = measured_nuclei(
            cells, lambda cell: shown[cell.id], threshold=choice.threshold, min_size=drawn_size
        )
        diameter, smallest = usual.diameter, usual.smallest

    source = answers.forest if choice.answer == "forest" else answers.network_file
    return Answer(source, choice, diameter, smallest_kept(folder, drawn_size, smallest))


def _drawn_on(folder: Path, strokes: Path | None) -> list[CellImage]:
    """The images that are drawn on, with their scribbles.

    Raises:
        S2LError: no image is.
    """
    if strokes is None:
        cells = read_folder(folder, sound(folder).scribbled)
        where = f"{folder}: no image carries a stroke"
    else:
        cells = _drawn_in(strokes, folder)
        where = f"{strokes}: no stroke lies on an image of {folder}"
    if not cells:
        raise S2LError(
            f"{where}. Draw some in notebook 08, or name a file of strokes (--strokes FILE) or a "
            "model (s2l predict MODEL FOLDER)."
        )
    return cells


def _drawn_in(strokes: Path, folder: Path) -> list[CellImage]:
    """Images of a folder with the strokes of a file; strokes on anything else are printed."""
    images = sound(folder).files["images"]
    drawn = {name: lines for name, lines in read_strokes(strokes).items() if lines}

    # A disk may spell letters with accents in another way than the file of strokes.
    spelled = {unicodedata.normalize("NFC", name): name for name in drawn}
    name_in_file = {}
    for image in images:
        normal = unicodedata.normalize("NFC", image)
        if normal in spelled:
            name_in_file[image] = spelled[normal]

    found = []
    for name in sorted(set(drawn) - set(name_in_file.values())):
        said = f"strokes on {name!r}, no image of this folder"
        found.append(Finding("strokes-astray", strokes, said))

    cells = []
    for cell in read_folder(folder, list(name_in_file)):
        lines, shape = drawn[name_in_file[cell.id]], cell.image.shape[:2]
        cells.append(replace(cell, scribbles=render(lines, shape)))
        found += image_checks.stroke_findings(strokes, lines, shape, f"{cell.id}: ")
    tell(strokes.parent, found)
    return cells
