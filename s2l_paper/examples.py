"""What notebook 08 shows where nobody has a folder of their own: four images, three drawn on."""

from s2l_core.images import CellImage
from s2l_images.strokes import Stroke
from s2l_paper.annotators import SimulatedAnnotator
from s2l_paper.datasets import load_dataset, splits

BUDGET = 0.3  # share of nuclei that carry a stroke


def example_of_four(name: str, seed: int = 0) -> tuple[list[CellImage], dict[str, list[Stroke]]]:
    """Four images of a data set, and simulated strokes on all but the last.

    Of real data the last is the first test image of fold 0, and the others are training images of
    its size.

    Raises:
        S2LError: an unknown data set, or one that is not at hand.
    """
    if name.startswith("synthetic"):
        cells = load_dataset(name, images=4, image_size=192)
    else:
        split = splits(name, 0)
        real = {cell.id: cell for cell in load_dataset(name)}
        test = real[split.test[0]]
        alike = [real[i] for i in split.train if real[i].image.shape == test.image.shape]
        cells = [*alike[:3], test]

    annotator = SimulatedAnnotator(seed, BUDGET)
    strokes = {cell.id: annotator.strokes(cell.instances, key=cell.id) for cell in cells[:3]}
    return cells, strokes
