"""Intervals and tests against enumeration, known results and the rules about how few is too few."""

import itertools

import numpy as np
import pandas as pd
import pytest

from s2l_paper import statistics
from s2l_paper.statistics import ALPHA, MIN_IMAGES, MIN_REPETITIONS


def table(cells):
    """Runs table from (method, fold, annotator, scores of the images)."""
    rows = [
        {
            "dataset": "d",
            "method": method,
            "fold": fold,
            "seed": 0,
            "annotator": annotator,
            "image": f"i{n}",
        }
        | {"iou": score, "run_id": f"{method}_f{fold}_a{annotator}"}
        for method, fold, annotator, scores in cells
        for n, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", range(4))
def test_p_is_that_of_all_exchanges_of_signs(seed):
    differences = np.random.default_rng(seed).normal(0.3 * seed, 1, MIN_IMAGES)
    signs = np.array(list(itertools.product((-1, 1), repeat=MIN_IMAGES)))
    means = (signs * differences).mean(1)
    expected = min(
        1,
        2
        * min(
            (means >= differences.mean() - 1e-12).mean(),
            (means <= differences.mean() + 1e-12).mean(),
        ),
    )
    assert statistics.p_value(pd.Series(differences)) == pytest.approx(expected)


def test_p_of_many_images_is_drawn_and_the_same_every_time():
    differences = pd.Series(np.random.default_rng(0).normal(0.2, 1, 109))
    drawn = statistics.p_value(differences, "a")
    statistics._p_value.cache_clear()
    assert drawn == statistics.p_value(differences, "a") != statistics.p_value(differences, "b")
    assert drawn == pytest.approx(statistics.p_value(differences, "b"), abs=0.02)
    assert statistics.p_value(differences + 9) == pytest.approx(2 / (statistics.RESAMPLES + 1))


def test_interval_is_near_that_of_the_normal_distribution():
    values = pd.Series(np.random.default_rng(0).normal(0.7, 0.1, 400))
    low, high = statistics.interval(values, "a")
    error = values.std() / 20
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=error / 5
    )
    assert (low, high) == statistics.interval(pd.concat([values, pd.Series([np.nan])]), "a")
    assert (low, high) != statistics.interval(values, "b")
    assert statistics.interval(pd.Series([0.5] * MIN_IMAGES)) == (0.5, 0.5)


def test_too_few_images_get_neither():
    few = pd.Series(np.arange(MIN_IMAGES - 1.0))
    assert np.isnan(statistics.p_value(few)) and np.isnan(statistics.interval(few)).all()
    assert np.isnan(statistics.interval(pd.concat([few, pd.Series([np.nan])]))).all()


def test_the_least_numbers_follow_from_alpha():
    tests = 4 * 3 * 2  # methods beside S2L, data sets, scores
    assert tests * 2 / 2**MIN_IMAGES < ALPHA <= tests * 2 / 2 ** (MIN_IMAGES - 1)
    assert 2 / 2**MIN_REPETITIONS < ALPHA <= 2 / 2 ** (MIN_REPETITIONS - 1)


def test_holm_on_a_textbook_example():
    p = pd.Series([0.01, np.nan, 0.04, 0.03, 0.005, 0.9], index=list("abcdef"))
    corrected = statistics.holm(p)
    assert corrected.to_dict() == pytest.approx(
        {"a": 0.04, "b": np.nan, "c": 0.09, "d": 0.09, "e": 0.025, "f": 0.9}, nan_ok=True
    )


def test_images_are_averaged_over_repetitions_first():
    base = np.linspace(0.4, 0.8, MIN_IMAGES)
    noise = np.random.default_rng(0).normal(0, 0.1, MIN_IMAGES)
    runs = table([("a", 0, "0", base + 0.03 + noise), ("a", 1, "0", base + 0.01 - noise)])
    runs = pd.concat([runs, table([("b", 0, "0", base), ("b", 1, "0", base)])])
    found = statistics.compare(runs, [("d", "a", "b", "iou")]).iloc[0]
    assert found[["difference", "low", "high"]].to_list() == pytest.approx(
        [0.02] * 3
    )  # the noise cancels in each image
    gains = [0.03 + noise.mean(), 0.01 - noise.mean()]
    assert found.spread == pytest.approx(np.std(gains, ddof=1))
    assert (found.images, found.repetitions) == (MIN_IMAGES, 2)
    assert (found.above, found.below) == (sum(g > 0 for g in gains), sum(g < 0 for g in gains))
    assert found.p == pytest.approx(2 / 2**MIN_IMAGES) and found.p_holm == found.p


def test_only_common_repetitions_and_images_are_compared():
    runs = table(
        [
            ("a", 0, "0", [0.5, 0.6, 0.7]),
            ("a", 0, "1", [0.9, 0.9, 0.9]),
            ("b", 0, "0", [0.4, 0.5, np.nan]),
        ]
    )
    found = statistics.compare(
        runs, [("d", "a", "b", "iou"), ("d", "a", "c", "iou"), ("e", "a", "b", "iou")]
    )
    assert list(found.index) == [("d", "a", "b", "iou")]
    assert found.difference.iloc[0] == pytest.approx(0.1) and found.images.iloc[0] == 2
    assert found.run_ids.iloc[0] == "a_f0_a0 b_f0_a0"


def test_pairs_of_one_call_are_corrected_together():
    base = np.linspace(0.4, 0.8, MIN_IMAGES)
    runs = table([("a", 0, "0", base + 0.1), ("b", 0, "0", base), ("c", 0, "0", base - 0.1)])
    pairs = [("d", "a", "b", "iou"), ("d", "a", "c", "iou"), ("d", "a", "c", "iou")]
    found = statistics.compare(runs, pairs)
    assert len(found) == 2 and found.p_holm.to_list() == pytest.approx([4 / 2**MIN_IMAGES] * 2)


def test_nothing_to_compare_is_an_empty_table():
    found = statistics.compare(table([("a", 0, "0", [0.5])]), [("d", "a", "b", "iou")])
    assert found.empty and {"difference", "p_holm", "run_ids"} <= set(found)
