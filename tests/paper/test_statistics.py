"""Tests and intervals against enumeration, known results and simulated data with known effects."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import script
from s2l_core.config import RunConfig, S2LError
from s2l_core.profiles import REAL
from s2l_paper import paths
from s2l_paper.comparing import comparisons, missing, statistics, training_noise
from s2l_paper.comparing.missing import MIN_REPETITIONS
from s2l_paper.comparing.statistics import ALPHA, MIN_GROUPS, SMALLEST_EFFECT, Sample
from s2l_paper.data.datasets import load_dataset, splits
from s2l_paper.running import costs

FIVE = ("s2l", "s2l-r1", "s2l-r4", "s2l-r1-r4", "supervised")


def sample(values, error=0.0, df=20):
    """A Sample of groups of one image each."""
    values = np.asarray(values, float)
    return Sample(values / len(values), np.full(len(values), 1 / len(values)), error, df)


def table(cells, dataset="d", **fields):
    """Runs table from (method, rotation, seed, scores of the images)."""
    rows = []
    for method, rotation, seed, scores in cells:
        run = {"dataset": dataset, "method": method, "rotation": rotation, "fold": 0, "seed": seed}
        run |= {"annotator": "0", "run_id": f"{method}_r{rotation}_s{seed}"} | fields
        rows += [
            run | {"image": f"r{rotation}i{number}", "iou": score}
            for number, score in enumerate(scores)
        ]
    return pd.DataFrame(rows)


def simulated(rng, effect=0.0, *, images=12, seeds=3, group_sd=0.02, noise=0.01, methods=FIVE):
    """Runs of methods that differ by nothing, but for `s2l-r1-r4`, which is `effect` above.

    How much a method gives differs from image to image by `group_sd`, and from training to training
    by `noise`, in all images alike.
    """
    base = 0.7 + 0.1 * rng.standard_normal(images)
    cells = []
    for method in methods:
        own = effect * (method == "s2l-r1-r4") + group_sd / math.sqrt(2) * rng.standard_normal(
            images
        )
        for seed in range(seeds):
            cells.append((method, 0, seed, base + own + noise * rng.standard_normal()))
    return table(cells)


# --- run noise


def test_run_noise_is_the_residual_of_method_and_repetition():
    means = np.array([[0.5, 0.6, 0.71], [0.52, 0.6, 0.7], [0.4, 0.53, 0.6], [0.5, 0.58, 0.7]])
    cells = [
        (method, 0, seed, [means[seed, column]] * 3)
        for column, method in enumerate(("s2l", "s2l-r1", "supervised"))
        for seed in range(4)
    ]
    residuals = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
    noise = training_noise.run_noise(table(cells), "iou")
    assert noise.df == 6
    assert noise.sd == pytest.approx(math.sqrt((residuals**2).sum() / 6))

    baseline = table([("otsu", 0, seed, [0.1 * seed] * 3) for seed in range(4)])
    assert training_noise.run_noise(pd.concat([table(cells), baseline]), "iou") == noise


def test_run_noise_of_an_incomplete_table_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4, 3))
    cells = [
        (method, 0, seed, [means[seed, column]])
        for column, method in enumerate(("s2l", "s2l-r1", "s2l-r4"))
        for seed in range(4)
        if (seed, column) not in ((0, 0), (3, 2))
    ]
    assert training_noise.run_noise(table(cells), "iou").df == 10 - (4 + 3 - 1)


@pytest.mark.parametrize("paired", [True, False])
def test_run_noise_is_found_again(paired):
    """In simulated runs, whose repetitions move all methods alike as well."""
    rng = np.random.default_rng(1)
    variances = []
    for _ in range(60):
        shared = 0.02 * rng.standard_normal(4)
        cells = [
            (method, 0, seed, [0.7 + shared[seed] + 0.01 * rng.standard_normal()])
            for method in FIVE
            for seed in range(4)
        ]
        variances.append(training_noise.run_noise(table(cells), "iou", paired=paired).sd ** 2)
    expected = 0.01**2 if paired else 0.01**2 + 0.02**2
    assert np.mean(variances) == pytest.approx(expected, rel=0.25)


def test_a_first_repeated_pair_does_not_make_the_noise_anew():
    """Two more runs on one rotation's images: five rotations still say more than one difference."""
    rng = np.random.default_rng(2)
    cells = [
        (method, rotation, 0, [0.7 + 0.01 * rng.standard_normal()])
        for rotation, method in itertools.product(range(5), FIVE)
    ]
    before = training_noise.run_noise(table(cells), "iou")
    begun = [*cells, ("s2l", 0, 1, [0.7]), ("s2l-r1", 0, 1, [0.71])]
    assert before.df == 16 and training_noise.run_noise(table(begun), "iou").df > before.df


