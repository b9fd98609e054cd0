"""Scores of a segmentation.

Each is a few lines on one table per image, of the pixels that nuclei and components share: no score
loops over nuclei, or looks at a mask of the image's size.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from s2l_core.config import S2LError

MIN_COMPONENT = 64  # predicted components with fewer pixels are removed; one of exactly 64 stays
MIN_NUCLEUS = 20  # nuclei with fewer pixels are erased (mdice_official) or skipped (mdice)
EPS = 1e-4  # of the released evaluator: empty against empty scores 1
EIGHT = np.ones((3, 3), bool)  # neighbours of a pixel, those at its corners included


@dataclass(frozen=True)
class Overlaps:
    """The pixels that n nuclei (in ascending order of label) share with m components.

    A pair is a nucleus and a component that share any; pairs are sorted by nucleus, then component.
    """

    truth_sizes: np.ndarray  # (n,) pixels
    predicted_sizes: np.ndarray  # (m,) pixels
    rows: np.ndarray  # (pairs,) nucleus 0..n-1
    columns: np.ndarray  # (pairs,) component 0..m-1
    counts: np.ndarray  # (pairs,) pixels in common, at least 1
    border: np.ndarray  # (n,) bool: the nucleus touches the image border

    @property
    def unions(self) -> np.ndarray:
        """(pairs,) pixels in the nucleus or the component."""
        return self.truth_sizes[self.rows] + self.predicted_sizes[self.columns] - self.counts


def overlaps(truth_instances: np.ndarray, predicted_instances: np.ndarray) -> Overlaps:
    """Counts the pixels that nuclei share with components, in time linear in the pixels.

    Args:
        truth_instances: (H, W) integer labels, 0 is background; labels may have gaps.
        predicted_instances: the same for the prediction.

    Raises:
        S2LError: the shapes differ, or a map is not one of non-negative integers.
    """
    truth, truth_sizes = _compact(truth_instances, "truth_instances")
    predicted, predicted_sizes = _compact(predicted_instances, "predicted_instances")
    _same_shape(truth, predicted)

    # One entry for each pixel in both maps; those of the same pair are added up.
    both = (truth > 0) & (predicted > 0)
    places = truth[both] - 1, predicted[both] - 1
    ones = np.ones(np.count_nonzero(both), np.int64)
    shape = truth_sizes.size, predicted_sizes.size
    table = sparse.coo_array((ones, places), shape).tocsr()  # (n, m)
    table.sum_duplicates()

    rows = np.repeat(np.arange(truth_sizes.size), np.diff(table.indptr))  # (pairs,)
    border = _at_border(truth, truth_sizes.size)[1:]  # (n,), without the background
    return Overlaps(truth_sizes, predicted_sizes, rows, table.indices, table.data, border)


def instances(
    probability: np.ndarray, *, threshold: float = 0.5, min_size: int = MIN_COMPONENT
) -> np.ndarray:
    """Separates the foreground into components, cleaned as for `mdice_official`.

    Foreground is `probability > threshold`, strictly, as the larger of two softmax outputs. Its
    8-connected components of fewer than `min_size` pixels are removed, then holes of what is left
    (4-connected background that does not reach the image border) are filled, and the result is
    labelled anew (8-connected).

    Args:
        probability: (H, W) foreground probability, or a mask of 0 and 1.
        threshold: where foreground begins.
        min_size: the smallest component that stays, in pixels.

    Returns:
        (H, W) int32, 0 is background, components 1, 2, ... in raster order of their first pixel.
    """
    return _components(np.asarray(probability) > threshold, min_size)


def iou(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Foreground IoU of one image (Table 1 of Oh et al. 2022); nonzero is foreground.

    Empty against empty is 1.
    """
    truth, prediction = np.asarray(truth) != 0, np.asarray(prediction) != 0
    _same_shape(truth, prediction)
    union = np.count_nonzero(truth | prediction)
    return float(np.count_nonzero(truth & prediction) / union) if union else 1.0


def mdice(truth_instances: np.ndarray, predicted_instances: np.ndarray) -> float:
    """Mean Dice per nucleus, without the quirks of `mdice_official`.

    A component serves one nucleus, the one it overlaps most; a nucleus is scored with the component
    that covers most of it among those that serve it (ties: smallest label), and with 0 where there
    is none. Nuclei of fewer than 20 pixels are left out of the mean. Components on no nucleus do
    not count: `score` has their number.

    Returns:
        Value in [0, 1]; nan where no nucleus of 20 pixels exists.
    """
    return _mdice(overlaps(truth_instances, predicted_instances))


