"""The answer that is exported: forest or network, its threshold, and its objects on the board.

What the board outlines is what would be exported now.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from s2l_core.config import S2LError
from s2l_core.images import CellImage
from s2l_images.learning.answers import Choice, absurd, choose
from s2l_images.learning.kept_answers import KeptAnswers
from s2l_images.nuclei.diameters import Usual, measured_nuclei
from s2l_images.nuclei.sizes import chosen_min_size, nuclei, smallest_kept
from s2l_images.nuclei.split import divided


class Outgoing:
    """Chooses among the answers of a folder, and outlines the chosen one.

    Args:
        answers: of forest and network; their board is the one to draw on.
        cells: image id -> CellImage.
        split: touching nuclei are told apart.
        diameter: of a usual nucleus in pixels, for that; 0: measured where strokes are.

    Attributes:
        choice: what is exported; None before anything was outlined.
        wanted: `auto`, `forest` or `network`, as it was asked for last.
        width: of a usual nucleus in pixels, by which what is outlined was divided and cleaned; 0
            where touching nuclei are not told apart, or no object lies under a stroke. A threshold
            that is moved on the board leaves it as it is.
    """

    def __init__(
        self, answers: KeptAnswers, cells: Mapping[str, CellImage], split: bool, diameter: float
    ):
        self.answers, self.board, self.cells = answers, answers.board, cells
        self.split, self.given_diameter = split, diameter
        self.choice: Choice | None = None
        self.wanted = "auto"
        self.width = 0.0
        self._smallest = 0.0  # width of a usual nucleus in the image where they are smallest

    @property
    def things(self) -> str:
        """What is counted."""
        return "nuclei" if self.split else "objects"

    @property
    def drawn_size(self) -> int:
        """Pixels of the smallest nucleus by what is drawn."""
        return chosen_min_size(self.answers.folder, self.answers.network_file)[0]

    @property
    def min_size(self) -> int:
        """Pixels of the smallest nucleus that is kept."""
        return smallest_kept(self.answers.folder, self.drawn_size, self._smallest)

    def choose(self, answer: str) -> Choice:
        """Chooses by held-out strokes, and outlines; see `answers.choose`.

        Raises:
            S2LError: as `answers.choose`.
        """
        if not self.answers.judged:
            self.answers.fit()
        self.wanted = answer
        network = self.answers.of("network") if self.answers.network_file.exists() else None
        self.outline(choose(self.answers.judged, network, self.answers.held, answer))
        self.choice = self.moved(self.choice)
        return self.choice

    def guess(self) -> None:
        """Outlines what the forest finds, whatever the network says."""
        self.outline(choose(self.answers.judged, None, self.answers.held, "forest"))

    def moved(self, choice: Choice) -> Choice:
        """A choice with the threshold that the board shows."""
        if not self.board.moved or self.board.answer.get("name") != choice.answer.capitalize():
            return choice
        said = f"{choice.reason} Its threshold is the one that was set on the board."
        return replace(choice, threshold=self.board.threshold, reason=said)

    def outline(self, choice: Choice) -> None:
        """Shows on the board what would be exported by a choice."""
        self.choice = choice
        answers, usual = dict(self.answers.of(choice.answer)), Usual(0.0, 0.0)
        if self.split:
            with contextlib.suppress(S2LError):  # no object lies under a stroke: none is divided
                usual = self._usual(choice)
        width = self.width = usual.diameter
        self._smallest = usual.smallest
        min_size = self.min_size

        def objects(name: str, threshold: float) -> np.ndarray:
            found = nuclei(answers[name], min_size, threshold=threshold).instances
            return divided(found, width) if width else found

        name = choice.answer.capitalize()
        self.board.outline(name, objects, choice.threshold, things=self.things)

    def others(self, choice: Choice) -> Mapping[str, np.ndarray]:
        """What the answer that is not exported says; nothing where there is one answer only."""
        if choice.answer == "network":
            return self.answers.of("forest")
        return self.answers.of("network") if self.answers.network_file.exists() else {}

    def _usual(self, choice: Choice) -> Usual:
        """Width of a usual nucleus: the given one, or else measured where strokes are."""
        if self.given_diameter:
            return Usual(self.given_diameter, self.given_diameter)
        answers, scribbles = self.answers.of(choice.answer), self.board.scribbles()
        cells = [replace(cell, scribbles=scribbles.get(cell.id)) for cell in self.cells.values()]
        options = {"threshold": choice.threshold, "min_size": self.drawn_size}
        return measured_nuclei(cells, lambda cell: answers[cell.id], **options)

    def refuse_absurd(self, choice: Choice, largest: float) -> None:
        """Refuses an answer that contradicts what is drawn on an image.

        Args:
            choice: of the answer that is to be exported.
            largest: share of an image that one object may cover.

        Raises:
            S2LError: it does.
        """
        for name, labels in self.board.scribbles().items():
            values = self.answers.of(choice.answer)[name]
            wrong = absurd(values, labels, threshold=choice.threshold, largest=largest)
            if wrong:
                raise S2LError(
                    f"{name}: {wrong} Nothing is exported. Draw where it is wrong, set `answer` "
                    f"to the other one, or raise `largest` ({largest:g}) if nuclei are large."
                )