def test_test_images_that_differ_are_no_run_noise():
    """Other images favour other methods; within a rotation all runs have the same ones."""
    rng = np.random.default_rng(2)
    cells = []
    for rotation, method in itertools.product(range(5), FIVE):
        own = 0.1 * rng.standard_normal()
        for seed in range(2):
            cells.append((method, rotation, seed, [0.7 + own + 0.001 * rng.standard_normal()]))
    noise = training_noise.run_noise(table(cells), "iou")
    assert noise.df == 5 * 4 and noise.sd < 0.002
    once = table([cell for cell in cells if cell[2] == 0])
    assert training_noise.run_noise(once, "iou").sd > 0.05  # for want of repetitions


def test_one_training_says_nothing_about_noise():
    noise = training_noise.run_noise(table([("s2l", 0, 0, [0.5]), ("s2l-r1", 0, 0, [0.6])]), "iou")
    assert math.isnan(noise.sd) and noise.df == 0


# --- exchanging signs


@pytest.mark.parametrize("seed", range(4))
def test_without_run_noise_p_is_that_of_all_exchanges_of_signs(seed):
    values = np.random.default_rng(seed).normal(0.3 * seed, 1, MIN_GROUPS)
    signs = np.array(list(itertools.product((-1, 1), repeat=MIN_GROUPS)))
    means = (signs * values).mean(axis=1)
    above = (means >= values.mean() - 1e-12).mean()
    below = (means <= values.mean() + 1e-12).mean()
    p, error = statistics.p_value(sample(values))
    assert error == 0
    assert p == pytest.approx(min(1, 2 * min(above, below)))
    assert statistics.p_value(sample(values), side="above")[0] == pytest.approx(above)
    assert statistics.p_value(sample(values), side="below")[0] == pytest.approx(below)


def test_with_run_noise_alone_p_is_that_of_student():
    p, _ = statistics.p_value(sample([0.03] * 12, error=0.01, df=7))
    expected = 2 * stats.t.sf(3, 7)
    assert p == pytest.approx(expected, rel=1e-6)


def test_many_groups_are_drawn_and_the_error_of_p_is_said():
    values = np.random.default_rng(0).normal(0.15, 1, 60)
    assert len(values) > statistics.EXACT_GROUPS
    p, error = statistics.p_value(sample(values))
    assert 0 < error <= 2 * 0.5 / math.sqrt(statistics.DRAWS / 2)
    assert (p, error) == statistics.p_value(sample(values))
    student = 2 * stats.t.sf(abs(values.mean()) / (values.std(ddof=1) / math.sqrt(60)), 59)
    assert p == pytest.approx(student, abs=0.02)
    least = statistics.p_value(sample(values + 9))[0]
    assert least == pytest.approx(2 / (statistics.DRAWS + 1))


def test_as_many_ways_as_there_are_are_made():
    signs, exact = statistics._signs(MIN_GROUPS)
    assert exact and len(np.unique(signs, axis=0)) == len(signs) == 2**MIN_GROUPS
    assert len(statistics._signs(18)[0]) * 2 >= 10**5


def test_too_few_groups_or_trainings_get_no_test():
    for few in (sample([0.1] * (MIN_GROUPS - 1)), sample([0.1] * 20, error=0.01, df=0)):
        assert np.isnan(statistics.p_value(few)).all()
        assert np.isnan(statistics.interval(few)).all()
        assert np.isnan(statistics.equivalence(few)).all()


