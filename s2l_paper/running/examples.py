"""The example of notebook 08, for users without a folder: four images, three with strokes."""

from functools import partial

from s2l_core.images import CellImage
from s2l_images.board.folder_box import ask_for_folder
from s2l_images.board.own_folder import find_folder, write_example
from s2l_images.folders.own_channel import channel_chosen
from s2l_images.progress import watched
from s2l_images.session import Session, open_session
from s2l_images.strokes import Stroke
from s2l_paper import paths
from s2l_paper.data.datasets import load_dataset, splits
from s2l_paper.running.runs import set_threads
from s2l_paper.scribbles.annotators import SimulatedAnnotator

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


def open_own_images(
    folder: str, example: str, *, channel: str = "", threads: int = 0, seed: int = 0, **options
) -> Session:
    """Opens a folder for notebook 08; where none is named an example is written first. Where
    somebody looks at the notebook, a line asks for another folder.

    Args:
        folder: of one's own; empty: an example.
        example: name of the data set that the example is of.
        channel: to learn from where images have several, by name or number, which is noted in
            `folder.toml`; empty: what is noted there.
        threads: of the processor; 0: all.
        seed: of the forest, and of the example's strokes.
        options: others of `Session`.

    Raises:
        S2LError: there is no such folder or data set, or it has a fault.
    """
    set_threads(threads)
    opens = partial(_opened, example=example, seed=seed, **options)  # a folder and a channel
    if watched():
        from IPython.display import display  # only where there are notebooks

        display(ask_for_folder(opens))
    return opens(folder, channel)


def _opened(folder: str, channel: str, example: str, seed: int, **options) -> Session:
    """The folder of that name; empty: the example, which is written."""
    if folder:
        own = find_folder(folder)
        with channel_chosen(own, channel):
            return open_session(own, seed=seed, **options)

    home = paths.prepared_data() / f"your-images-{example}"
    cells, strokes = example_of_four(example, seed)
    write_example(home, cells, strokes)
    work = open_session(home, seed=seed, **options)
    work.known = {cell.id: cell.instances for cell in cells}
    return work
