"""What the cells of notebook 08 call: a folder that is open, its board and its answers.

Each cell asks for `opened()` and says what it wants; a cell that is run too early says which one
comes first.
"""

import contextlib
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np

from s2l_core.config import S2LError
from s2l_core.images import CellImage
from s2l_core.inference import predict
from s2l_core.model import ScribbleUNet
from s2l_core.pseudo_labels import threshold
from s2l_images.board.still import shown, still
from s2l_images.board.widget import Scribbler
from s2l_images.folders.folder import read_folder
from s2l_images.folders.listing import sound
from s2l_images.learning.answers import LARGEST_SHARE, Choice
from s2l_images.learning.forest import RandomForest
from s2l_images.learning.kept_answers import KeptAnswers
from s2l_images.learning.lesson import Lesson
from s2l_images.learning.rounds import train_round
from s2l_images.learning.verdicts import Round
from s2l_images.nuclei.journal import predictions
from s2l_images.nuclei.prediction import predict_folder
from s2l_images.nuclei.proposals import spread, uncertainty, where_to_draw
from s2l_images.nuclei.sizes import nuclei
from s2l_images.outgoing import Outgoing
from s2l_images.places import own_strokes
from s2l_images.progress import watched
from s2l_images.reading.measured import micrometres
from s2l_images.reading.pictures import raw_channels
from s2l_images.taken_home import TakenHome, export_folder

PLACES_OF_AN_IMAGE, MOST_PLACES = 6, 12  # where to draw next: in an image, and in all of them