def test_the_least_number_of_groups_survives_the_largest_family():
    tests = 4 * 2  # methods beside S2L, scores
    assert tests * 2 / 2**MIN_GROUPS < ALPHA and 6 * 2 * 2 / 2**MIN_GROUPS < ALPHA


# --- size and power


SITUATIONS = {
    "images and trainings": {"group_sd": 0.03, "noise": 0.017, "df": 75},
    "images alone": {"group_sd": 0.03, "noise": 0.0, "df": 20},
    "trainings above all, few": {"group_sd": 0.01, "noise": 0.013, "df": 5},
    "two trainings of each method": {"group_sd": 0.005, "noise": 0.01, "df": 1},
    "heavy tails": {"group_sd": 0.03, "noise": 0.013, "df": 20, "draw": "t"},
    "one group of four": {"group_sd": 0.03, "noise": 0.02, "df": 20, "sizes": (4,)},
}


def p_values(effect=0.0, *, group_sd, noise, df, draw="normal", sizes=(), count=1000, null=None):
    """p of simulated differences; the noise is estimated, as it is from runs."""
    rng = np.random.default_rng(3)
    shares = np.array([*sizes, *[1] * (13 - len(sizes))], float)
    shares /= shares.sum()
    found = []
    for _ in range(count):
        groups = rng.normal(size=13) if draw == "normal" else rng.standard_t(3, 13) / math.sqrt(3)
        values = effect + group_sd * groups + noise * rng.standard_normal()
        error = noise * math.sqrt(rng.chisquare(df) / df)
        one = Sample(values * shares, shares, error, df)
        test = statistics.p_value if null is None else statistics.equivalence
        found.append(test(one)[0])
    return np.array(found)


def at_most(share, count=1000):
    """A share with twice its error in a simulation of so many."""
    return share + 2 * math.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize("name", SITUATIONS)
def test_chance_is_called_a_difference_in_five_of_a_hundred_cases(name):
    p = p_values(**SITUATIONS[name])
    assert (p < ALPHA).mean() <= at_most(ALPHA)
    assert (p < 0.005).mean() <= at_most(0.005)
    assert (p < ALPHA).mean() > 0.02  # nor is the test too careful to find anything


@pytest.mark.parametrize(("group_sd", "noise"), [(0.02, 0.01), (0.02, 0.0), (0.005, 0.02)])
def test_out_of_fold_chance_is_called_a_difference_as_seldom(group_sd, noise):
    """Each of five parts has trainings of its own, whose noise its three images share."""
    rng, false = np.random.default_rng(6), 0
    for _ in range(600):
        of_trainings = noise * math.sqrt(2 / 4) * rng.standard_normal(5)  # four of each method
        values = group_sd * rng.standard_normal(15) + np.repeat(of_trainings, 3)
        estimated = noise * math.sqrt(2) * math.sqrt(rng.chisquare(60) / 60)
        one = sample(values, estimated * math.sqrt(5 * 0.2**2 / 4), 60)
        false += statistics.p_value(one)[0] < ALPHA
    assert 0.01 < false / 600 <= at_most(ALPHA, 600)


def test_an_effect_of_the_papers_size_is_found_and_none_is_shown():
    """.026 IoU on 13 groups, with four trainings of each method at a noise of .01."""
    few = {"group_sd": 0.02, "noise": 0.01 * math.sqrt(2 / 4), "df": 60, "count": 300}
    assert (p_values(0.026, **few) < ALPHA).mean() > 0.7
    quiet = {"group_sd": 0.006, "noise": 0.003, "df": 60, "count": 300}
    assert (p_values(0.0, null=0, **quiet) < ALPHA).mean() > 0.7


def test_a_difference_of_the_margin_is_seldom_called_none():
    quiet = {"group_sd": 0.012, "noise": 0.006, "df": 60}
    assert (p_values(SMALLEST_EFFECT, null=0, **quiet) < ALPHA).mean() <= at_most(ALPHA)


