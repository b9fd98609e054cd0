"""Scores against plain loops written from their definitions, an independent library,
and cases with known counts.
"""

import math

import cellseg_metrics
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import measure

from s2l_core import metrics
from s2l_core.config import S2LError

EPS = 1e-4


def disc(shape, row, column, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def squares(*boxes, shape=(96, 96)):
    """Label map with square k at (row, column, side), later ones on top."""
    labels = np.zeros(shape, np.int32)
    for label, (row, column, side) in enumerate(boxes, 1):
        labels[row : row + side, column : column + side] = label
    return labels


def random_case(seed, shape=(150, 170), nuclei=25):
    """Touching, tiny and border nuclei with gaps in their labels,
    and a prediction with every kind of mistake.
    """
    rng = np.random.default_rng(seed)
    truth, prediction = np.zeros(shape, np.int32), np.zeros(shape, bool)
    labels = rng.permutation(3 * nuclei)[:nuclei] + 1
    for label in labels:
        row, column, radius = rng.integers(shape[0]), rng.integers(shape[1]), rng.integers(2, 14)
        body = disc(shape, row, column, radius) & (truth == 0)
        truth[body] = label
        if rng.random() < 0.8:
            prediction |= np.roll(body, rng.integers(-4, 5, size=2), (0, 1)) & (
                rng.random(shape) < 0.97
            )
    for _ in range(4):
        prediction |= disc(
            shape, rng.integers(shape[0]), rng.integers(shape[1]), rng.integers(3, 7)
        )
    return truth, prediction


def plain_components(mask):
    labels = measure.label(mask, connectivity=2)
    for label in range(1, labels.max() + 1):
        if (labels == label).sum() < 64:
            labels[labels == label] = 0
    return measure.label(ndimage.binary_fill_holes(labels > 0), connectivity=2)


def plain_mdice_official(truth, mask):
    truth, components = truth.copy(), plain_components(mask)
    values = []
    for k in np.unique(truth[truth > 0]):
        if (truth == k).sum() < 20:
            truth[truth == k] = 0
        under = components[truth == k]
        under = under[under > 0]
        if under.size:
            found, counts = np.unique(under, return_counts=True)
            predicted = components == found[counts.argmax()]
        else:
            predicted = np.zeros(truth.shape, bool)
            for label in np.unique(
                np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
            ):
                truth[truth == label] = 0
        left = truth == k
        tp, fp, fn = (predicted & left).sum(), (predicted & ~left).sum(), (~predicted & left).sum()
        values.append((2 * tp + EPS) / (2 * tp + fp + fn + EPS))
    return np.mean(values)


def plain_mdice(truth, components):
    nuclei = np.unique(truth[truth > 0])
    owner = {}
    for c in np.unique(components[components > 0]):
        shared = [((truth == k) & (components == c)).sum() for k in nuclei]
        if max(shared) > 0:
            owner[c] = nuclei[np.argmax(shared)]
    values = []
    for k in nuclei:
        if (truth == k).sum() < 20:
            continue
        serving = [c for c in sorted(owner) if owner[c] == k]
        shared = [((truth == k) & (components == c)).sum() for c in serving]
        if not serving:
            values.append(0.0)
            continue
        best = components == serving[int(np.argmax(shared))]
        values.append(2 * max(shared) / (best.sum() + (truth == k).sum()))
    return np.mean(values)


def plain_ious(truth, components):
    nuclei, found = np.unique(truth[truth > 0]), np.unique(components[components > 0])
    return np.array(
        [
            [
                ((truth == k) & (components == c)).sum() / ((truth == k) | (components == c)).sum()
                for c in found
            ]
            for k in nuclei
        ]
    ).reshape(len(nuclei), len(found))


def plain_aji(truth, components):
    ious, found = plain_ious(truth, components), np.unique(components[components > 0])
    intersection, union, used = 0, 0, set()
    for k, row in zip(np.unique(truth[truth > 0]), ious, strict=True):
        if row.size == 0 or row.max() == 0:
            union += (truth == k).sum()
            continue
        c = found[row.argmax()]
        used.add(c)
        intersection += ((truth == k) & (components == c)).sum()
        union += ((truth == k) | (components == c)).sum()
    return intersection / (union + sum((components == c).sum() for c in found if c not in used))


def plain_f1(truth, components):
    ious = plain_ious(truth, components)
    tp = (ious > 0.5).sum()
    return tp / (tp + 0.5 * (ious.shape[1] - tp) + 0.5 * (ious.shape[0] - tp))


def plain_false_positives(truth, components):
    return sum(not (truth[components == c] > 0).any() for c in range(1, components.max() + 1))


def plain_covering(truth, components):
    """For each nucleus of 20 px or more the component that covers more than half of it,
    0 where there is none.
    """
    covering = []
    for k in np.unique(truth[truth > 0]):
        under = components[truth == k]
        if under.size >= 20:
            covering.append(
                next(
                    (c for c in np.unique(under[under > 0]) if 2 * (under == c).sum() > under.size),
                    0,
                )
            )
    return covering


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_plain_loops(seed):
    truth, prediction = random_case(seed)
    components = plain_components(prediction)
    assert np.array_equal(metrics.instances(prediction), components)
    got = metrics.score(truth, prediction.astype(np.float32))
    assert got == pytest.approx(
        {
            "n_nuclei": np.unique(truth[truth > 0]).size,
            "iou": ((truth > 0) & prediction).sum() / ((truth > 0) | prediction).sum(),
            "mdice": plain_mdice(truth, components),
            "mdice_official": plain_mdice_official(truth, prediction),
            "aji": plain_aji(truth, components),
            "f1": plain_f1(truth, components),
            "false_positives": plain_false_positives(truth, components),
            "missed": (covering := plain_covering(truth, components)).count(0),
            "merged": sum(c > 0 and covering.count(c) > 1 for c in covering),
            "false_area": (prediction & (truth == 0)).mean(),
        },
        rel=1e-12,
    )
    assert got["mdice"] == metrics.mdice(truth, components)
    assert got["mdice_official"] == metrics.mdice_official(truth, prediction)
    assert (got["aji"], got["f1"]) == (
        metrics.aji(truth, components),
        metrics.f1(truth, components),
    )


def test_random_cases_reach_every_rule():
    """The comparison above is worth something only if the cases hold what the rules are about."""
    tables = []
    for seed in range(12):
        truth, prediction = random_case(seed)
        tables.append(metrics.overlaps(truth, metrics.instances(prediction)))
    rates = [metrics.score(*random_case(seed)) for seed in range(12)]
    small = [(t.truth_sizes < 20).sum() for t in tables]
    border = [t.border.sum() for t in tables]
    missed = [t.truth_sizes.size - np.unique(t.rows).size for t in tables]
    merged = [t.columns.size - np.unique(t.columns).size for t in tables]
    split = [t.rows.size - np.unique(t.rows).size for t in tables]
    assert min(sum(small), sum(border), sum(missed), sum(merged), sum(split)) >= 10
    assert min(sum(rate[name] for rate in rates) for name in ("missed", "merged")) >= 10


MISSED_AND_MERGED = {
    "nothing predicted": ([], (2, 0)),
    "perfect": ([(10, 10, 20), (10, 40, 20)], (0, 0)),
    "one component over both": ([(10, 10, 50)], (0, 2)),
    "exactly half is a miss": ([(10, 10, 20, 10), (10, 40, 20)], (1, 0)),
    "one pixel row more is not": ([(10, 10, 20, 11), (10, 40, 20)], (0, 0)),
    "two halves do not add up": ([(10, 10, 20, 9), (10, 21, 20, 9), (10, 40, 20)], (1, 0)),
    "joined, but one hardly covered": ([(10, 10, 20, 20), (14, 30, 5, 15)], (1, 0)),
    "a tiny nucleus is neither": ([(10, 10, 20), (10, 40, 20), (70, 70, 12)], (0, 0)),
}


@pytest.mark.parametrize("case", MISSED_AND_MERGED)
def test_missed_and_merged_have_exact_counts(case):
    """Two nuclei of 400 px and, in one corner, two of 16 px side by side that count for neither."""
    boxes, expected = MISSED_AND_MERGED[case]
    truth = squares((10, 10, 20), (10, 40, 20), (72, 72, 4), (72, 76, 4))
    prediction = np.zeros(truth.shape, bool)
    for row, column, height, *width in boxes:
        prediction[row : row + height, column : column + (width or [height])[0]] = True
    got = metrics.score(truth, prediction)
    assert (got["missed"], got["merged"]) == expected


def test_a_tiny_nucleus_merges_nobody():
    truth = squares((10, 10, 20), (10, 30, 4))
    got = metrics.score(truth, truth > 0)
    assert (got["n_nuclei"], got["missed"], got["merged"]) == (2, 0, 0)


@pytest.mark.parametrize("seed", range(12))
def test_f1_and_aji_equal_cellseg_metrics(seed):
    """cellseg_metrics (MIT) pairs for AJI by largest intersection, we by largest IoU:
    here both choose the same.
    """
    rng = np.random.default_rng(seed)
    truth, components = np.zeros((160, 160), np.int32), np.zeros((160, 160), np.int32)
    for k, (i, j) in enumerate(np.ndindex(6, 6), 1):
        row, column, radius = (
            13 + 26 * i + rng.integers(-2, 3),
            13 + 26 * j + rng.integers(-2, 3),
            rng.integers(5, 13),
        )
        truth[disc(truth.shape, row, column, radius)] = k
        if rng.random() < 0.8:
            shift = rng.integers(-5, 6, size=2)
            components[
                disc(truth.shape, row + shift[0], column + shift[1], radius + rng.integers(-2, 3))
            ] = 100 - k
    components[components == 99 - seed] = components.max()  # two nuclei in one component
    expected = cellseg_metrics.aggregated_jaccard_index(truth, components)
    assert 0.2 < expected < 0.8
    assert metrics.aji(truth, components) == pytest.approx(expected, abs=1e-6)
    expected = cellseg_metrics.panoptic_quality(truth, components)["dq"]
    assert 0.2 < expected < 0.95
    assert metrics.f1(truth, components) == pytest.approx(expected, abs=1e-6)
    expected = cellseg_metrics.panoptic_quality(truth, components, thresh=0.75)["dq"]
    assert metrics.f1(truth, components, 0.75) == pytest.approx(expected, abs=1e-6)


INSIDE, BORDER = (
    ((10, 10, 20), (50, 50, 20)),
    ((0, 10, 20), (20, 0, 20), (76, 30, 20), (40, 76, 20), (0, 60, 20)),
)
QUIRKS = {
    "nothing predicted, 2 nuclei inside the image": (squares(*INSIDE), lambda t: t < 0, 0.000),
    "nothing predicted, 5 nuclei all touching the border": (
        squares(*BORDER),
        lambda t: t < 0,
        1.000,
    ),
    "nothing predicted, 2 inside + 1 at the border": (
        squares(*INSIDE, BORDER[3]),
        lambda t: t < 0,
        0.333,
    ),
    "perfect + 2 false positives": (
        squares(*INSIDE),
        lambda t: (t > 0) | (squares((5, 70, 15), (70, 5, 15)) > 0),
        1.000,
    ),
    "two touching nuclei merged into one": (
        squares((30, 20, 20), (30, 40, 20)),
        lambda t: t > 0,
        0.667,
    ),
    "perfect + one missed nucleus of 16 px": (
        squares(*INSIDE, (80, 80, 4)),
        lambda t: (t > 0) & (t < 3),
        1.000,
    ),
}


@pytest.mark.parametrize("name", QUIRKS)
def test_quirks_of_the_released_evaluator(name):
    truth, predict, expected = QUIRKS[name]
    assert round(metrics.mdice_official(truth, predict(truth)), 3) == expected
    assert round(plain_mdice_official(truth, predict(truth)), 3) == expected


CLEAN = {
    "nothing predicted, 2 nuclei inside the image": 0,
    "nothing predicted, 5 nuclei all touching the border": 0,
    "nothing predicted, 2 inside + 1 at the border": 0,
    "perfect + 2 false positives": 1,
    "two touching nuclei merged into one": 1 / 3,
    "perfect + one missed nucleus of 16 px": 1,
}


@pytest.mark.parametrize("name", QUIRKS)
def test_clean_mdice_has_no_quirks(name):
    truth, predict, _ = QUIRKS[name]
    assert metrics.mdice(truth, metrics.instances(predict(truth))) == pytest.approx(CLEAN[name])


def test_a_miss_erases_border_labels_for_itself_and_what_follows_only():
    first, second, missed = (0, 10, 20), (0, 60, 20), (50, 50, 20)
    wrong_first = squares(first) > 0
    wrong_first[20:40, 10:30] = (
        True  # a component twice as large: dice 2/3 as long as its nucleus is there
    )
    truth = squares(first, missed, second)
    assert metrics.mdice_official(truth, wrong_first) == pytest.approx(
        (2 / 3 + 0 + 1) / 3, abs=1e-6
    )
    truth = squares(
        missed, first, second
    )  # now the miss comes first: component against an erased nucleus scores 1
    assert metrics.mdice_official(truth, wrong_first) == pytest.approx((0 + 1 + 1) / 3, abs=1e-6)


def test_an_erased_small_nucleus_acts_as_a_miss_even_under_a_component():
    truth = squares((50, 50, 4), (0, 10, 20))
    covered = (squares((46, 46, 12)) > 0) | (squares((0, 10, 10)) > 0)
    assert metrics.mdice_official(truth, covered) == pytest.approx(1)
    truth = squares((50, 50, 5), (0, 10, 20))  # 25 px: counts, and the border nucleus stays
    dice = 2 * 25 / (25 + 144), 2 * 100 / (100 + 400)
    assert metrics.mdice_official(truth, covered) == pytest.approx(sum(dice) / 2, abs=1e-5)


def test_nuclei_of_20_pixels_count_and_of_19_do_not():
    truth = np.zeros((64, 64), np.int32)
    truth[20:24, 20:25] = 1
    assert (truth > 0).sum() == metrics.MIN_NUCLEUS == 20
    empty = np.zeros_like(truth)
    assert metrics.mdice(truth, empty) == 0
    assert metrics.mdice_official(truth, empty) == pytest.approx(0, abs=1e-5)
    truth[20, 20] = 0
    assert math.isnan(metrics.mdice(truth, empty))
    assert metrics.mdice_official(truth, empty) == 1


@pytest.mark.parametrize("pixels, stays", [(64, True), (63, False)])
def test_components_of_64_pixels_stay(pixels, stays):
    mask = np.zeros((30, 30), bool)
    mask[2:10, 2:10] = True
    mask.flat[np.flatnonzero(mask)[pixels:]] = False
    assert metrics.instances(mask).max() == stays
    assert metrics.instances(mask, min_size=63).max() == 1


def test_components_are_8_connected():
    mask = np.zeros((30, 30), bool)
    mask[2:8, 2:8] = mask[8:14, 8:14] = True  # 36 px each, touching at a corner
    assert np.array_equal(metrics.instances(mask), mask)


def test_holes_are_filled_unless_they_reach_the_border():
    ring = disc((40, 40), 20, 20, 12) & ~disc((40, 40), 20, 20, 5)
    assert np.array_equal(metrics.instances(ring), disc((40, 40), 20, 20, 12))
    assert np.array_equal(metrics.instances(ring[20:]), ring[20:])  # cut open: no hole
    island = ring | disc((40, 40), 20, 20, 2)  # the small component goes, then its place is filled
    assert np.array_equal(metrics.instances(island), disc((40, 40), 20, 20, 12))
    diamond = np.zeros(
        (40, 40), bool
    )  # closed by corners only: 4-connected background cannot leave it
    distance = np.abs(np.arange(40) - 20)[:, None] + np.abs(np.arange(40) - 20)
    diamond[distance == 16] = True
    assert np.array_equal(metrics.instances(diamond), distance <= 16)


def test_instances_are_int32_in_raster_order_and_strictly_above_the_threshold():
    probability = np.full((40, 60), 0.5, np.float32)
    probability[20:30, 5:15] = 0.9
    probability[5:15, 30:40] = 0.7
    probability[0:3, 0:3] = 1  # too small: leaves no gap in the labels
    labels = metrics.instances(probability)
    assert labels.dtype == np.int32 and labels.shape == (40, 60)
    assert (labels[5, 30], labels[20, 5], labels.max()) == (1, 2, 2)
    assert metrics.instances(probability, threshold=0.8).max() == 1
    assert metrics.instances(probability, threshold=0.4).max() == 1


@pytest.mark.parametrize("shift", [0, 3, 8, 30])
def test_shifted_discs_have_exact_counts(shift):
    shape, radius = (80, 120), 12
    truth = disc(shape, 40, 40, radius).astype(np.int32)
    predicted = disc(shape, 40, 40 + shift, radius).astype(np.int32)
    area, common = truth.sum(), (truth & predicted).sum()
    expected = common / (2 * area - common)
    assert metrics.iou(truth, predicted) == pytest.approx(expected)
    assert metrics.aji(truth, predicted) == pytest.approx(expected)
    assert metrics.mdice(truth, predicted) == pytest.approx(common / area)
    assert metrics.f1(truth, predicted) == (expected > 0.5)
    assert metrics._false_positives(metrics.overlaps(truth, predicted)) == (common == 0)


def test_f1_counts_misses_and_false_positives():
    truth = squares((10, 10, 20), (10, 50, 20), (50, 10, 20), (50, 50, 20))
    predicted = np.where(truth < 4, truth, 0)  # 3 found, 1 missed
    predicted[80:90, 80:90] = 9  # 1 false positive
    assert metrics.f1(truth, predicted) == pytest.approx(3 / (3 + 0.5 + 0.5))
    half = squares((10, 10, 20))
    half[20:] = 0  # IoU exactly 0.5: not above it
    assert metrics.f1(squares((10, 10, 20)), half) == 0


def test_aji_pairs_by_iou_and_lets_a_component_serve_twice():
    truth = np.zeros((40, 100), np.int32)
    truth[10:20, 10:30] = 1  # 200 px
    predicted = np.zeros_like(truth)
    predicted[10:20, 10:19] = 1  # 90 px of it: IoU .45
    predicted[0:40, 19:60] = 2  # 110 px of it but 1640 px large: IoU .06
    assert metrics.aji(truth, predicted) == pytest.approx(90 / (200 + 1640))
    truth = squares((30, 20, 20), (30, 40, 20))
    assert metrics.aji(truth, (truth > 0).astype(int)) == pytest.approx((400 + 400) / (800 + 800))


def test_ties_go_to_the_smallest_label():
    truth = squares((20, 20, 20))
    predicted = np.zeros_like(truth)
    predicted[20:30, 20:40] = 1
    predicted[30:60, 20:40] = 2  # covers as much of the nucleus, but is larger
    assert metrics.mdice(truth, predicted) == pytest.approx(400 / (200 + 400))
    swapped = np.where(predicted > 0, 3 - predicted, 0)
    assert metrics.mdice(truth, swapped) == pytest.approx(400 / (600 + 400))


def test_images_without_nuclei_or_prediction():
    empty, one = np.zeros((50, 50), np.int32), squares((10, 10, 20), shape=(50, 50))
    got = metrics.score(empty, empty.astype(bool))
    assert (got["n_nuclei"], got["iou"], got["aji"], got["f1"], got["false_positives"]) == (
        0,
        1,
        1,
        1,
        0,
    )
    assert math.isnan(got["mdice"]) and math.isnan(got["mdice_official"])
    assert (got["missed"], got["merged"]) == (0, 0)
    got = metrics.score(empty, one > 0)
    assert (got["iou"], got["aji"], got["f1"], got["false_positives"]) == (0, 0, 0, 1)
    assert math.isnan(got["mdice"]) and math.isnan(got["mdice_official"])
    got = metrics.score(one, empty)
    assert (got["n_nuclei"], got["iou"], got["mdice"], got["aji"], got["f1"]) == (1, 0, 0, 0, 0)


def test_a_perfect_prediction_scores_one_on_everything():
    truth = squares(*INSIDE, *BORDER[3:])
    got = metrics.score(truth, (truth > 0).astype(np.float32))
    assert got == pytest.approx(
        got | dict.fromkeys(("iou", "mdice", "mdice_official", "aji", "f1"), 1.0)
    )
    assert got["n_nuclei"] == 4 and got["false_positives"] == got["missed"] == got["merged"] == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_only_the_official_score_depends_on_the_order_of_labels(seed, random):
    truth, prediction = random_case(seed, shape=(90, 90), nuclei=12)
    labels = np.unique(truth[truth > 0])
    order = list(range(1, len(labels) + 1))
    random.shuffle(order)
    lookup = np.zeros(labels.max() + 1, np.int64)
    lookup[labels] = order
    a, b = metrics.score(truth, prediction), metrics.score(lookup[truth], prediction)
    assert a | {"mdice_official": 0} == pytest.approx(b | {"mdice_official": 0}, nan_ok=True)
    assert all(0 <= b[name] <= 1 for name in ("iou", "mdice_official", "aji", "f1"))


def test_more_labels_than_a_byte_holds():
    truth = np.arange(1, 401, dtype=np.uint16).reshape(20, 20).repeat(10, 0).repeat(10, 1)
    assert metrics.overlaps(truth, truth).counts.size == 400
    assert metrics.aji(truth, truth) == metrics.f1(truth, truth) == metrics.mdice(truth, truth) == 1


@pytest.mark.parametrize("background", [0, 1])
def test_numbers_of_a_data_base_score_as_small_ones_do(background):
    small = squares((10, 10, 20), (50, 50, 20)) + background
    large = np.array([0, 7, 10**9, 10**15])[small]
    predicted = metrics.instances(small > 1)
    found, expected = (metrics.overlaps(truth, predicted) for truth in (large, small))
    for name in ("truth_sizes", "rows", "columns", "counts", "border"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.iou(np.ones((4, 4)), np.ones((4, 5))), r"\(4, 5\).*\(4, 4\)"),
        (lambda: metrics.aji(np.ones((4, 4), int), np.ones((5, 4), int)), r"\(5, 4\).*\(4, 4\)"),
        (
            lambda: metrics.mdice(np.ones((4, 4), bool), np.ones((4, 4), int)),
            "truth_instances is bool",
        ),
        (
            lambda: metrics.f1(np.ones((4, 4), int), np.ones((4, 4))),
            "predicted_instances is float64",
        ),
        (
            lambda: metrics.mdice(np.full((4, 4), -1), np.ones((4, 4), int)),
            "truth_instances is int64",
        ),
        (lambda: metrics.instances(np.ones((1, 4, 4))), r"\(1, 4, 4\): expected \(H, W\)"),
        (lambda: metrics.f1(np.ones((4, 4), int), np.ones((4, 4), int), 0.3), "threshold = 0.3"),
    ],
)
def test_errors_say_what_was_found(call, message):
    with pytest.raises(S2LError, match=message):
        call()
