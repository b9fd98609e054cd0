"""The averaged predictions of each training image, and the pseudo-labels they give (Sec. 2.1)."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from s2l_core.config import IGNORE, S2LError, check_choice

Array = TypeVar("Array", Tensor, np.ndarray)


class PseudoLabels:
    """Exponential moving averages of whole-image predictions: a float32 map an image, and a count.

    Args:
        averaging: weight a of the newest prediction: average = a * prediction + (1 - a) * average.
        start: the average begins at zero. "corrected" divides by 1 - (1 - a)^n, the weight of the n
            predictions seen so far; "zero" leaves it, so that early maps are all background (D8).
    """

    def __init__(self, averaging: float = 0.2, start: str = "corrected"):
        if not 0 < averaging <= 1:
            raise S2LError(
                f"averaging = {averaging}: expected a number above 0, at most 1. Change averaging."
            )
        check_choice("average_start", start, ("corrected", "zero"))
        self.averaging, self.start = averaging, start
        self._averages: dict[str, Tensor] = {}  # begun at zero; `average` corrects for that
        self._counts: dict[str, int] = {}

    def __contains__(self, id: str) -> bool:
        """True once the image has a prediction."""
        return id in self._averages

    def count(self, id: str) -> int:
        """How many predictions the average of an image rests on."""
        return self._counts.get(id, 0)

    def update(self, id: str, probability: Tensor | np.ndarray) -> None:
        """Adds one prediction (H, W) of an image's foreground probability.

        Raises:
            S2LError: the shape differs from the image's earlier predictions.
        """
        new = torch.as_tensor(probability).detach().to("cpu", torch.float32)
        average = self._averages.setdefault(id, torch.zeros_like(new))
        if new.shape != average.shape:
            found, expected = tuple(new.shape), tuple(average.shape)
            raise S2LError(
                f"Prediction of {id} is {found}, earlier ones {expected}: predict whole images."
            )
        average.mul_(1 - self.averaging).add_(new, alpha=self.averaging)
        self._counts[id] = self.count(id) + 1

    def average(self, id: str) -> Tensor:
        """Averaged foreground probability (H, W), float32.

        Raises:
            S2LError: the image was never predicted.
        """
        if id not in self._averages:
            raise S2LError(
                f"No averaged prediction of {id}: known are {list(self._averages)}. Update it "
                "first."
            )
        if self.start == "zero":
            return self._averages[id].clone()
        weight = 1 - (1 - self.averaging) ** self._counts[id]  # of all predictions so far
        return self._averages[id] / weight

    def labels(self, id: str, low: float, high: float) -> Tensor:
        """Pseudo-labels (H, W) uint8: see `threshold`. Scribbled pixels are not taken out here."""
        return threshold(self.average(id), low, high)

    def state_dict(self) -> dict:
        """All of it, in tensors and plain values for `torch.load(weights_only=True)`; no copy."""
        return {
            "averaging": self.averaging,
            "start": self.start,
            "sums": dict(self._averages),
            "counts": dict(self._counts),
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes over the averages of `state_dict`, bit for bit.

        `start` stays as it is here, as it acts on reading only (D8).

        Raises:
            S2LError: the state was averaged with another weight.
        """
        if state["averaging"] != self.averaging:
            raise S2LError(
                f"averaging = {self.averaging}, but the saved averages were made with "
                f"{state['averaging']}: use the same value, or a new warm-up."
            )
        self._averages = {id: average.clone() for id, average in state["sums"].items()}
        self._counts = dict(state["counts"])


def threshold(averaged: Array, low: float, high: float) -> Array:
    """Pseudo-labels of an averaged probability: above `high` 1, below `low` 0, else IGNORE; uint8.

    Both comparisons are strict. NumPy in, NumPy out; tensor in, tensor out; any shape.
    """
    if isinstance(averaged, np.ndarray):
        labels = np.full(averaged.shape, IGNORE, np.uint8)
    else:
        labels = torch.full_like(averaged, IGNORE, dtype=torch.uint8)
    labels[averaged < low] = 0
    labels[averaged > high] = 1
    return labels
