"""What a run is said to take before it starts, against what the committed runs took."""

import dataclasses
import json
import statistics

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from s2l_core.config import METHODS, RunConfig
from s2l_core.profiles import PROFILES
from s2l_paper.running import costs
from s2l_paper.running.costs import COSTS, START, announce, estimate_seconds
from s2l_paper.running.planning import plan


def test_estimates_agree_with_the_committed_runs():
    """Other work and pauses only lengthen a run:
    of its repetitions the quickest is what the estimate is of.
    """
    quickest, every = {}, []

    def compare(estimate, seconds, *kind):
        every.append((estimate - START) / seconds)
        quickest[kind] = max(quickest.get(kind, 0), every[-1])

    for file in sorted((ROOT / "results" / "scratch" / "runs").glob("*/env.json")):
        took = json.loads(file.read_text())
        config = RunConfig.from_dict(
            json.loads((file.parent / "config.json").read_text())["config"]
        )
        if METHODS[config.method].baseline or "warmup_seconds" not in took:
            continue
        compare(
            estimate_seconds(config),
            took["seconds"],
            config.dataset,
            config.method,
            config.main_steps,
        )
        if took["warmup_seconds"]:
            compare(
                estimate_seconds(config, warmup=True),
                took["warmup_seconds"],
                config.dataset,
                config.warmup_steps,
            )
    assert len(quickest) > 20
    assert max(every) < 3 / 2
    assert 0.75 < statistics.median(quickest.values()) < 1.25
    assert np.mean([ratio > 2 / 3 for ratio in quickest.values()]) > 0.8, quickest


def test_each_kind_of_work_counts_as_often_as_it_is_done():
    """Costs of one kind at a time: the estimate is how much of it there is."""
    nothing = dict.fromkeys((field.name for field in dataclasses.fields(COSTS["cpu"])), 0.0)

    def amount(method, kind, **options):
        # 24 training, 8 validation and 8 test images of 192 x 192; crops of 96 x 96, 4 in a step
        config = RunConfig(
            "synthetic-bf", method, images=40, warmup_steps=40, main_steps=50, max_regions=1500
        )
        return estimate_seconds(config, cost=costs.Cost(**nothing | {kind: 1.0}), **options) - START

    size, crops, image = costs.SIZES["efficientnet-lite0"], 4 * (96 / 256) ** 2, (192 / 256) ** 2
    assert amount("s2l", "step") == pytest.approx(size * 50)
    assert amount("s2l", "step", warmup=True) == pytest.approx(size * 40)
    assert amount("supervised", "step") == pytest.approx(size * 90)
    assert amount("scribble-only", "train") == pytest.approx(size * 50 * crops)
    assert amount("s2l", "forward") == pytest.approx(size * image * (3 * 24 + 4 * 8 + 2 * 8))
    assert amount("scribble-only", "forward") == pytest.approx(size * image * (4 * 8 + 2 * 8))
    assert amount("s2l", "forward", warmup=True) == pytest.approx(size * image * 2 * 24)
    assert amount("s2l", "pair") == amount("s2l", "head") == 0
    assert amount("s2l-r1", "head") == pytest.approx(50 * crops)
    assert amount("s2l-r1", "pair") == 50 * 3000**2  # max_regions of each class
    assert amount("s2l-r4", "pair") == pytest.approx(
        50 * (4 * 24 * 24) ** 2
    )  # fewer regions than that
    assert amount("s2l", "crop") == pytest.approx(
        50 * crops
    )  # where cutting takes longer than the step


def test_a_run_has_the_warm_up_that_it_does_not_share():
    for method in METHODS:
        shared = estimate_seconds(RunConfig("dsb-bf", method, profile="scratch"), warmup=True)
        assert (shared > START) == METHODS[method].forks


def test_the_images_of_a_folder_are_measured(tmp_path):
    for part, label in {"images": 200, "masks": 255}.items():
        (tmp_path / part).mkdir()
        picture = np.zeros((128, 256), np.uint8)
        picture[20:60, 20:60] = label
        for name in ("a.png", "b.png"):
            Image.fromarray(picture).save(tmp_path / part / name)
    fields = {"profile": "scratch", "warmup_steps": 10, "main_steps": 0}
    config = RunConfig(str(tmp_path), "supervised", **fields)
    batch = 2 * (160 / 256) ** 2  # no more crops than images
    expected = 10 * (COSTS["cpu"].step + batch * COSTS["cpu"].train)
    assert estimate_seconds(config) - START == pytest.approx(expected)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_batch_can_be_announced(profile):
    batch = plan(profile)
    line = announce(batch, [run for run in batch if run.method == "s2l"], 2)
    assert line.startswith(f"{len(batch)} runs, about ") and " on 2 cores" in line
    assert ("on one GPU (estimated, not measured)" in line) == profile.startswith("paper")
    assert announce(batch[:1], [], 1).endswith("on 1 core") or profile.startswith("paper")
