"""What forest and network say of every image of a folder, computed once and kept.

Two forests are fitted. One learns from all strokes: it is what a person sees and takes home. The
other learns without the strokes that are held out: it can be judged by these, and a network that
learns from its answers has not seen them either.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from s2l_core.config import S2LError
from s2l_core.inference import pick_device, predict
from s2l_images.board.widget import Scribbler
from s2l_images.learning.answers import hold_out
from s2l_images.learning.forest import RandomForest, fit_own_forest, predict_random_forest
from s2l_images.learning.kept_models import load_model, model_in_use
from s2l_images.learning.pretrained_features import PretrainedFeatures, shared_features
from s2l_images.strokes import Stroke


class KeptAnswers:
    """Answers of forest and network, each image id -> foreground probability (H, W).

    Args:
        folder: of one's own, whose network in use is asked.
        board: the strokes on it are learned from; it shows while a forest learns.
        seed: of the forests.

    Attributes:
        forest: that learned from all strokes; None before `fit`.
        held: the strokes that are held out, image id -> (H, W) uint8 of 0, 1 and IGNORE.
        by_forest: of every image, by the forest that learned from all strokes.
        judged: of images that are drawn on, by the forest that has not seen held-out strokes.
        by_network: as far as it was asked, by the network in use.
    """

    def __init__(self, folder: Path, board: Scribbler, seed: int):
        self.folder, self.board, self.seed = folder, board, seed
        self.images = board.cells  # image id -> (H, W, 3) uint8
        self.forest: RandomForest | None = None
        self.held: dict[str, np.ndarray] = {}
        self.by_forest: dict[str, np.ndarray] = {}
        self.judged: dict[str, np.ndarray] = {}
        self.by_network: dict[str, np.ndarray] = {}
        self._learned: dict[str, tuple[Stroke, ...]] = {}  # strokes that the forests know
        self._pretrained: PretrainedFeatures | None = None  # what the forests look at

    @property
    def network_file(self) -> Path:
        """Where the network in use lies, or would lie."""
        return model_in_use(self.folder)

    def fit(self) -> None:
        """Fits both forests and predicts with them; does nothing if no stroke is new.

        Raises:
            S2LError: nothing is drawn, or only one class.
        """
        if not self.stale:
            return
        strokes = self._drawn()
        self.board.status = "The forest learns from your strokes …"
        try:
            self._fit_anew(self.board.scribbles())
        finally:
            self.board.status = ""
        self._learned = strokes

    @property
    def stale(self) -> bool:
        """Strokes were drawn or taken away since the forests learned, or none has learned yet."""
        return self.forest is None or self._drawn() != self._learned

    def _drawn(self) -> dict[str, tuple[Stroke, ...]]:
        return {name: tuple(lines) for name, lines in self.board.strokes.items() if lines}

    def of(self, answer: str) -> dict[str, np.ndarray]:
        """What `forest` or `network` answers for every image; missing answers are computed."""
        if answer == "network":
            return self._of_network()
        if not self.by_forest:
            self.fit()
        return self.by_forest

    def forget_network(self) -> None:
        """Another network is in use now."""
        self.by_network = {}

    def _fit_anew(self, scribbles: Mapping[str, np.ndarray]) -> None:
        if self._pretrained is None:
            try:
                self._pretrained = shared_features()
            except S2LError as error:  # without them a forest errs more, and works
                print(f"The forest looks at its own filters alone. {error}", flush=True)
        self.forest = self._fitted(scribbles)
        parts = hold_out(scribbles)
        self.held = parts.held
        judge = self._fitted(parts.kept)

        self.judged = self._asked(judge, scribbles)
        self.by_forest = self._asked(self.forest, self.images)

    def _fitted(self, scribbles: Mapping[str, np.ndarray]) -> RandomForest:
        images = [self.images[name] for name in scribbles]
        labels = list(scribbles.values())
        return fit_own_forest(images, labels, self._pretrained, seed=self.seed)

    def _asked(self, forest: RandomForest, names: Iterable[str]) -> dict[str, np.ndarray]:
        return {name: predict_random_forest(forest, self.images[name]) for name in names}

    def _of_network(self) -> dict[str, np.ndarray]:
        missing = [name for name in self.images if name not in self.by_network]
        if missing:
            network, _ = load_model(self.network_file)
            network.to(pick_device())
            for name in missing:
                self.by_network[name] = predict(network, self.images[name])
        return self.by_network