class Session:
    """A folder of one's own, its board, and the answers of forest and network.

    Args:
        folder: with `images/`.
        seed: of the forest.
        split: touching nuclei are told apart.
        diameter: of a usual nucleus in pixels, for that; 0: measured where strokes are.
        largest: share of an image that one object may cover; more is taken for a mistake.
        pixel_size: micrometres; 0: what the image files tell, if anything.

    Attributes:
        folder: its path.
        cells: image id -> CellImage.
        known: image id -> the true nuclei (H, W), of examples.
        board: the drawing widget; it outlines what would be exported now.
        answers: what forest and network say of every image.
        outgoing: which of the two is exported, and how.
        lesson: the round that learns in a thread, or the last one that did.

    Raises:
        S2LError: a fault of the folder or of one of its files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        split: bool = True,
        diameter: float = 0.0,
        largest: float = LARGEST_SHARE,
        pixel_size: float = 0.0,
    ):
        self.folder = Path(folder)
        self.largest, self.pixel_size = largest, pixel_size
        self.cells: dict[str, CellImage] = {cell.id: cell for cell in read_folder(self.folder)}
        self.known: dict[str, np.ndarray] = {}

        # What was drawn in another program is shown on the board, and cannot be changed there.
        listing = sound(self.folder)
        self._files = {name: twins[0] for name, twins in listing.files["images"].items()}
        foreign = {
            name: cell.scribbles
            for name, cell in self.cells.items()
            if cell.scribbles is not None and name not in listing.strokes
        }
        self.board = Scribbler(
            list(self.cells.values()),
            own_strokes(self.folder),
            foreign=foreign,
            pixel_size=self._micrometres,
        )
        self.board.on_stop = self.stop

        self.answers = KeptAnswers(self.folder, self.board, seed)
        self.outgoing = Outgoing(self.answers, self.cells, split, diameter)
        self.lesson: Lesson | None = None
        self._unsure: dict[str, np.ndarray] = {}
        self._saved_picture: Any = None

    def __str__(self) -> str:
        drawn = len(self.drawn)
        return f"{len(self.cells)} images in {self.folder / 'images'}, {drawn} of them drawn on"

    def draw(self) -> None:
        """Shows the board, and leaves a picture of it for whoever opens the notebook without a
        kernel.
        """
        from IPython.display import display  # only where there are notebooks

        self._saved_picture = display(self._still(), display_id=True)
        display(self.board)

    def guess(self) -> dict[str, np.ndarray]:
        """Fits the forest to all strokes, and outlines what it finds on every image of the board.

        A second forest learns without the strokes that are held out: it is what the network learns
        from, what it is compared with, and what the threshold is chosen by.

        Returns:
            image id -> foreground probability (H, W).

        Raises:
            S2LError: nothing is drawn, or only one class.
        """
        self.answers.fit()
        for name, values in self.guessed.items():
            labels = threshold(values, 0.2, 0.8)
            self.board.show(name, prediction=values, pseudo_labels=labels)
        self.outgoing.guess()
        self._renew_picture()
        return self.guessed

    def learn(self, steps: int, start: str | Path = "", *, seed: int = 0) -> ipywidgets.VBox | None:
        """Begins a round that learns in a thread: the board and the page stay alive meanwhile.

        Args:
            steps: optimiser steps.
            start: a model to go on from; empty: an encoder with ImageNet's weights.
            seed: of the network's first weights and of the crops.

        Returns:
            What shows it in a notebook; None where nobody looks at one: then the round has ended.

        Raises:
            S2LError: as `refine`; another round learns.
        """
        if self.lesson is not None and self.lesson.runs:
            raise S2LError("A round is learning. Wait for it, or press Stop on the board.")
        self.answers.fit()  # says what is wrong with the strokes here, and not in the thread

        options: dict[str, Any] = {"start": Path(start) if start else None, "seed": seed}
        if not watched():
            self.refine(steps, **options)
            return None

        def work(lesson: Lesson) -> Round:
            return self.refine(steps, lesson=lesson, **options)

        self.lesson = Lesson(work, self._tell)
        return self.lesson.panel

    def go_on(self, steps: int, start: str | Path = "", *, seed: int = 0) -> ipywidgets.VBox | None:
        """As `learn`, from the model in use, if there is one."""
        self.wait()
        return self.learn(steps, self.start or start, seed=seed)

    def refine(
        self,
        steps: int,
        *,
        start: Path | None = None,
        seed: int = 0,
        lesson: Lesson | None = None,
    ) -> Round:
        """Lets a network learn from strokes and guess; see `rounds.train_round`.

        Args:
            steps: optimiser steps.
            start: a model to go on from; None: an encoder with ImageNet's weights.
            seed: of the network's first weights and of the crops.
            lesson: in whose thread this is; it shows how far it is, and can stop it.

        Raises:
            S2LError: as `guess` and `train_round`.
        """
        if not self.answers.judged:
            self.answers.fit()

        # What the network makes of one image can be watched while it learns.
        first = self.drawn[0]
        if lesson is not None:
            lesson.show(self.board.picture(first))

        def show(network: ScribbleUNet) -> None:
            values = predict(network, self.cells[first].image)
            self.board.show(first, prediction=values)
            if lesson is not None:
                found = nuclei(values, self.outgoing.drawn_size).instances
                lesson.show(self.board.picture(first, found))

        done = train_round(
            self.folder,
            steps=steps,
            guess={name: self.answers.judged[name] for name in self.drawn},
            start=start,
            watch=show,
            report=lesson and lesson.report,
            stop=lesson and lesson.stop,
            largest=self.largest,
            seed=seed,
        )

        self.answers.forget_network()
        if lesson is not None:
            lesson.report(f"{done.said} All images are predicted …", 1.0)
        self._choose(self.outgoing.wanted)
        return done

    def look(self) -> dict[str, list[tuple[int, int, float]]]:
        """Shows the answer to be exported on every image, where it is unsure, and where a stroke
        would change most: see `where_to_draw`.

        Returns:
            image id -> (row, column, radius) of where to draw next.

        Raises:
            S2LError: nothing is drawn, or only one class.
        """
        self.wait()
        self.answers.fit()
        scribbles = self.board.scribbles()
        choice = self._choose(self.outgoing.wanted)
        answers = self.answers.of(choice.answer)
        others = self.outgoing.others(choice)

        # Every image has its turn before one gets a second place.
        places = {}
        for name, values in answers.items():
            self._unsure[name] = uncertainty(values)
            places[name] = where_to_draw(
                values,
                scribbles.get(name),
                image=self.cells[name].image,
                other=others.get(name),
                diameter=self.outgoing.width,
                count=PLACES_OF_AN_IMAGE,
            )
        places = spread(places, MOST_PLACES)
        for name, values in answers.items():
            maps = {"prediction": values, "uncertainty": self._unsure[name]}
            self.board.show(name, regions=places[name], **maps)

        count = sum(len(of_image) for of_image in places.values())
        images = sum(1 for of_image in places.values() if of_image)
        print(f"{choice} {count} places to look at in {images} images.")
        return places

    def choose(self, answer: str = "auto") -> Choice:
        """Forest or network, by what they get right of the held-out strokes; see
        `answers.choose`. The board outlines it; a threshold that was moved there counts. The forest
        learns from strokes that were drawn since.

        Raises:
            S2LError: as `guess` and `answers.choose`.
        """
        self.wait()
        self.answers.fit()
        return self._choose(answer)

    def export(self, to: str = "") -> TakenHome:
        """Predicts the whole folder with what was chosen, at the threshold of the board; see
        `prediction.predict_folder`.

        Args:
            to: a folder below one's own, or a whole path; empty: `s2l/export`.

        Raises:
            S2LError: the answer is absurd on an image that is drawn on; a target where one's own
                files lie; an image has come or gone since the folder was opened; or as
                `predict_folder`.
        """
        target = export_folder(self.folder, to)
        self.wait()
        self._refuse_other_images()
        if self.answers.stale or self.outgoing.choice is None:
            self.choose(self.outgoing.wanted)
        choice = self.outgoing.moved(self.outgoing.choice)
        self.outgoing.refuse_absurd(choice, self.largest)

        source: RandomForest | Path = self.answers.network_file
        if choice.answer == "forest":
            source = self.answers.forest
        predict_folder(
            source,
            self.folder,
            target,
            pixel_size=self.pixel_size or None,
            threshold=choice.threshold,
            split=self.outgoing.width or None,
            min_size=self.outgoing.min_size,
        )

        counts = {name: found.nuclei for name, found in predictions(target).items()}
        home = TakenHome(target, self.outgoing.things, {name: counts[name] for name in self.cells})
        home.write()
        return home

    def picture(self, name: str | None = None) -> Any:
        """An image, or the open one, as the board shows it, with strokes and outlines."""
        return shown(self.board.picture(name))

    def least_sure(self) -> str:
        """The image of which the shown answer is least sure."""
        if not self._unsure:
            self.look()
        return max(self._unsure, key=lambda name: self._unsure[name].mean())

    def wait(self) -> None:
        """Until the round that learns has ended; an interrupt of the kernel stops it.

        Raises:
            S2LError: and whatever else ended that round.
        """
        if self.lesson is not None:
            if self.lesson.runs:
                print("A round is learning: this cell waits for it.", flush=True)
            self.lesson.wait()

    def stop(self) -> None:
        """Stops the round that learns, at the end of its step."""
        if self.lesson is not None:
            self.lesson.stop.set()

    def _tell(self, text: str, share: float) -> None:
        self.board.status, self.board.share = text, share

    @property
    def drawn(self) -> list[str]:
        """Images that carry strokes."""
        return list(self.board.scribbles())

    @property
    def guessed(self) -> dict[str, np.ndarray]:
        """Image id -> probability (H, W) of the forest; empty before `guess`."""
        return self.answers.by_forest

    @property
    def answered(self) -> dict[str, np.ndarray]:
        """Image id -> probability (H, W) of the network in use, as far as it was asked."""
        return self.answers.by_network

    @property
    def start(self) -> Path | None:
        """The model in use, to go on from; None where there is none yet."""
        file = self.answers.network_file
        return file if file.exists() else None

    def _micrometres(self, name: str) -> float | None:
        size = self.pixel_size or None
        if size is None:
            with contextlib.suppress(S2LError, OSError):  # somebody may have moved the file
                size = micrometres(raw_channels(self._files[name]))
        return size

    def _refuse_other_images(self) -> None:
        there = set(sound(self.folder).ids)
        gone, new = sorted(set(self.cells) - there), sorted(there - set(self.cells))
        if gone or new:
            what = f"{gone[0]} is gone" if gone else f"{new[0]} is new"
            raise S2LError(
                f"{self.folder / 'images'}: has changed since it was opened: {what}. Run the cell "
                "that opens the folder again; what was drawn is on disk."
            )

    def _choose(self, answer: str) -> Choice:
        choice = self.outgoing.choose(answer)
        self._renew_picture()
        return choice

    def _renew_picture(self) -> None:
        """Shows the board as it is now to whoever opens the notebook without a kernel."""
        if self._saved_picture is not None:
            self._saved_picture.update(self._still())

    def _still(self) -> Any:
        """What a notebook shows of the board where it has no kernel."""
        name = self.board.images[self.board.index]["id"]
        return still(self.board.picture(), f"{name}: {self}")


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
