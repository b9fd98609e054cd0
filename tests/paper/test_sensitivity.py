"""Readings of the paper and budgets of scribbles: what is planned,
and that tables say what the runs say.
"""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from s2l_core.config import RunConfig
from s2l_core.profiles import PROFILES
from s2l_paper.comparing import sensitivity
from s2l_paper.figures import charts
from s2l_paper.running import results
from s2l_paper.running.results import run_id, variant, warmup_id

IMAGES = 12


def finish(config, iou):
    """A finished run whose best weights score `iou` (one number an image)
    and whose last are .02 below.
    """
    rows = [
        {
            "run_id": run_id(config),
            "dataset": config.dataset,
            "method": config.method,
            "fold": config.fold,
            "seed": config.seed,
        }
        | {
            "annotator": config.annotator,
            "budget": config.budget,
            "checkpoint": checkpoint,
            "image": f"i{n:02}",
            "n_nuclei": 9,
        }
        | dict.fromkeys(
            ("iou", "mdice", "mdice_official", "aji", "f1"), value - 0.02 * (checkpoint == "last")
        )
        | {"false_positives": 0, "missed": 0, "merged": 0}
        for checkpoint in ("best", "last")
        for n, value in enumerate(iou)
    ]
    results.write_run(config, rows, [{"step": 1, "loss": 0.5}], {}, seconds=1.0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))


@pytest.fixture
def base():
    return np.linspace(0.4, 0.8, IMAGES)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_reading_changes_one_thing(profile):
    usual, runs = sensitivity.default(profile), sensitivity.readings(profile)
    for label, config in runs.items():
        own, default = config.to_dict(), usual.to_dict()
        changed = {name for name in own if own[name] != default[name]}
        assert changed == set(sensitivity.READINGS.get(label, ())), label
    assert len({run_id(config) for config in runs.values()}) == len(runs)
    drawn_alike = [run for run in runs.values() if run.annotator == usual.annotator]
    assert len({warmup_id(config) for config in drawn_alike}) == 1


def test_readings_that_are_trained_once_take_half_the_steps_and_no_part_in_table_1():
    usual = sensitivity.default("scratch")
    whole = RunConfig(usual.dataset, usual.method, profile="scratch")
    assert usual.total_steps == whole.total_steps // 2
    assert all(map(variant, sensitivity.readings("scratch").values()))
    assert not any("D16" in label for label in sensitivity.readings("scratch"))
    assert sensitivity.repeats(usual) == [usual]


def test_readings_that_are_repeated_share_the_runs_of_table_1():
    """Three seeds, each on other test images: the default and S2L are runs of the profile."""
    usual = sensitivity.default("pretrained")
    assert usual == RunConfig("dsb-bf", "s2l-r1-r4", profile="pretrained")
    runs = sensitivity.repeats(usual)
    assert [(run.seed, run.rotation) for run in runs] == [(0, 0), (1, 1), (2, 2)]
    plan = sensitivity.readings("pretrained")
    assert not variant(plan["no contrast (S2L)"])
    assert sum("D16" in label for label in plan) == 2  # the profile's own way is the default
    assert len(sensitivity.batch("pretrained")) % 3 == 0


def test_the_issue_of_scales_is_asked_as_the_paper_does():
    scales = sensitivity.readings("scratch")["all five blocks"].scales
    assert sorted(scale.block for scale in scales) == [1, 2, 3, 4, 5]


def test_budgets_cover_every_effort_and_share_the_default():
    plan = sensitivity.budgets("scratch")
    assert {method for method, _ in plan} == {*sensitivity.DRAWN, "supervised"}
    assert [budget for method, budget in plan if method == "s2l"] == list(sensitivity.BUDGETS)
    assert plan["s2l-r1-r4", 0.3] == sensitivity.default("scratch")
    assert plan["s2l", 0.3] == sensitivity.readings("scratch")["no contrast (S2L)"]

    # What a method has of its own in a profile it has here too: full masks tell the first bias.
    masks = sensitivity.budgets("pretrained")["supervised", 0.3]
    assert masks == RunConfig("dsb-bf", "supervised", profile="pretrained")


