"""Training in rounds on a folder of one's own: from strokes alone, interrupted, corrected, gone on with."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from s2l_core import paths
from s2l_core.config import S2LError, Stroke
from s2l_core.datasets import load_dataset
from s2l_core.inference import predict
from s2l_core.rounds import UPDATES, load_model, train_round
from s2l_core.scribbles import SimulatedAnnotator, write_strokes

SMALL = {"crop": 64, "max_regions": 200}
STEPS = 2 * UPDATES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_PLAIN", "1")
    monkeypatch.setenv("S2L_HOME", str(tmp_path / "home"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (tmp_path / "cells" / "images").mkdir(parents=True)
    for cell in load_dataset("synthetic-fluo", images=3, image_size=96):
        Image.fromarray(cell.image).save(tmp_path / "cells" / "images" / f"{cell.id}.png")
    yield tmp_path / "cells"
    torch.set_num_threads(threads)


def draw(folder, strokes=None):
    """Simulated strokes on two of the three images, or those given."""
    if strokes is None:
        cells = load_dataset("synthetic-fluo", images=3, image_size=96)[:2]
        strokes = {cell.id: SimulatedAnnotator(0, 0.5).strokes(cell.instances, key=cell.id) for cell in cells}
    paths.own_strokes(folder).parent.mkdir(exist_ok=True)
    write_strokes(paths.own_strokes(folder), strokes, {})


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_a_round_learns_from_strokes_alone_and_shows_it(folder):
    draw(folder)
    seen = []
    model = train_round(folder, steps=STEPS, watch=seen.append, **SMALL)
    assert len(seen) == UPDATES - 1, "the average after the last step would serve nobody"
    assert list(seen[0]) == ["synthetic-fluo-000", "synthetic-fluo-001"]
    assert all(values.shape == (96, 96) for values in seen[0].values())
    assert not np.array_equal(seen[0]["synthetic-fluo-000"], seen[-1]["synthetic-fluo-000"])
    saved, config = load_model(paths.own_results(folder) / "model.safetensors")
    assert torch.equal(weights(saved), weights(model)) and config.method == "s2l-r1-r4"
    image = load_dataset(str(folder))[2].image
    assert np.array_equal(predict(saved, image), predict(model, image))


def test_the_next_round_starts_where_the_last_one_ended(folder):
    draw(folder)
    first = train_round(folder, steps=STEPS, **SMALL)
    file = paths.own_results(folder) / "model.safetensors"
    before = weights(first)
    near = train_round(folder, steps=STEPS, start=file, rate_encoder=0.0, rate_decoder=0.0, weight_decay=0.0, **SMALL)
    kept = [name for name in first.unet.state_dict() if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(first.unet.state_dict()[name], near.unet.state_dict()[name]) for name in kept)
    far = train_round(folder, steps=STEPS, start=file, **SMALL)
    assert not torch.equal(weights(far), before)


def test_a_round_takes_over_the_network_of_the_model_it_starts_from(folder):
    draw(folder)
    train_round(folder, steps=STEPS, intensity="imagenet", **SMALL)
    train_round(folder, steps=STEPS, start=paths.own_results(folder) / "model.safetensors", **SMALL)
    config = load_model(paths.own_results(folder) / "model.safetensors")[1]
    assert config.intensity == "imagenet" and config.encoder == "resnet18"


def test_an_interrupted_round_keeps_what_was_learned(folder, capsys):
    draw(folder)
    model = train_round(folder, steps=STEPS, watch=lambda averaged: os.kill(os.getpid(), signal.SIGINT), **SMALL)
    assert f"of {STEPS}; what was learned is kept" in capsys.readouterr().out
    saved, _ = load_model(paths.own_results(folder) / "model.safetensors")
    assert torch.equal(weights(saved), weights(model))
    again = train_round(folder, steps=STEPS, start=paths.own_results(folder) / "model.safetensors", **SMALL)
    assert np.isfinite(predict(again, load_dataset(str(folder))[0].image)).all()


def test_nothing_drawn_is_said_and_nothing_is_written(folder):
    with pytest.raises(S2LError, match="none of 3 images has scribbles.*Draw strokes of both classes"):
        train_round(folder, steps=STEPS, **SMALL)
    assert not paths.own_results(folder).exists()


@pytest.mark.parametrize(("label", "missing"), [(0, "foreground"), (1, "background")])
def test_one_class_alone_is_named(folder, label, missing):
    draw(folder, {"synthetic-fluo-000": [Stroke(label, 4.0, ((10.0, 10.0), (60.0, 60.0)))]})
    with pytest.raises(S2LError, match=f"no {missing} scribble in any training image.*Draw some"):
        train_round(folder, steps=STEPS, **SMALL)


def test_too_few_steps_are_refused(folder):
    with pytest.raises(S2LError, match=f"steps = 3: a round has {STEPS} at least"):
        train_round(folder, steps=3)


@pytest.mark.parametrize("content", [None, b"", b"no model", (8).to_bytes(8, "little") + b"{}      "])
def test_what_is_no_model_is_refused(tmp_path, content):
    file = tmp_path / "model.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(S2LError, match="no model that was saved here"):
        load_model(file)


def test_a_model_of_another_shape_is_refused(folder):
    from safetensors import safe_open
    from safetensors.torch import save_file

    draw(folder)
    train_round(folder, steps=STEPS, **SMALL)
    file = paths.own_results(folder) / "model.safetensors"
    with safe_open(file, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}
        config = json.loads(stored.metadata()["config"])
    save_file(tensors, file, {"config": json.dumps(config | {"encoder": "resnet34"})})
    with pytest.raises(S2LError, match="no model that was saved here"):
        load_model(file)
