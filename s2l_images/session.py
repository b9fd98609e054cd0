"""Notebook 08 without its plumbing: a folder of one's own that is open, and what is known of it.

Each cell of the notebook asks for `opened()` and says what it wants; a cell that is run too early
says which one comes first.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from s2l_core.config import S2LError
from s2l_core.images import CellImage
from s2l_core.inference import pick_device, predict
from s2l_core.model import ScribbleUNet
from s2l_core.pseudo_labels import threshold
from s2l_images.answers import LARGEST_SHARE, Choice, HeldOut, absurd, choose, hold_out
from s2l_images.folder import read_folder
from s2l_images.forest import RandomForest, fit_random_forest, predict_random_forest
from s2l_images.kept_models import load_model, model_in_use
from s2l_images.pictures import PICTURES
from s2l_images.places import own_strokes
from s2l_images.prediction import predict_folder, usual_nucleus
from s2l_images.proposals import uncertainty, where_to_draw
from s2l_images.rounds import Round, train_round
from s2l_images.sizes import chosen_min_size, nuclei
from s2l_images.split import divided
from s2l_images.strokes import Stroke, write_strokes
from s2l_images.widget import Scribbler

NEIGHBOURS_LISTED = 8  # names that are listed beside a folder that is not there


class Session:
    """A folder of one's own, its board, and the answers of forest and network.

    Args:
        folder: with `images/`.
        seed: of the forest.
        largest: share of an image that one object may cover; more is taken for a mistake.

    Attributes:
        folder: its path.
        cells: image id -> CellImage.
        board: the drawing widget.
        forest: the forest that learned from all strokes; None before `guess`.
        guessed: image id -> its probability (H, W).
        answered: image id -> the probability (H, W) of the network; empty before `look`.

    Raises:
        S2LError: a fault of the folder or of one of its files.
    """

    def __init__(self, folder: Path, *, seed: int = 0, largest: float = LARGEST_SHARE):
        self.folder, self.seed, self.largest = Path(folder), seed, largest
        self.cells: dict[str, CellImage] = {cell.id: cell for cell in read_folder(self.folder)}
        self.board = Scribbler(list(self.cells.values()), own_strokes(self.folder))
        self.forest: RandomForest | None = None
        self.guessed: dict[str, np.ndarray] = {}
        self.answered: dict[str, np.ndarray] = {}
        self._judge: RandomForest | None = None  # learned without the held-out strokes
        self._parts = HeldOut({}, {})
        self._unsure: dict[str, np.ndarray] = {}

    def guess(self) -> dict[str, np.ndarray]:
        """Fits the forest to all strokes, and lays what it says over every image of the board.

        A second forest learns without the strokes that are held out: it is what the network learns
        from, and what it is compared with.

        Returns:
            image id -> foreground probability (H, W).

        Raises:
            S2LError: nothing is drawn, or only one class.
        """
        scribbles = self.board.scribbles()
        self.forest = self._fitted(scribbles)
        self._parts = hold_out(scribbles)
        self._judge = self._fitted(self._parts.kept)

        # What the user looks at comes first.
        open_now = self.board.images[self.board.index]["id"]
        for name in sorted(self.cells, key=lambda name: name != open_now):
            values = predict_random_forest(self.forest, self.cells[name].image)
            self.guessed[name] = values
            labels = threshold(values, 0.2, 0.8)
            self.board.show(name, prediction=values, pseudo_labels=labels)
        return self.guessed

    def _fitted(self, scribbles: Mapping[str, np.ndarray]) -> RandomForest:
        images = [self.cells[name].image for name in scribbles]
        return fit_random_forest(images, list(scribbles.values()), seed=self.seed)

    def refine(
        self,
        steps: int,
        *,
        start: Path | None = None,
        watch: Callable[[str, np.ndarray], object] = lambda name, values: None,
        seed: int = 0,
    ) -> Round:
        """Lets a network learn from strokes and guess; see `rounds.train_round`.

        Args:
            steps: optimiser steps.
            start: a model to go on from; None: an encoder with ImageNet's weights.
            watch: called now and then with the first image that is drawn on, and its probability.
            seed: of the network's first weights and of the crops.

        Raises:
            S2LError: as `guess` and `train_round`.
        """
        self.guess()
        judge = self._judged_forest()
        guess = {name: predict_random_forest(judge, self.cells[name].image) for name in self.drawn}
        first = self.drawn[0]

        def show(network: ScribbleUNet) -> None:
            values = predict(network, self.cells[first].image)
            self.board.show(first, prediction=values)
            watch(first, values)

        return train_round(
            self.folder,
            steps=steps,
            guess=guess,
            start=start,
            watch=show,
            largest=self.largest,
            seed=seed,
        )

    @property
    def drawn(self) -> list[str]:
        """Images that carry strokes."""
        return list(self.board.scribbles())

    @property
    def model_file(self) -> Path:
        """Where the model in use lies."""
        return model_in_use(self.folder)

    @property
    def start(self) -> Path | None:
        """The model in use, to go on from; None where there is none yet."""
        return self.model_file if self.model_file.exists() else None

    def look(self) -> dict[str, list[tuple[int, int, float]]]:
        """Predicts every image with the network in use, or the forest where there is none, and
        shows where it is unsure on the board.

        Returns:
            image id -> (row, column, radius) of where to draw next.

        Raises:
            S2LError: nothing is drawn, and no network is in use.
        """
        network, places, scribbles = self._network(), {}, self.board.scribbles()
        if network is None:
            print("no network is in use yet: this is the answer of the forest")
            guessed = self.guessed or self.guess()
        for name, cell in self.cells.items():
            values = guessed[name] if network is None else predict(network, cell.image)
            if network is not None:
                self.answered[name] = values
            places[name] = where_to_draw(values, scribbles.get(name))
            self._unsure[name] = uncertainty(values)
            self.board.show(
                name, prediction=values, uncertainty=self._unsure[name], regions=places[name]
            )
        return places

    def unsure(self, name: str) -> np.ndarray:
        """Uncertainty (H, W) of what `look` showed of an image; looks first if nobody has yet."""
        if name not in self._unsure:
            self.look()
        return self._unsure[name]

    def least_sure(self) -> str:
        """The image of which the shown answer is least sure."""
        return max(self.cells, key=lambda name: self.unsure(name).mean())

    def _network(self) -> ScribbleUNet | None:
        if not self.start:
            return None
        network, _ = load_model(self.start)
        return network.to(pick_device())

    def _judged_forest(self) -> RandomForest:
        if self._judge is None:
            self.guess()
        return self._judge

    def choose(self, answer: str = "auto") -> Choice:
        """Forest or network, whichever gets more of the held-out strokes right; see
        `answers.choose`.

        Raises:
            S2LError: as `answers.choose`.
        """
        judge, held = self._judged_forest(), self._parts.held
        images = {name: self.cells[name].image for name in held}
        forest = {name: predict_random_forest(judge, image) for name, image in images.items()}
        network, asked = None, self._network()
        if asked is not None:
            network = {name: predict(asked, image) for name, image in images.items()}
        return choose(forest, network, held, answer)

    def nuclei(self, name: str, choice: Choice, *, diameter: float | None = None) -> np.ndarray:
        """Nuclei (H, W) int32 of an image, as they would be exported; touching ones apart where a
        diameter is given.
        """
        values = self._asked(choice)(self.cells[name].image)
        min_size, _ = chosen_min_size(self.folder, self.model_file)
        found = nuclei(values, min_size, threshold=choice.threshold).instances
        return found if diameter is None else divided(found, diameter)

    def diameter(self, choice: Choice, given: float = 0.0) -> float:
        """Width of a usual nucleus in pixels: the given one, or else measured where strokes are."""
        if given:
            return given
        return usual_nucleus(self.folder, self._asked(choice), threshold=choice.threshold)

    def _asked(self, choice: Choice) -> Callable[[np.ndarray], np.ndarray]:
        """What answers for an image (H, W, 3)."""
        if choice.answer == "forest":
            self._judged_forest()
            return lambda image: predict_random_forest(self.forest, image)
        network = self._network()
        return lambda image: predict(network, image)

    def export(
        self, choice: Choice, *, diameter: float | None = None, pixel_size: float | None = None
    ) -> Path:
        """Predicts the whole folder with what was chosen; see `prediction.predict_folder`.

        Raises:
            S2LError: the answer is absurd on an image that is drawn on; or as `predict_folder`.
        """
        asked = self._asked(choice)
        for name, labels in self.board.scribbles().items():
            values = asked(self.cells[name].image)
            wrong = absurd(values, labels, threshold=choice.threshold, largest=self.largest)
            if wrong:
                raise S2LError(
                    f"{name}: {wrong} Nothing is exported. Draw where it is wrong, set `answer` "
                    f"to the other one, or raise `largest` ({self.largest:g}) if nuclei are large."
                )
        source = self.forest if choice.answer == "forest" else self.model_file
        return predict_folder(
            source,
            self.folder,
            pixel_size=pixel_size,
            threshold=choice.threshold,
            split=diameter,
        )


_opened: list[Session] = []  # the folder of this kernel: at most one


def open_session(folder: Path, **options) -> Session:
    """Opens a folder for all cells that follow; see `Session`."""
    _opened[:] = [Session(folder, **options)]
    return _opened[0]


def opened() -> Session:
    """The folder that was opened in this kernel.

    Raises:
        S2LError: none was.
    """
    if not _opened:
        raise S2LError(
            "No folder is open in this kernel. Run the first cells first, from the parameters to "
            "the board below 'Draw': nothing that was drawn or learned is lost."
        )
    return _opened[0]


def find_folder(text: str) -> Path:
    """A folder by the name that a user gave.

    Args:
        text: an absolute path, one that begins with ~, or one seen from where the kernel runs.

    Raises:
        S2LError: there is no such folder; says where it was looked for, and what is beside it.
    """
    looked = Path(text).expanduser().absolute()
    if looked.is_dir():
        return looked
    what = "is a file" if looked.exists() else "is not there"
    near = looked.parent
    while not near.is_dir():
        near = near.parent
    names = sorted(path.name for path in near.iterdir() if path.is_dir() and path.name[0] != ".")
    beside = ", ".join(names[:NEIGHBOURS_LISTED]) or "no folder"
    if len(names) > NEIGHBOURS_LISTED:
        beside += f" and {len(names) - NEIGHBOURS_LISTED} more"
    raise S2LError(
        f"folder = {text!r}: {looked} {what}. {near} holds {beside}. Give the whole path, such as "
        f"{Path.home() / 'my-cells'}, of the folder that holds images/ with "
        f"{', '.join(sorted(PICTURES)[:3])} or other pictures."
    )


def write_example(
    folder: Path, cells: Iterable[CellImage], strokes: Mapping[str, list[Stroke]]
) -> None:
    """Writes images, and strokes where none are yet, as a person's own folder holds them."""
    from PIL import Image  # only for examples

    (folder / "images").mkdir(parents=True, exist_ok=True)
    for cell in cells:
        Image.fromarray(cell.image).save(folder / "images" / f"{cell.id}.png")
    drawn = own_strokes(folder)
    if not drawn.exists():
        drawn.parent.mkdir(exist_ok=True)
        write_strokes(drawn, strokes, {"annotator": "simulated"})