def test_the_table_has_the_differences_of_the_runs(home, base):
    runs = sensitivity.readings("scratch")
    finish(runs[sensitivity.DEFAULT], base)
    finish(runs["D1: target or"], base + 0.05)
    finish(runs["D3: 500 regions"], base)
    for fold, method in itertools.product((0, 1), ("s2l-r1-r4", "s2l")):
        moved = 0.01 * (fold == 0) * (method == "s2l")
        finish(RunConfig("dsb-fluo", method, profile="scratch", fold=fold), base + 0.3 + moved)
    table = sensitivity.reading_table("scratch", results.load_runs("scratch", variants=True))
    table = table[table.score == "IoU"].set_index("reading")
    assert list(table.index) == [
        sensitivity.DEFAULT,
        "D1: target or",
        "D3: 500 regions",
        sensitivity.LAST,
    ]
    assert table.difference.iloc[1:].tolist() == pytest.approx([0.05, 0, -0.02])
    assert np.isnan(table.difference.iloc[0])
    assert table["mean"].iloc[0] == pytest.approx(base.mean(), abs=1e-4)
    assert set(table.images) == {IMAGES} and set(table.repetitions) == {1}

    # One training each has no test; the noise is that of the profile's other runs.
    assert table[["low", "high", "p_holm"]].isna().all(axis=None)
    assert table.noise.tolist() == pytest.approx([0.005 * math.sqrt(2)] * 4, abs=1e-4)


def test_repeated_readings_are_held_against_the_noise_of_all(home, base):
    plan = sensitivity.readings("pretrained")
    rng = np.random.default_rng(0)
    gains = {sensitivity.DEFAULT: 0.0, "D1: target or": 0.1, "D3: 500 regions": 0.0}
    for label, gain in gains.items():
        for number, run in enumerate(sensitivity.repeats(plan[label])):
            finish(run, base + 0.05 * number + gain + 0.005 * rng.standard_normal())
    table = sensitivity.reading_table("pretrained", results.load_runs("pretrained", variants=True))
    table = table[table.score == "IoU"].set_index("reading")
    assert set(table.repetitions) == {3}
    assert table.p_holm["D1: target or"] < 0.01 and table.low["D1: target or"] > 0.05
    assert table.p_holm["D3: 500 regions"] > 0.2
    assert table.low["D3: 500 regions"] < 0 < table.high["D3: 500 regions"]
    assert 0 < table.noise.iloc[0] < 0.02
    assert len(table.run_ids["D1: target or"].split()) == 3


def test_last_weights_are_held_against_their_own_spread(home, base):
    """They are of the same trainings: three noisy readings say nothing of how these two differ."""
    plan, rng = sensitivity.readings("pretrained"), np.random.default_rng(0)
    for label in (sensitivity.DEFAULT, "D1: target or", "D3: 500 regions"):
        for run in sensitivity.repeats(plan[label]):
            finish(run, base + 0.2 * rng.standard_normal())
    runs = results.load_runs("pretrained", variants=True)
    last = runs.checkpoint == "last"
    moved = runs.run_id[last].map({name: 0.001 * k for k, name in enumerate(runs.run_id.unique())})
    runs.loc[last, "iou"] += moved
    table = sensitivity.reading_table("pretrained", runs)
    table = table[table.score == "IoU"].set_index("reading")
    own = table.loc[sensitivity.LAST]
    assert own.low < own.difference < own.high and own.high - own.low < 0.02
    assert table.high["D1: target or"] - table.low["D1: target or"] > 0.2


def test_budget_table_and_pictures(home, base):
    plan = sensitivity.budgets("scratch")
    for (method, budget), config in plan.items():
        finish(config, base + 0.1 * budget + 0.05 * (method == "supervised"))
    runs = results.load_runs("scratch", variants=True)
    curve = sensitivity.budget_table("scratch", runs)
    part = curve[(curve.method == "s2l") & (curve.score == "IoU")]
    assert part["mean"].tolist() == pytest.approx(
        [base.mean() + 0.1 * budget for budget in sensitivity.BUDGETS], abs=1e-4
    )
    assert part[["low", "high"]].isna().all(axis=None)  # each was trained once
    picture = charts.budget_picture(curve)
    labels = {line.get_label() for line in picture.axes[0].lines}
    assert {"S2L", "S2L + R1x1 + R4x4", "Random forest", "Supervised (full masks)"} <= labels
    assert set(picture.run_ids) == set(curve.run_ids)
    effects = charts.reading_picture(sensitivity.reading_table("scratch", runs))
    assert [text.get_text() for text in effects.axes[0].get_yticklabels()] == [
        "no contrast (S2L)",
        sensitivity.LAST,
    ]
    assert set(sensitivity.tables("scratch", runs)) == set(sensitivity.READINGS_FILES)


def test_no_such_run_gives_no_table(home, base):
    finish(RunConfig("dsb-fluo", "s2l-r1-r4", profile="scratch"), base)
    runs = results.load_runs("scratch", variants=True)
    assert sensitivity.tables("scratch", runs) == {} and isinstance(
        sensitivity.reading_table("scratch", runs), pd.DataFrame
    )


def test_a_label_names_its_switch_of_the_configuration():
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert all(set(change) <= fields for change in sensitivity.READINGS.values())