def mdice_official(truth_instances: np.ndarray, predicted_mask: np.ndarray) -> float:
    """mDice as the paper and S2L report it, after Nishimura et al. 2019, quirks included.

    The mask is cleaned as in `instances`. Then for each label k in ascending order: (1) fewer than
    20 pixels: k is erased from the truth; (2) P is the component that covers most of what is left
    of k (ties: smallest label); (3) if there is none, P is empty and every label at the image
    border is erased, for k and all that follow; (4) the Dice of P and of what is left of k,
    (2 tp + eps) / (2 tp + fp + fn + eps), enters the mean. So an erased label scores 1, an erased
    small one triggers (3) as a miss does, false positives are free and one component may serve
    many nuclei.

    Args:
        truth_instances: (H, W) integer labels. The score depends on their order.
        predicted_mask: (H, W), nonzero is foreground.

    Returns:
        Value in [0, 1]; nan where there is no nucleus.
    """
    components = _components(np.asarray(predicted_mask) != 0, MIN_COMPONENT)
    return _mdice_official(overlaps(truth_instances, components))


def aji(truth_instances: np.ndarray, predicted_instances: np.ndarray) -> float:
    """Aggregated Jaccard index (Algorithm 1 of Kumar et al. 2017).

    Every nucleus takes the component of largest IoU (ties: smallest label), which others may take
    too; intersections and unions are summed, and nuclei and components that nobody took enter the
    union. Empty against empty is 1.
    """
    return _aji(overlaps(truth_instances, predicted_instances))


def f1(
    truth_instances: np.ndarray, predicted_instances: np.ndarray, threshold: float = 0.5
) -> float:
    """Detection F1, 2 TP / (n + m): a nucleus is found if an IoU is above `threshold`, strictly.

    From 0.5 on at most one component has such an IoU, so that no assignment has to be chosen. Empty
    against empty is 1.

    Raises:
        S2LError: a threshold below 0.5.
    """
    return _f1(overlaps(truth_instances, predicted_instances), threshold)


def score(
    truth_instances: np.ndarray, prediction: np.ndarray, *, threshold: float = 0.5
) -> dict[str, float]:
    """All scores of one image, from one table of overlaps.

    IoU is that of the thresholded prediction as it is; the scores per nucleus see it cleaned
    (`instances`).

    Args:
        truth_instances: (H, W) integer labels, 0 is background.
        prediction: (H, W) foreground probability, or a mask of 0 and 1.
        threshold: foreground is above it.

    Returns:
        n_nuclei, iou, mdice, mdice_official, aji, f1, false_positives, missed, merged, false_area:
        the columns of `per_image.csv`. Both mDice are nan in an image without nuclei: tables leave
        it out and count it. A nucleus (20 px or more) is `missed` where no component covers more
        than half of it, `merged` where the one that does also covers most of another.
        `false_positives` are components on no nucleus, `false_area` is the share of the image that
        is foreground on no nucleus.
    """
    mask = np.asarray(prediction) > threshold
    table = overlaps(truth_instances, _components(mask, MIN_COMPONENT))
    sharing = _sharing(table)
    return {
        "n_nuclei": table.truth_sizes.size,
        "iou": iou(truth_instances, mask),
        "mdice": _mdice(table),
        "mdice_official": _mdice_official(table),
        "aji": _aji(table),
        "f1": _f1(table, 0.5),
        "false_positives": _false_positives(table),
        "missed": int((sharing == 0).sum()),
        "merged": int((sharing > 1).sum()),
        "false_area": np.count_nonzero(mask & (np.asarray(truth_instances) == 0)) / mask.size,
    }


def _mdice(table: Overlaps) -> float:
    n, m = table.truth_sizes.size, table.predicted_sizes.size
    scored = table.truth_sizes >= MIN_NUCLEUS
    if not scored.any():
        return float("nan")

    # A component serves one nucleus: only the pair in which it overlaps most is left of it.
    serving = _best(table.columns, table.counts, m)
    serving = np.sort(serving[serving >= 0])  # in the table's order, on which ties depend

    # Of the components that serve a nucleus, the one that covers most of it is scored.
    chosen = _best(table.rows[serving], table.counts[serving], n)
    pairs = serving[chosen[chosen >= 0]]
    rows, columns = table.rows[pairs], table.columns[pairs]

    dice = np.zeros(n)  # of a nucleus that nobody serves
    sizes = table.truth_sizes[rows] + table.predicted_sizes[columns]
    dice[rows] = 2 * table.counts[pairs] / sizes
    return float(dice[scored].mean())


def _mdice_official(table: Overlaps) -> float:
    n = table.truth_sizes.size
    if n == 0:
        return float("nan")
    chosen = _best(table.rows, table.counts, n)
    missed = chosen < 0
    small = table.truth_sizes < MIN_NUCLEUS

    # The loop over labels in closed form: the first label without a component, small ones among
    # them, erases the labels at the border for itself and for all that follow.
    nothing_found = np.logical_or.accumulate(small | missed)
    erased = small | (table.border & nothing_found)
    left = np.where(erased, 0, table.truth_sizes)  # (n,) pixels

    dice = EPS / (left + EPS)  # against no component
    pairs = chosen[~missed & ~erased]
    rows, columns = table.rows[pairs], table.columns[pairs]
    sizes = left[rows] + table.predicted_sizes[columns]
    dice[rows] = (2 * table.counts[pairs] + EPS) / (sizes + EPS)
    return float(dice.mean())


