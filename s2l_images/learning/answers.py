"""Which answer is exported: forest or network, judged by strokes that neither of them has seen.

A fifth of the strokes is put aside. What learns from the others is asked about these, and the share
that it gets right says how far it can be trusted on images of which nobody has a mask.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from s2l_core.config import CLASSES, IGNORE, S2LError, check_choice, digest
from s2l_core.metrics import EIGHT

HELD_OUT_SHARE = 0.2  # of the strokes of a class that are held out
LARGEST_SHARE = 0.2  # share of an image that one object may cover
# By how much agreement has to rise for the threshold to leave 0.5. Strokes lie away from outlines:
# they say little of where nuclei end. On training images the best agreement as such cost IoU in 12
# of 18 answers, up to .22, and helped in 2.
MARGIN = 0.05
THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(4, 17))  # 0.2 to 0.8
ANSWERS = ("auto", "forest", "network")

Maps = Mapping[str, np.ndarray]  # image id -> (H, W)


@dataclass(frozen=True)
class HeldOut:
    """Strokes in two parts, each image id -> label map (H, W) uint8 of 0, 1 and IGNORE.

    Attributes:
        kept: what may be learned from, for every image.
        held: what answers are judged by; images without a held-out stroke are left out.
    """

    kept: dict[str, np.ndarray]
    held: dict[str, np.ndarray]


def hold_out(scribbles: Maps, share: float = HELD_OUT_SHARE) -> HeldOut:
    """Puts a share of the strokes of each class aside.

    A stroke is an 8-connected piece of one class. Which ones are held out depends on their image
    and place only, so the same strokes give the same parts. Of two strokes or more of a class at
    least one is held out and at least one stays; a single one stays. As strokes are added, one that
    was learned from may later be held out: a model that goes on from an earlier round may then have
    seen it.

    Args:
        scribbles: image id -> (H, W) uint8 of 0, 1 and IGNORE.
        share: of the strokes of each class.

    Raises:
        S2LError: the share lies outside of 0 to 1.
    """
    if not 0 <= share < 1:
        raise S2LError(
            f"share = {share}: expected a share of the strokes, 0 or more and below 1. Change "
            "share."
        )
    kept = {name: labels.copy() for name, labels in scribbles.items()}
    held: dict[str, np.ndarray] = {}
    for label in range(len(CLASSES)):
        pieces = _pieces(scribbles, label)
        count = 0
        if share and len(pieces) > 1:
            count = min(max(1, round(share * len(pieces))), len(pieces) - 1)

        # The order of the hashes is as good as chance, and the same every time.
        for _, name, pixels in sorted(pieces, key=lambda piece: piece[0])[:count]:
            empty = np.full(scribbles[name].shape, IGNORE, np.uint8)
            held.setdefault(name, empty).flat[pixels] = label
            kept[name].flat[pixels] = IGNORE
    return HeldOut(kept, held)


def _pieces(scribbles: Maps, label: int) -> list[tuple[str, str, np.ndarray]]:
    """The strokes of a class: a hash of each, its image, and its pixels as flat indices (N,)."""
    pieces = []
    for name in sorted(scribbles):
        numbered, count = ndimage.label(scribbles[name] == label, EIGHT)  # (H, W)
        for number, place in enumerate(ndimage.find_objects(numbered, count), 1):
            rows, columns = np.nonzero(numbered[place] == number)
            top, left = place[0].start, place[1].start
            pixels = (rows + top) * numbered.shape[1] + columns + left
            pieces.append((digest([name, label, int(pixels[0])], 16), name, pixels))
    return pieces


def agreement(probability: Maps, held: Maps, threshold: float = 0.5) -> float:
    """Balanced accuracy on the pixels of held-out strokes: the mean of both classes' shares.

    Args:
        probability: image id -> foreground probability (H, W), for every image of `held`.
        held: image id -> (H, W) uint8 of 0, 1 and IGNORE.
        threshold: foreground is above it.

    Returns:
        Between 0 and 1; where strokes of one class only are held out, the share of that one; NaN
        where none is.

    Raises:
        S2LError: an image lacks its probability, or has one of another shape.
    """
    values, classes = _at_strokes(probability, held)
    shares = []
    for label in range(len(CLASSES)):
        of_class = values[classes == label]  # (N,)
        if of_class.size:
            shares.append(float(np.mean((of_class > threshold) == label)))
    return float(np.mean(shares)) if shares else math.nan


def one_stroke(held: Maps) -> float:
    """By how much the agreement changes, at most, with one of the held-out strokes.

    A difference that one stroke can make says nothing. Of 20 folders of training images the network
    was ahead by less than that in 7: taking it cost up to .19 IoU, and gained up to .05.

    Returns:
        Between 0 and 1; 0 where no stroke is held out.
    """
    counts = []
    for label in range(len(CLASSES)):
        count = len(_pieces(held, label))
        if count:
            counts.append(count)
    return 1 / (len(counts) * min(counts)) if counts else 0.0


def best_agreement(probability: Maps, held: Maps) -> float:
    """`agreement` at the threshold where it is best: how well an answer tells strokes apart.

    A forest that has not seen a fifth of the strokes is less sure of their pixels than the one that
    is exported: at one half it would seem worse than it is, on training images by up to .26.

    Raises:
        S2LError: as `agreement`.
    """
    return max(agreement(probability, held, threshold) for threshold in THRESHOLDS)


def best_threshold(probability: Maps, held: Maps) -> float:
    """0.5, or the threshold among 0.2, 0.25, ... 0.8 with the best `agreement`, where that is by
    more than `MARGIN` better; of equals the one nearest to 0.5.

    Raises:
        S2LError: as `agreement`.
    """
    values, _ = _at_strokes(probability, held)
    if not values.size:
        return 0.5
    usual = agreement(probability, held)
    by_distance = sorted(THRESHOLDS, key=lambda threshold: abs(threshold - 0.5))
    best = max(by_distance, key=lambda threshold: agreement(probability, held, threshold))
    gained = agreement(probability, held, best) - usual
    return best if gained > MARGIN else 0.5


def _at_strokes(probability: Maps, held: Maps) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N,) and classes (N,) of all held-out pixels."""
    values, classes = [np.empty(0, np.float32)], [np.empty(0, np.uint8)]
    for name, labels in held.items():
        found = np.shape(probability[name]) if name in probability else "missing"
        if found != labels.shape:
            raise S2LError(
                f"probability of {name} is {found}: expected {labels.shape}, like its strokes. "
                "Predict every image that carries strokes."
            )
        drawn = labels != IGNORE  # (H, W)
        values.append(probability[name][drawn])
        classes.append(labels[drawn])
    return np.concatenate(values), np.concatenate(classes)