def test_whole_comparisons_of_simulated_runs_keep_their_size():
    """From runs to corrected p: noise estimated from them, four tests of a family together."""
    rng = np.random.default_rng(4)
    pairs = [("d", method, "s2l", "iou") for method in FIVE[1:]]
    false, found = 0, 0
    for _ in range(40):
        tests = comparisons.compare(simulated(rng, methods=FIVE), pairs, "all")
        false += (tests.p_holm < ALPHA).any()
        tests = comparisons.compare(simulated(rng, effect=0.05, methods=FIVE), pairs, "all")
        found += tests.p_holm["d", "s2l-r1-r4", "s2l", "iou"] < ALPHA
    assert false / 40 <= at_most(ALPHA, 40)
    assert found / 40 > 0.8


def test_exchanging_signs_alone_would_take_run_noise_for_an_effect():
    """What is guarded against: images of one training agree about what that training is like."""
    rng, false = np.random.default_rng(5), 0
    for _ in range(200):
        values = 0.01 * rng.standard_normal(13) + 0.01 * rng.standard_normal()
        false += statistics.p_value(sample(values))[0] < ALPHA
    assert false / 200 > 0.4


@pytest.mark.parametrize("name", ["images and trainings", "trainings above all, few"])
def test_intervals_hold_the_truth_as_often_as_they_say(name):
    rng, settings, held = np.random.default_rng(0), SITUATIONS[name], 0
    for number in range(400):
        values = settings["group_sd"] * rng.standard_normal(13)
        values += settings["noise"] * rng.standard_normal()
        df = settings["df"]
        error = settings["noise"] * math.sqrt(rng.chisquare(df) / df)
        low, high = statistics.interval(sample(values, error, df), number)
        held += low <= 0 <= high
    assert 0.93 <= held / 400 <= 0.98


def test_an_interval_hardly_depends_on_its_draws():
    """With one degree of freedom an error drawn at random may be of any size."""
    one = sample(np.random.default_rng(0).normal(size=14), 0.3, 1)
    ends = np.array([statistics.interval(one, number) for number in range(5)])
    assert np.ptp(ends, axis=0).max() < 0.02 * (ends[0, 1] - ends[0, 0])
    alone = sample(np.zeros(14), 0.3, 1)
    assert statistics.interval(alone)[1] == pytest.approx(0.3 * stats.t.isf(0.025, 1), rel=1e-3)


@pytest.mark.parametrize(
    ("group_sd", "noise", "df", "tests"), [(0.02, 0.01, 60, 1), (0.01, 0.02, 5, 8)]
)
def test_the_difference_that_could_be_detected_is_detected(group_sd, noise, df, tests):
    groups, trainings = group_sd**2 / 13, noise**2
    both_df = (groups + trainings) ** 2 / (groups**2 / 12 + trainings**2 / df)
    seen = statistics.detectable(math.sqrt(groups + trainings), both_df, tests)
    p = p_values(seen, group_sd=group_sd, noise=noise, df=df, count=400)
    assert (p < ALPHA / tests).mean() == pytest.approx(statistics.POWER, abs=0.06)


@pytest.mark.parametrize("df", [1, 2, 20, math.inf])
def test_a_detectable_difference_is_a_number_for_any_degrees_of_freedom(df):
    assert 2 < statistics.detectable(1.0, df, 1) < statistics.detectable(1.0, df, 20) < 10**4
    assert statistics.detectable(0.0, df) == 0 and math.isnan(statistics.detectable(math.nan, df))


# --- comparisons


def test_holm_on_a_textbook_example():
    p = pd.Series([0.01, np.nan, 0.04, 0.03, 0.005, 0.9], index=list("abcdef"))
    expected = {"a": 0.04, "b": np.nan, "c": 0.09, "d": 0.09, "e": 0.025, "f": 0.9}
    assert statistics.holm(p).to_dict() == pytest.approx(expected, nan_ok=True)


