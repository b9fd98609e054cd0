"""What forest and network say of every image of a folder, computed once and kept.

Two forests are fitted. One learns from all strokes: it is what a person sees and takes home. The
other learns without the strokes that are held out: it can be judged by these, and a network that
learns from its answers has not seen them either.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from s2l_core.inference import pick_device, predict
from s2l_images.answers import hold_out
from s2l_images.forest import RandomForest, fit_random_forest, predict_random_forest
from s2l_images.kept_models import load_model
from s2l_images.strokes import Stroke

Strokes = Mapping[str, tuple[Stroke, ...]]  # image id -> those that were drawn on it


class KeptAnswers:
    """Answers of forest and network, each image id -> foreground probability (H, W).

    Args:
        images: image id -> (H, W, 3) uint8.
        seed: of the forests.

    Attributes:
        forest: that learned from all strokes; None before `fit`.
        held: the strokes that are held out.
        by_forest: of every image, by the forest that learned from all strokes.
        judged: of images that are drawn on, by the forest that has not seen held-out strokes.
        by_network: as far as `of_network` was asked, by the network in use.
    """

    def __init__(self, images: Mapping[str, np.ndarray], seed: int):
        self.images, self.seed = images, seed
        self.forest: RandomForest | None = None
        self.held: dict[str, np.ndarray] = {}
        self.by_forest: dict[str, np.ndarray] = {}
        self.judged: dict[str, np.ndarray] = {}
        self.by_network: dict[str, np.ndarray] = {}
        self._learned: dict[str, tuple[Stroke, ...]] = {}  # strokes that the forests know

    def know(self, strokes: Strokes) -> bool:
        """Whether the forests have learned from just these strokes."""
        return self.forest is not None and strokes == self._learned

    def fit(self, strokes: Strokes, scribbles: Mapping[str, np.ndarray]) -> None:
        """Fits both forests, and asks them.

        Args:
            strokes: by which `know` tells later whether one is new.
            scribbles: image id -> (H, W) uint8 of 0, 1 and IGNORE, of the same strokes and of those
                of other programs.

        Raises:
            S2LError: nothing is drawn, or only one class.
        """
        self.forest = self._fitted(scribbles)
        parts = hold_out(scribbles)
        self.held = parts.held
        judge = self._fitted(parts.kept)

        self.judged = self._asked(judge, scribbles)
        self.by_forest = self._asked(self.forest, self.images)
        self._learned = dict(strokes)

    def of_network(self, file: Path) -> dict[str, np.ndarray]:
        """Asks the network of a file, where it was not asked yet; returns `by_network`."""
        missing = [name for name in self.images if name not in self.by_network]
        if missing:
            network, _ = load_model(file)
            network.to(pick_device())
            for name in missing:
                self.by_network[name] = predict(network, self.images[name])
        return self.by_network

    def forget_network(self) -> None:
        """Another network is in use now."""
        self.by_network = {}

    def _fitted(self, scribbles: Mapping[str, np.ndarray]) -> RandomForest:
        images = [self.images[name] for name in scribbles]
        return fit_random_forest(images, list(scribbles.values()), seed=self.seed)

    def _asked(self, forest: RandomForest, names: Iterable[str]) -> dict[str, np.ndarray]:
        return {name: predict_random_forest(forest, self.images[name]) for name in names}
