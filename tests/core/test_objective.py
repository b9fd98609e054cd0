"""What is minimised and how fast: any scales,
and that every switch of the configuration reaches a run.
"""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from tiny import trainer as new_trainer

from s2l_core.config import IGNORE, R4, RunConfig, ScaleTerm
from s2l_core.images import intensity_range
from s2l_core.model import ScribbleUNet
from s2l_core.objective import loss_terms, rate_factor, scale_labels

CPU = torch.device("cpu")
MAIN = 5  # a step of the main stage


pytestmark = pytest.mark.usefixtures("one_thread")


def smoke(method="s2l-r1-r4", **fields):
    return RunConfig("synthetic-fluo", method, profile="smoke", **fields)


def crops(seed=0, side=64):
    """A batch of two crops: noise to look at, blocks of both classes and of none,
    a few scribbles.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(3, (2, side // 16, side // 16), generator=generator) / 2  # 0, 0.5 or 1
    averaged = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    scribbles = torch.full((2, side, side), IGNORE, dtype=torch.uint8)
    scribbles[:, 3, 8:40], scribbles[:, 40, 8:40] = 0, 1
    image = torch.rand(2, 3, side, side, generator=generator)
    return {"image": image, "scribbles": scribbles, "mask": scribbles, "averaged": averaged}


def terms_of(config, batch):
    model = ScribbleUNet("resnet18", config.scales).eval()
    return loss_terms(model, batch, config, MAIN)


def test_any_number_of_scales_on_any_blocks():
    every = tuple(ScaleTerm(block, 1.0, 0.1) for block in range(1, 6))
    terms = terms_of(smoke(scales=every), crops())
    assert list(terms) == ["labels", "pseudo", "r16", "r8", "r4", "r2", "r1"]
    assert all(term.isfinite() and term > 0 for term in terms.values())
    assert list(terms_of(smoke("s2l"), crops())) == ["labels", "pseudo"]


@pytest.mark.parametrize(
    "fields", [{}, {"contrast_labels": "scribbles"}, {"region_rule": "unanimous"}]
)
def test_region_labels_from_the_loader_are_those_of_the_step(fields):
    config, batch = smoke(**fields), crops()
    regions = scale_labels(batch, config, MAIN)
    assert [tuple(labels.shape) for labels in regions] == [(2, 64, 64), (2, 16, 16)]
    assert all({0, 1} <= set(labels.unique().tolist()) for labels in regions)
    assert terms_of(config, batch | {"regions": regions}) == terms_of(config, batch)
    assert scale_labels(batch, config, 0) == scale_labels(batch, smoke("s2l"), MAIN) == []


def test_two_scales_on_one_block_both_count():
    soft = ScaleTerm(R4.block, 2.0, 0.5)
    alone = [terms_of(smoke(scales=(scale,)), crops())["r4"] for scale in (R4, soft)]
    both = terms_of(smoke(scales=(R4, soft)), crops())
    assert torch.equal(both["r4"], alone[0] + alone[1]) and list(both) == ["labels", "pseudo", "r4"]


def test_contrast_labels_decide_what_the_terms_learn_from():
    """D5: without pseudo-labels the contrastive terms do not see the averages at all."""
    first, other = crops(0), crops(0) | {"averaged": 1 - crops(0)["averaged"]}
    for kind, sees in (("pseudo", True), ("scribbles", False)):
        before, after = (terms_of(smoke(contrast_labels=kind), batch) for batch in (first, other))
        assert [torch.equal(before[name], after[name]) for name in ("r1", "r4")] == [not sees] * 2
        assert not torch.equal(before["pseudo"], after["pseudo"])


def test_weights_of_the_terms_are_the_configured_ones():
    usual = terms_of(smoke(), crops())
    twice = tuple(dataclasses.replace(scale, weight=2 * scale.weight) for scale in smoke().scales)
    doubled = terms_of(smoke(scales=twice, pseudo_weight=1.0), crops())
    for name in ("pseudo", "r1", "r4"):
        torch.testing.assert_close(doubled[name], 2 * usual[name])
    assert torch.equal(doubled["labels"], usual["labels"])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "warm-restarts"])
def test_the_schedule_sets_the_rates_of_each_step(schedule):
    """D9: every group has its own rate, scaled by the step's factor."""
    run = new_trainer(schedule=schedule, rate_encoder=1e-3, rate_decoder=2e-3, rate_heads=3e-3)
    config = run.config
    run.advance(config.warmup_steps)
    run.fork()
    run.advance(config.warmup_steps + 2)
    factor = rate_factor(config, config.warmup_steps + 1)
    least = 1e-6 if schedule == "warm-restarts" else 0
    expected = [least + (rate - least) * factor for rate in (1e-3, 2e-3, 3e-3)]
    assert [group["lr"] for group in run.optimiser.param_groups] == expected
    assert (factor == 1) == (schedule == "constant")
    assert {group["weight_decay"] for group in run.optimiser.param_groups} == {config.weight_decay}


def test_encoder_weights_and_intensity_reach_the_run(tmp_path):
    """D13, D20."""
    state = ScribbleUNet("resnet18", seed=9).unet.encoder.state_dict()
    save_file(state, tmp_path / "encoder.safetensors")
    run = new_trainer(
        "supervised",
        encoder="resnet18",
        encoder_weights=str(tmp_path / "encoder.safetensors"),
        intensity="imagenet",
    )
    assert torch.equal(run.model.unet.encoder.conv1.weight, state["conv1.weight"])
    usual = new_trainer("supervised", encoder="resnet18")
    assert not torch.equal(usual.model.unet.encoder.conv1.weight, state["conv1.weight"])
    image = run.data.images[0]
    for one, kind in ((run, "imagenet"), (usual, "stretch")):
        assert (
            one.data.limits[image.id] == intensity_range(image.image, kind)
            and one.model.intensity == kind
        )
    assert run.data.limits != usual.data.limits
