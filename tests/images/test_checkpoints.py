"""Checkpoints that this version cannot go on from are refused with a sentence, never half-read."""

from types import SimpleNamespace

import pytest
import torch

from s2l_core.config import RunConfig, S2LError
from s2l_images import checkpoints

CONFIG = RunConfig("synthetic-fluo", "s2l", profile="smoke")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"pair_goal": "same"},
            "configuration field = 'pair_goal' is not known",
        ),
        ({"profile": "scratch-old"}, "profile = 'scratch-old'"),
        ({"fold": 1}, "fold .1 there, 0 here"),
        (None, ""),
    ],
)
def test_a_checkpoint_of_another_version_is_refused(tmp_path, config, said):
    loaded = []
    trainer = SimpleNamespace(config=CONFIG, load_state_dict=loaded.append)
    values = None if config is None else CONFIG.to_dict() | config
    checkpoints.write(tmp_path, {"config": values, "step": 3, "model": {"a": torch.zeros(1)}})
    with pytest.raises(S2LError, match=f"{tmp_path}: .*{said}"):
        checkpoints.restore(trainer, tmp_path)
    assert not loaded


def test_a_field_that_was_added_since_has_its_usual_value(tmp_path):
    loaded = []
    trainer = SimpleNamespace(config=CONFIG, step=3, load_state_dict=loaded.append)
    values = CONFIG.to_dict()
    assert values.pop("rotation") == 0
    checkpoints.write(tmp_path, {"config": values, "step": 3})
    checkpoints.restore(trainer, tmp_path)
    assert loaded == [{"step": 3}]
