"""The configuration: profiles, refusals, hashes, seeds."""

import dataclasses
import json

import pytest

from s2l_core.config import METHODS, R1, R4, RunConfig, S2LError, ScaleTerm, seed_for
from s2l_core.profiles import PROFILES


def test_factor_follows_from_the_block():
    assert [ScaleTerm(block, 1.0, 0.1).factor for block in (1, 2, 3, 4, 5)] == [16, 8, 4, 2, 1]
    assert (R1.name, R4.name) == ("r1", "r4")


@pytest.mark.parametrize(
    "field", [{"block": 0}, {"block": 6}, {"weight": -1.0}, {"temperature": 0.0}]
)
def test_impossible_scale_is_refused(field):
    ((name, value),) = field.items()
    with pytest.raises(S2LError, match=f"{name}={value}"):
        ScaleTerm(**{"block": 5, "weight": 0.5, "temperature": 0.3} | field)


def test_fields_come_from_caller_then_profile_then_paper():
    scratch = RunConfig("dsb-bf", "s2l", profile="scratch")
    assert scratch.schedule == PROFILES["scratch"].settings["schedule"] == "cosine"
    assert RunConfig("dsb-bf", "s2l", profile="scratch", schedule="constant").schedule == "constant"
    assert RunConfig("dsb-bf", "s2l", profile="paper").schedule == "constant"
    assert scratch.confidence == 0.8


def test_paper_profile_holds_the_papers_values():
    paper = RunConfig("monuseg", "s2l-r1-r4", profile="paper")
    assert paper.scales == (ScaleTerm(5, 0.5, 0.3), ScaleTerm(3, 10.0, 0.1))
    assert (paper.pseudo_weight, paper.max_regions, paper.nu_low, paper.nu_high) == (
        0.5,
        6000,
        0.0,
        1.0,
    )
    assert (paper.encoder, paper.encoder_weights, paper.batch, paper.crop) == (
        "resnet34",
        "imagenet",
        30,
        256,
    )


def test_paper_code_profile_differs_where_the_released_code_does():
    code = RunConfig("monuseg", "s2l", profile="paper-code")
    assert (code.confidence, code.averaging, code.pair_reduction, code.equalise) == (
        0.95,
        0.1,
        "balanced",
        True,
    )
    assert RunConfig("dsb-bf", "s2l", profile="paper-code").confidence == 0.8


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("profile", "scratchx", "'scratch'"),
        ("profile", "pre", "'pretrained'"),
        ("method", "s2l-r2", "s2l-r1, s2l-r4"),
        ("schedule", "linear", "constant, cosine"),
        ("confidence", 1.5, "0.5 to 1.0"),
        ("confidence", True, "0.5 to 1.0"),
        ("crop", 100, "32"),
        ("fold", 4, "0 to 3"),
        ("annotator", "bob", "skeleton"),
        ("pair_target", "xor", "same, and, or"),
    ],
)
def test_wrong_values_are_named_with_right_ones(field, value, right):
    with pytest.raises(S2LError, match=f"{field} = {value!r}.*{right}"):
        RunConfig(**{"dataset": "dsb-bf", "method": "s2l"} | {field: value})


def test_unknown_field_suggests_the_nearest():
    with pytest.raises(S2LError, match="max_regions"):
        RunConfig.from_dict({"dataset": "dsb-bf", "method": "s2l", "max_region": 3})
    with pytest.raises(TypeError):
        RunConfig("dsb-bf", "s2l", max_region=3)


@pytest.mark.parametrize("method", METHODS)
def test_dict_round_trip(method):
    config = RunConfig("synthetic-he", method, profile="smoke", fold=2)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_warmup_is_the_same_for_whatever_acts_only_later():
    first = RunConfig("dsb-bf", "s2l", profile="scratch")
    other = RunConfig(
        "dsb-bf", "s2l-r1-r4", profile="scratch", pair_target="or", confidence=0.9, max_regions=77
    )
    assert first.warmup() == other.warmup()
    changed = {
        "seed": 1,
        "averaging": 0.5,
        "crop": 96,
        "budget": 0.1,
        "rate_encoder": 1e-4,
        "main_steps": 9,
    }
    for name, value in changed.items():
        assert dataclasses.replace(first, **{name: value}).warmup() != first.warmup(), name


def test_seeds_depend_on_every_part_and_nothing_else():
    assert seed_for(0, "crop", 3) == seed_for(0, "crop", 3)
    assert (
        len(
            {
                seed_for(0, "crop", 3),
                seed_for(1, "crop", 3),
                seed_for(0, "order", 3),
                seed_for(0, "crop", 4),
            }
        )
        == 4
    )
    assert 0 <= seed_for("x") < 2**63