def test_images_are_averaged_over_the_repetitions_that_tested_them():
    """Out of fold: each rotation tests images of its own, and one of them more often."""
    cells = [("s2l", 0, 0, [0.5, 0.6]), ("s2l-r1", 0, 0, [0.6, 0.9])]
    cells += [("s2l", 1, seed, [0.5]) for seed in (0, 1)]
    cells += [("s2l-r1", 1, 0, [0.4]), ("s2l-r1", 1, 1, [0.6])]
    found = comparisons.contrast(table(cells), {"s2l-r1": 1.0, "s2l": -1.0}, "iou")
    assert found["difference"] == pytest.approx((0.1 + 0.3 + 0.0) / 3)
    assert (found["images"], found["repetitions"]) == (3, 3)
    assert (found["above"], found["below"]) == (2, 1)
    assert len(found["run_ids"].split()) == 6


def test_only_common_repetitions_and_images_are_compared():
    cells = [("s2l-r1", 0, 0, [0.5, 0.6, 0.7]), ("s2l-r1", 0, 1, [0.9] * 3)]
    runs = table([*cells, ("s2l", 0, 0, [0.4, 0.5, np.nan])])
    pairs = [("d", "s2l-r1", "s2l", "iou"), ("d", "s2l-r1", "s2l-r4", "iou")]
    found = comparisons.compare(runs, [*pairs, ("e", "s2l-r1", "s2l", "iou")], "all")
    assert list(found.index) == pairs[:1]
    assert found.difference.iloc[0] == pytest.approx(0.1) and found.images.iloc[0] == 2
    assert found.run_ids.iloc[0] == "s2l-r1_r0_s0 s2l_r0_s0"


def test_more_trainings_make_the_error_smaller():
    runs = simulated(np.random.default_rng(0), group_sd=0.001, seeds=8)
    weights = {"s2l-r1": 1.0, "s2l": -1.0}
    two = comparisons.contrast(runs[runs.seed < 2], weights, "iou", training_noise.Noise(0.01, 9))
    eight = comparisons.contrast(runs, weights, "iou", training_noise.Noise(0.01, 9))
    assert eight["error"] == pytest.approx(two["error"] / 2, rel=0.1)


def test_each_data_set_has_a_family_of_its_own():
    rng = np.random.default_rng(0)
    one = simulated(rng)
    runs = pd.concat([one, one.assign(dataset="e")])
    pairs = [(name, method, "s2l", "iou") for name in "de" for method in FIVE[1:]]
    found = comparisons.compare(runs, [*pairs, *pairs[:1]], "named")
    assert set(found.tests) == {4} and set(found.family) == {"named"}
    for name in "de":
        part = found.loc[name]
        assert part.p_holm.tolist() == statistics.holm(part.p).tolist()
        assert (part.p_holm >= part.p).all() and (part.detectable > 0).all()


def test_a_drawn_p_counts_with_twice_its_error():
    p = {"p": [0.02, 0.02], "p_error": [0.0, 0.01], "p_equal": np.nan, "p_equal_error": np.nan}
    index = pd.MultiIndex.from_tuples([("d", "exact"), ("e", "drawn")], names=["dataset", "other"])
    found = comparisons.corrected(pd.DataFrame(p | {"error": 0.01, "df": 9.0}, index), "all")
    assert found.p_holm.tolist() == pytest.approx([0.02, 0.04])


def test_nothing_to_compare_is_an_empty_table():
    runs = table([("s2l-r1", 0, 0, [0.5])])
    found = comparisons.compare(runs, [("d", "s2l-r1", "s2l", "iou")], "all")
    assert found.empty and {"difference", "p_holm", "run_ids"} <= set(found)


def test_the_factorial_tells_effects_from_their_interaction():
    gives = {"s2l": 0.0, "s2l-r1": 0.02, "s2l-r4": -0.01, "s2l-r1-r4": 0.05}
    base = np.linspace(0.4, 0.8, 12)
    cells = [(name, 0, seed, base + gain) for name, gain in gives.items() for seed in (0, 1)]
    found = comparisons.factorial(table(cells), ["iou"]).difference["d"]
    assert found["R1x1", "iou"] == pytest.approx((0.02 + 0.06) / 2)
    assert found["R4x4", "iou"] == pytest.approx((-0.01 + 0.03) / 2)
    assert found["R1x1 and R4x4 together", "iou"] == pytest.approx(0.05 - 0.02 + 0.01)


