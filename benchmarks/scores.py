"""All scores of an image beside loops over its nuclei."""

from functools import partial

import numpy as np
from scipy import ndimage
from skimage.measure import label

from benchmarks import inputs
from benchmarks.harness import Row, Scale, ratio
from s2l_core.config import seed_for
from s2l_core.metrics import EPS, MIN_COMPONENT, MIN_NUCLEUS, score


def measure(scale: Scale) -> list[Row]:
    """1000 x 1000 pixels with 500 nuclei; the prediction is shifted, joins some,
    misses some and invents some.
    """
    side, count = scale.pick((200, 20), (1000, 500))
    truth = inputs.nuclei(side, count, (8, 16))
    rng = np.random.default_rng(seed_for("benchmarks", "prediction"))
    kept = np.r_[False, rng.random(truth.max()) < 0.9]
    mask = np.roll(kept[truth], (1, 2), (0, 1)) | (
        inputs.nuclei(side, count // 10, (4, 9), seed=1) > 0
    )
    ours, plain = score(truth, mask), plain_scores(truth, mask)
    assert ours.keys() == plain.keys() and np.allclose(
        list(ours.values()), list(plain.values()), atol=1e-9
    )
    times = scale.turns(
        {"plain": partial(plain_scores, truth, mask), "ours": partial(score, truth, mask)}
    )
    name = f"{side} x {side}, {ours['n_nuclei']} nuclei"
    return [ratio(name, times["ours"], "plain loops over nuclei", times["plain"], ">= 30")]


def plain_scores(truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Each score from its definition, a full-size mask for each nucleus."""
    found = plain_components(mask)
    nuclei, components = (np.unique(labels[labels > 0]).tolist() for labels in (truth, found))
    sizes = {c: int((found == c).sum()) for c in components}
    overlaps, areas = {}, {}
    for k in nuclei:
        areas[k] = int((truth == k).sum())
        under, counts = np.unique(found[truth == k], return_counts=True)
        overlaps[k] = {c: n for c, n in zip(under.tolist(), counts.tolist(), strict=True) if c}
    ious = {
        k: {c: n / (areas[k] + sizes[c] - n) for c, n in row.items()} for k, row in overlaps.items()
    }
    hits = sum(value > 0.5 for row in ious.values() for value in row.values())
    touched = {c for row in overlaps.values() for c in row}
    missed, merged = plain_errors(overlaps, areas)
    return {
        "n_nuclei": len(nuclei),
        "iou": ((truth > 0) & mask).sum() / ((truth > 0) | mask).sum(),
        "mdice": plain_mdice(overlaps, areas, sizes),
        "mdice_official": plain_mdice_official(truth, found),
        "aji": plain_aji(overlaps, ious, areas, sizes),
        "f1": 2 * hits / (len(nuclei) + len(components)),
        "false_positives": len(set(components) - touched),
        "missed": missed,
        "merged": merged,
        "false_area": sum(mask[i, j] and truth[i, j] == 0 for i, j in np.ndindex(mask.shape))
        / mask.size,
    }


def plain_components(mask: np.ndarray) -> np.ndarray:
    """Components of the mask, small ones removed, holes filled."""
    labels = label(mask, connectivity=2)
    for k in range(1, labels.max() + 1):
        if (labels == k).sum() < MIN_COMPONENT:
            labels[labels == k] = 0
    return label(ndimage.binary_fill_holes(labels > 0), connectivity=2)


def plain_mdice(overlaps: dict, areas: dict, sizes: dict) -> float:
    """Every component serves the nucleus it overlaps most."""
    owner = {}
    for c in sizes:
        shared = {k: row[c] for k, row in overlaps.items() if c in row}
        if shared:
            owner[c] = max(shared, key=shared.get)
    values = []
    for k, row in overlaps.items():
        serving = {c: n for c, n in row.items() if owner[c] == k}
        best = max(serving, key=serving.get, default=None)
        if areas[k] >= MIN_NUCLEUS:
            values.append(2 * serving[best] / (areas[k] + sizes[best]) if best else 0.0)
    return float(np.mean(values))


def plain_mdice_official(truth: np.ndarray, found: np.ndarray) -> float:
    """Label by label, erasing as it goes."""
    truth, values = truth.copy(), []
    for k in np.unique(truth[truth > 0]):
        if (truth == k).sum() < MIN_NUCLEUS:
            truth[truth == k] = 0
        under = found[truth == k]
        under = under[under > 0]
        if under.size:
            predicted = found == np.bincount(under).argmax()
        else:
            predicted = np.zeros(truth.shape, bool)
            edges = np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
            truth[np.isin(truth, np.unique(edges))] = 0
        left = truth == k
        tp, fp, fn = (predicted & left).sum(), (predicted & ~left).sum(), (~predicted & left).sum()
        values.append((2 * tp + EPS) / (2 * tp + fp + fn + EPS))
    return float(np.mean(values))


def plain_aji(overlaps: dict, ious: dict, areas: dict, sizes: dict) -> float:
    """Every nucleus takes the component of largest IoU."""
    intersection, union, used = 0, 0, set()
    for k, row in ious.items():
        best = max(row, key=row.get, default=None)
        shared = overlaps[k].get(best, 0)
        intersection, union = intersection + shared, union + areas[k] + sizes.get(best, 0) - shared
        used.add(best)
    return intersection / (union + sum(size for c, size in sizes.items() if c not in used))


def plain_errors(overlaps: dict, areas: dict) -> tuple[int, int]:
    """Nuclei that no component covers by more than half, and those that share the one that does."""
    covering = {}
    for k, row in overlaps.items():
        if areas[k] >= MIN_NUCLEUS:
            covering[k] = next((c for c, n in row.items() if 2 * n > areas[k]), None)
    held = list(covering.values())
    return held.count(None), sum(c is not None and held.count(c) > 1 for c in held)