def _aji(table: Overlaps) -> float:
    chosen = _best(table.rows, table.counts / table.unions, table.truth_sizes.size)
    pairs = chosen[chosen >= 0]
    unused = np.ones(table.predicted_sizes.size, bool)
    unused[table.columns[pairs]] = False

    union = table.unions[pairs].sum()
    union += table.truth_sizes[chosen < 0].sum()
    union += table.predicted_sizes[unused].sum()
    return float(table.counts[pairs].sum() / union) if union else 1.0


def _f1(table: Overlaps, threshold: float) -> float:
    if threshold < 0.5:
        raise S2LError(
            f"threshold = {threshold}: matches are unique from 0.5 on only. Choose 0.5 or more."
        )
    found = int((table.counts > threshold * table.unions).sum())
    objects = table.truth_sizes.size + table.predicted_sizes.size
    return 2 * found / objects if objects else 1.0


def _false_positives(table: Overlaps) -> int:
    """Number of predicted components that share no pixel with any nucleus."""
    return table.predicted_sizes.size - np.unique(table.columns).size


def _sharing(table: Overlaps) -> np.ndarray:
    """How many nuclei share the component that covers more than half of a nucleus; 0: none does.

    Of the nuclei of 20 px or more, which alone count.
    """
    scored = table.truth_sizes >= MIN_NUCLEUS
    covered = (2 * table.counts > table.truth_sizes[table.rows]) & scored[table.rows]
    rows, columns = table.rows[covered], table.columns[covered]
    sharing = np.zeros(table.truth_sizes.size, int)
    sharing[rows] = np.bincount(columns)[columns]
    return sharing[scored]


def _best(keys: np.ndarray, weights: np.ndarray, n: int) -> np.ndarray:
    """(n,) for each key 0..n-1 its pair of largest weight, the first of equals; -1: it has none."""
    order = np.lexsort((-weights, keys))  # by key, then falling weight; equals keep their order
    is_first = np.diff(keys[order], prepend=-1) > 0
    best = np.full(n, -1)
    best[keys[order][is_first]] = order[is_first]
    return best


def _at_border(labels: np.ndarray, n: int) -> np.ndarray:
    """(n + 1,) bool: which of the labels 0..n touch the image border."""
    found = np.zeros(n + 1, bool)
    for edge in (labels[:1], labels[-1:], labels[:, :1], labels[:, -1:]):
        found[edge] = True
    return found


def _components(mask: np.ndarray, min_size: int) -> np.ndarray:
    """Mask (H, W) -> (H, W) int32 components as in `instances`."""
    if mask.ndim != 2:
        raise S2LError(
            f"prediction has shape {mask.shape}: expected (H, W). "
            "Pass one image's foreground probability."
        )

    # Small components go first: a hole that one of them lies in is still a hole.
    labels, count = ndimage.label(mask, EIGHT)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= min_size
    kept[0] = False  # the background

    # Background that does not reach the border is a hole. Filled, it can join components.
    background, count = ndimage.label(~kept.take(labels))  # 4-connected; 0 is what was kept
    filled = ~_at_border(background, count)
    if filled[1:].any():
        filled[0] = True
        return ndimage.label(filled.take(background), EIGHT)[0]

    # No hole: nothing was joined, and the old labels need only close the gaps.
    return (np.cumsum(kept) * kept).astype(np.int32).take(labels)


def _compact(labels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Label map (H, W) -> the same with labels 1..n in their order, and their sizes (n,)."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise S2LError(
            f"{name} is {labels.dtype} of shape {labels.shape}: expected (H, W) labels, whole "
            "numbers from 0 (the background) up. Label a mask first, for example with `instances`."
        )
    # Numbers of a data base come first to 0, 1, ..., as a table up to the largest would not fit.
    if labels.size and labels.max() > labels.size:
        has_background = labels.min() == 0
        _, order = np.unique(labels, return_inverse=True)
        labels = order.reshape(labels.shape) + (0 if has_background else 1)

    # Then gaps are closed.
    sizes = np.bincount(labels.ravel())
    present = sizes > 0
    present[:1] = False  # the background; an empty image has not even that
    if not present[1:].all():
        labels = np.cumsum(present)[labels] * (labels > 0)
    return labels, sizes[present]


def _same_shape(truth: np.ndarray, prediction: np.ndarray) -> None:
    if truth.shape != prediction.shape:
        raise S2LError(
            f"prediction is {prediction.shape}, truth is {truth.shape}: "
            "predict at the image's own size."
        )