def test_a_main_effect_has_half_the_variance_of_a_difference():
    runs = simulated(np.random.default_rng(0), group_sd=0.0, noise=0.01)
    effect = comparisons.factorial(runs, ["iou"]).noise["d", "R1x1", "iou"]
    pair = comparisons.contrast(runs, {"s2l-r1": 1, "s2l": -1}, "iou")["noise"]
    assert effect == pytest.approx(pair / math.sqrt(2))


def test_recipes_are_never_pooled():
    runs = table([("s2l", 0, 0, [0.5])], variant="")
    other = table([("s2l-r1", 0, 0, [0.6])], variant="max_regions=500")
    with pytest.raises(S2LError, match="d: .* 2 .*max_regions=500"):
        comparisons.compare(pd.concat([runs, other]), [("d", "s2l-r1", "s2l", "iou")], "all")
    with pytest.raises(S2LError, match="s2l_r0_s0, image r0i0: "):
        comparisons.compare(pd.concat([runs, runs]), [("d", "s2l", "s2l-r1", "iou")], "all")


# --- means


def test_mean_interval_and_spread():
    rng = np.random.default_rng(0)
    runs = simulated(rng, images=40, seeds=4)
    own = runs[runs.method == "s2l"]
    mean, low, high = comparisons.mean_interval(own, "iou")
    assert low < mean < high and mean == pytest.approx(own.iou.mean())
    means = own.groupby("seed").iou.mean()
    assert training_noise.spread(own, "iou") == pytest.approx(means.std())
    assert math.isnan(training_noise.spread(own[own.seed == 0], "iou"))


# --- what is missing


def finished(cells):
    """Runs on MoNuSeg, whose one test part has groups enough."""
    return table(cells, dataset="monuseg")


def test_a_test_that_lacks_trainings_says_which_and_how_long():
    runs = finished([("s2l", 0, 0, [0.5]), ("s2l", 0, 1, [0.5]), ("s2l-r1", 0, 0, [0.6])])
    lacking = missing.missing_runs(runs, "scratch", "monuseg", ["s2l", "s2l-r1", "s2l-r4"])
    assert [(run.method, run.seed) for run in lacking] == [
        ("s2l-r1", 1),
        ("s2l-r4", 0),
        ("s2l-r4", 1),
    ]
    seconds = sum(costs.estimate_seconds(run) for run in lacking)
    seconds += 2 * costs.estimate_seconds(lacking[0], warmup=True)  # of each of two seeds, once
    minutes = round(seconds / 60)
    text = missing.shortage(lacking)
    assert text.startswith(f"3 runs, about {minutes} minutes on one core: s2l-r1 fold 0, seed 1")
    assert missing.missing_runs(runs[runs.method == "s2l"], "scratch", "monuseg", ["s2l"]) == []
    assert missing.shortage([]) == ""


def test_one_training_of_a_rotation_asks_for_another_seed():
    runs = table([("s2l", 0, 0, [0.5]), ("s2l", 3, 0, [0.5]), ("s2l", 3, 1, [0.5])], "dsb-fluo")
    (lacking,) = missing.missing_runs(runs, "scratch", "dsb-fluo", ["s2l"])
    assert (lacking.rotation, lacking.seed) == (0, 1)
    assert len(missing.missing_runs(runs[:0], "scratch", "dsb-fluo", ["s2l"])) == MIN_REPETITIONS


