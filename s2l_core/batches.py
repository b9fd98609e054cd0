"""The images of a training and the crops of each step, drawn from (seed, purpose, step) alone."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s2l_core.augment import random_crop
from s2l_core.config import CLASSES, IGNORE, RunConfig, S2LError, seed_for
from s2l_core.images import CellImage, intensity_range
from s2l_core.profiles import STAINED
from s2l_core.pseudo_labels import PseudoLabels
from s2l_core.threads import on_one_core_each


class TrainingSet:
    """Images with their scribbles; gives the batch of any step, the same for every method.

    Args:
        images: CellImages to learn from.
        scribbles: id -> (H, W) uint8 {0, 1, IGNORE}: what is learned from, and where crops are
            placed (D21).
        config: crop, batch, seed, foreground_crops and intensity count.
        masks: leave the scribbles out of the batches: for a method that learns from masks.
    """

    def __init__(
        self,
        images: Sequence[CellImage],
        scribbles: Mapping[str, np.ndarray],
        config: RunConfig,
        *,
        masks=False,
    ):
        if not images:
            raise S2LError(
                f"{config.dataset}, fold {config.fold}: no training image. Choose another fold."
            )
        if not masks:
            _check_both_classes(config.dataset, [scribbles[image.id] for image in images])
        self.images = list(images)
        self.scribbles, self.masks = scribbles, masks
        self.seed, self.crop = config.seed, config.crop
        self.foreground_crops = config.foreground_crops  # share that holds a stroke's pixel (D21)
        self.strokes: dict[str, np.ndarray] = {}  # image id -> (N, 2) pixels of foreground strokes
        if self.foreground_crops:
            self.strokes = {id: np.argwhere(drawn == 1) for id, drawn in scribbles.items()}
        self.size = min(config.batch, len(self.images))
        self.colour = config.dataset in STAINED
        self.limits = {
            image.id: intensity_range(image.image, config.intensity) for image in self.images
        }

    def foreground_share(self) -> float:
        """Foreground among the labelled pixels of all images, .001 to .999: never quite certain."""
        foreground = labelled = 0
        for image in self.images:
            if self.masks and image.instances is not None:
                foreground += int((image.instances > 0).sum())
                labelled += image.instances.size
            else:
                foreground += int((self.scribbles[image.id] == 1).sum())
                labelled += int((self.scribbles[image.id] != IGNORE).sum())
        return min(max(foreground / labelled, 0.001), 0.999)

    def images_at(self, step: int) -> list[CellImage]:
        """CellImages of a step: each epoch is a fresh permutation, one crop per image."""
        count = len(self.images)
        chosen = []
        for position in range(step * self.size, (step + 1) * self.size):
            epoch, place = divmod(position, count)
            order = np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(count)
            chosen.append(self.images[order[place]])
        return chosen

    def batch(
        self, step: int, pseudo: PseudoLabels | None = None, cut: Callable = map
    ) -> dict[str, Tensor]:
        """Crops of one step, stacked.

        Args:
            step: number of the step, from 0.
            pseudo: averaged predictions to cut along, if the method uses them.
            cut: `map`, or one that works in threads: crops do not depend on each other.

        Returns:
            image (B, 3, S, S) float32 in [0, 1]; scribbles, mask (B, S, S) uint8; averaged (B, S,
            S) float32.
        """
        crops = list(cut(partial(self._crop, step, pseudo), range(self.size), self.images_at(step)))
        return {name: torch.stack([crop[name] for crop in crops]) for name in crops[0]}

    def _crop(
        self, step: int, pseudo: PseudoLabels | None, place: int, image: CellImage
    ) -> dict[str, Tensor]:
        averaged = pseudo.average(image.id) if pseudo is not None and image.id in pseudo else None
        rng = np.random.default_rng(seed_for(self.seed, "crop", step, place))
        scribbles = None if self.masks else self.scribbles[image.id]
        return random_crop(
            image.image,
            scribbles,
            averaged,
            image.instances,
            size=self.crop,
            rng=rng,
            limits=self.limits[image.id],
            colour=self.colour,
            target=self._target(image.id, step, place),
        )

    def _target(self, image: str, step: int, place: int) -> list[int] | None:
        """A foreground stroke's pixel for the crop to hold, in the share `foreground_crops`."""
        rng = np.random.default_rng(seed_for(self.seed, "target", step, place))
        if not self.foreground_crops or rng.random() >= self.foreground_crops:
            return None
        strokes = self.strokes.get(image, ())
        if not len(strokes):
            return None
        return rng.choice(strokes).tolist()


def _check_both_classes(name: str, scribbles: Sequence[np.ndarray]) -> None:
    """Raises an S2LError unless both classes are drawn, in one image or in several."""
    for label, kind in enumerate(CLASSES):
        if not any((drawn == label).any() for drawn in scribbles):
            raise S2LError(
                f"{name}: no {kind} scribble in any training image; expected both classes. "
                "Draw some; `s2l check FOLDER` shows what is there."
            )


class Prefetcher:
    """Prepares the next batch in a thread while the current step computes.

    Args:
        data: what to take crops of.
        pseudo: averaged predictions to cut along, or None.
        device: where batches go.
        regions: (batch, step) -> region labels, which stay on the CPU; or None.
        cutters: further threads, which cut the crops; None: one a core, 8 at most, where a GPU does
            the rest, else 0.
    """

    def __init__(
        self,
        data: TrainingSet,
        pseudo,
        device: torch.device,
        regions=None,
        cutters: int | None = None,
    ):
        self.data, self.pseudo, self.device, self.regions = data, pseudo, device, regions
        if cutters is None:
            cutters = min(torch.get_num_threads(), 8) if device.type == "cuda" else 0
        self._pool = on_one_core_each(1 + cutters)
        self._cut: Callable = self._pool.map if cutters else map
        self._waiting: Future | None = None  # the batch that is being prepared

    def batch(self, step: int, *, prefetch_next: bool) -> dict[str, Any]:
        """The batch of `step`; the next is begun only if nothing changes before that it needs."""
        future = self._waiting or self._pool.submit(self._prepare, step)
        batch, regions = future.result()
        self._waiting = self._pool.submit(self._prepare, step + 1) if prefetch_next else None
        cuda = self.device.type == "cuda"
        return {
            name: values.to(self.device, non_blocking=cuda) for name, values in batch.items()
        } | regions

    def _prepare(self, step: int) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        batch = self.data.batch(step, self.pseudo, self._cut)
        regions = {"regions": self.regions(batch, step=step)} if self.regions else {}
        if self.device.type == "cuda":  # from pinned memory a transfer is not waited for
            batch = {name: values.pin_memory() for name, values in batch.items()}
        return batch, regions

    def close(self) -> None:
        """Stops the threads."""
        self._pool.shutdown(cancel_futures=True)