def absurd(
    answer: np.ndarray,
    scribbles: np.ndarray | None = None,
    *,
    threshold: float = 0.5,
    largest: float = LARGEST_SHARE,
) -> str | None:
    """Why nobody would call this a segmentation, as a sentence; None where nothing speaks against
    it.

    Args:
        answer: (H, W) foreground probability, boolean mask, or integers that number objects.
        scribbles: (H, W) uint8 of 0, 1 and IGNORE: what was drawn on the image.
        threshold: foreground of a probability is above it.
        largest: the share of the image that one object may cover.
    """
    if np.issubdtype(answer.dtype, np.integer):
        objects, mask = answer, answer > 0
    else:
        mask = answer > threshold
        objects, _ = ndimage.label(mask, EIGHT)

    # Nuclei are many and small: what covers the image is the background, taken for one.
    sizes = np.bincount(objects.ravel())[1:]
    share = sizes.max(initial=0) / mask.size
    if share > largest:
        return (
            f"One object covers {share:.0%} of the image, and {largest:.0%} is the most that a "
            "nucleus is thought to cover."
        )
    if scribbles is None:
        return None

    on_background, on_foreground = mask[scribbles == 0], mask[scribbles == 1]
    if on_background.size and on_background.mean() > 0.5:
        return f"{on_background.mean():.0%} of what was drawn as background is taken for nuclei."
    if on_foreground.size and on_foreground.mean() < 0.5:
        missed = 1 - on_foreground.mean()
        return f"Nothing is found on {missed:.0%} of what was drawn as foreground."
    return None


@dataclass(frozen=True)
class Choice:
    """The answer that is exported.

    Attributes:
        answer: `forest` or `network`.
        forest, network: their agreement with held-out strokes, each at the threshold where it is
            best; NaN where it cannot be told.
        threshold: of a network the best on held-out strokes (`best_threshold`), of a forest 0.5.
        reason: why it was chosen, as a sentence.
    """

    answer: str
    forest: float
    network: float
    threshold: float
    reason: str

    def __str__(self) -> str:
        numbers = [
            f"{name} {'-' if math.isnan(value) else f'{value:.1%}'}"
            for name, value in (("forest", self.forest), ("network", self.network))
        ]
        return (
            f"held-out strokes that are right: {', '.join(numbers)}. {self.reason} "
            f"Foreground is above {self.threshold:g}."
        )


def choose(forest: Maps, network: Maps | None, held: Maps, answer: str = "auto") -> Choice:
    """Compares forest and network on held-out strokes, and says which one is exported.

    Args:
        forest: image id -> probability (H, W) of a forest that has not seen the held-out strokes.
        network: the same of the network; None: none was trained, or none is fit to be shown.
        held: image id -> (H, W) uint8 of 0, 1 and IGNORE.
        answer: `auto` chooses the network where it is better by more than one held-out stroke
            (`one_stroke`), else the forest; `forest` or `network` overrules that.

    Raises:
        S2LError: another word for `answer`; a network is wanted and there is none.
    """
    check_choice("answer", answer, ANSWERS)
    if answer == "network" and network is None:
        raise S2LError(
            "answer = 'network': no network is in use. Train one first, or choose 'auto'."
        )
    scores = {"forest": best_agreement(forest, held), "network": math.nan}
    if network is not None:
        scores["network"] = best_agreement(network, held)

    if answer != "auto":
        chosen, reason = answer, f"The {answer}'s answer is exported, as you wish."
    elif network is None:
        chosen, reason = "forest", "The forest's answer is exported: there is no network."
    elif math.isnan(scores["forest"]):
        chosen = "forest"
        reason = (
            "The forest's answer is exported: no stroke could be held out to compare them by. "
            "Draw two of each class at least."
        )
    elif scores["network"] > scores["forest"] + one_stroke(held):
        chosen, reason = "network", "The network's answer is exported."
    else:
        chosen, reason = "forest", "The forest's answer is exported."
        if scores["network"] > scores["forest"]:
            reason = (
                "The forest's answer is exported: the network is better by no more than one "
                f"stroke ({one_stroke(held):.1%})."
            )

    # The forest that is judged is less sure than the one that is exported: it would move too far.
    threshold = 0.5
    if chosen == "network" and network is not None:
        threshold = best_threshold(network, held)
    return Choice(chosen, scores["forest"], scores["network"], threshold, reason)