def test_a_test_part_of_few_images_asks_for_other_parts():
    """Three images of DSB-BF are tested at once: no more parts are asked for than are needed."""
    two = [("s2l", 0, seed, [0.5] * 3) for seed in (0, 1)]
    runs = table(two, dataset="dsb-bf")
    lacking = missing.missing_runs(runs, "scratch", "dsb-bf", ["s2l"])
    parts = [(run.rotation, run.seed) for run in lacking]
    assert parts == [(part, seed) for part in range(1, 5) for seed in (0, 1)][: len(parts)]
    tested = {0, *(run.rotation for run in lacking)}
    numbers = statistics.groups_of("dsb-bf")
    groups = [
        {numbers[image] for part in some for image in splits("dsb-bf", 0, rotation=part).test}
        for some in (tested, tested - {max(tested)})
    ]
    assert len(groups[0]) >= MIN_GROUPS > len(groups[1])
    assert "rotation 1" in missing.shortage(lacking)


# --- groups


@pytest.mark.parametrize("name", REAL)
def test_committed_groups_hold_each_image_once(name):
    content = json.loads(paths.group_file(name).read_text())
    split = splits(name, 0)
    images = sorted(split.train + split.validation + split.test)
    for level in [key for key in ("groups", "kinds") if key in content]:
        assert sorted(sum(content[level], [])) == images
        assert len(set(statistics.groups_of(name, level).values())) == len(content[level])
    assert len(content["groups"]) < len(images) == len(statistics.groups_of(name))


def test_kinds_are_made_of_whole_groups():
    groups = statistics.groups_of("dsb-fluo")
    kinds = statistics.groups_of("dsb-fluo", "kinds")
    pairs = {(groups[image], kinds[image]) for image in groups}
    assert len(pairs) == len(set(groups.values()))


def test_images_of_a_group_count_as_one(monkeypatch):
    runs = simulated(np.random.default_rng(0), images=24)
    weights = {"s2l-r1": 1.0, "s2l": -1.0}
    apart = comparisons.contrast(runs, weights, "iou")
    together = {f"r0i{number}": number // 2 for number in range(24)}
    monkeypatch.setattr(comparisons, "groups_of", lambda name, level="groups": together)
    joined = comparisons.contrast(runs, weights, "iou")
    assert (apart["groups"], joined["groups"]) == (24, 12)
    assert joined["difference"] == pytest.approx(apart["difference"])
    assert (joined["kinds"], apart["kinds"]) == (12, 1)


def test_fields_of_one_image_are_found_again():
    """Cut from one picture they touch; another picture of the same kind does not."""
    made = script("data/make_groups.py")
    rng = np.random.default_rng(0)
    whole, other = (np.cumsum(rng.normal(0, 4, (64, 128)), axis=1).cumsum(axis=0) for _ in range(2))
    left, right = whole[:, :64], whole[:, 64:]
    assert made.touch(left, right, ("right", "left"), "dsb-fluo")
    assert not made.touch(right, left, ("right", "left"), "dsb-fluo")
    assert not made.touch(left, other[:, :64], ("right", "left"), "dsb-fluo")
    assert made.touch(left, np.roll(right, 9, axis=0), ("right", "left"), "dsb-bf")
    assert made.joined("abcd", [("c", "a")]) == [["a", "c"], ["b"], ["d"]]


@pytest.mark.real
@pytest.mark.parametrize("name", ["dsb-bf", "monuseg"])
def test_groups_are_made_anew(name):
    made = script("data/make_groups.py").make(name, load_dataset(name))
    assert made == json.loads(paths.group_file(name).read_text())


def test_a_damaged_file_of_groups_is_named(tmp_path, monkeypatch):
    file = tmp_path / "dsb-bf.json"
    file.write_text("{")
    monkeypatch.setattr(paths, "group_file", lambda _: file)
    statistics.groups_of.cache_clear()
    with pytest.raises(S2LError, match=f"{file} "):
        statistics.groups_of("dsb-bf")
    statistics.groups_of.cache_clear()


def test_missing_runs_are_runs_of_the_profile():
    elsewhere = table([("s2l", 0, 0, [0.5])])
    first, *_ = missing.missing_runs(elsewhere, "scratch", "dsb-bf", ["s2l"])
    assert first == RunConfig("dsb-bf", "s2l", profile="scratch")
