"""Training in rounds on a folder of one's own: from strokes alone, interrupted, corrected, gone on with."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from s2l_core.config import S2LError
from s2l_core.inference import predict
from s2l_core.metrics import iou
from s2l_core.trainer import Trainer
from s2l_images import rounds
from s2l_images.places import own_results, own_strokes
from s2l_images.rounds import UPDATES, load_model, train_round
from s2l_images.strokes import Stroke, write_strokes
from s2l_paper.annotators import SimulatedAnnotator
from s2l_paper.datasets import load_dataset

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
        strokes = {
            cell.id: SimulatedAnnotator(0, 0.5).strokes(cell.instances, key=cell.id)
            for cell in cells
        }
    own_strokes(folder).parent.mkdir(exist_ok=True)
    write_strokes(own_strokes(folder), strokes, {})


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_a_round_learns_from_strokes_alone_and_shows_it(folder):
    draw(folder)
    seen, image = [], load_dataset(str(folder))[2].image
    model = train_round(
        folder, steps=STEPS, watch=lambda network: seen.append(predict(network, image)), **SMALL
    )
    assert len(seen) == UPDATES - 1, "after the last step the model itself can be asked"
    assert not np.array_equal(seen[0], seen[-1])
    saved, config = load_model(own_results(folder) / "model.safetensors")
    assert torch.equal(weights(saved), weights(model)) and config.method == "s2l-r1-r4"
    assert np.array_equal(predict(saved, image), predict(model, image))


def truth(folder, share=1.0):
    """A guess that is sure and right: of each image, or of the first of them."""
    cells = load_dataset("synthetic-fluo", images=3, image_size=96)
    return {
        cell.id: np.where(cell.instances > 0, 0.95, 0.05).astype(np.float32)
        for cell in cells[: round(3 * share)]
    }


def test_what_is_guessed_stays_the_pseudo_labels_of_a_round(folder, monkeypatch):
    draw(folder)
    runs, fit = [], Trainer.fit

    def remembered(run):
        runs.append(run)
        return fit(run)

    monkeypatch.setattr(Trainer, "fit", remembered)
    guess = truth(folder)
    train_round(folder, steps=STEPS, guess=guess, **SMALL)

    (run,) = runs
    assert [image.id for image in run.data.images] == ["synthetic-fluo-000", "synthetic-fluo-001"]
    for image in run.data.images:
        assert run.pseudo.count(image.id) == 1, "no prediction is averaged into it"
        torch.testing.assert_close(run.pseudo.average(image.id), torch.from_numpy(guess[image.id]))


def test_a_guess_teaches_more_than_the_strokes_alone(folder):
    few = Stroke(1, 2.0, ((40.0, 40.0), (42.0, 42.0))), Stroke(0, 2.0, ((2.0, 2.0), (6.0, 6.0)))
    draw(folder, {f"synthetic-fluo-00{k}": few for k in range(2)})
    image, guess = load_dataset(str(folder))[0].image, truth(folder)
    alone, guided = (
        train_round(folder, steps=4 * STEPS, guess=given, **SMALL) for given in (None, guess)
    )
    target = guess["synthetic-fluo-000"] > 0.5
    assert (
        iou(target, predict(guided, image) > 0.5) > iou(target, predict(alone, image) > 0.5) + 0.1
    )


def test_a_guess_of_every_image_drawn_on_is_asked_for(folder):
    draw(folder)
    with pytest.raises(
        S2LError, match=r"guess of synthetic-fluo-001 is missing: expected \(96, 96\)"
    ):
        train_round(folder, steps=STEPS, guess=truth(folder, 1 / 3), **SMALL)
    small = {name: values[:50] for name, values in truth(folder).items()}
    with pytest.raises(
        S2LError, match=r"guess of synthetic-fluo-000 is \(50, 96\): expected \(96, 96\)"
    ):
        train_round(folder, steps=STEPS, guess=small, **SMALL)


def test_a_later_round_takes_smaller_steps(folder):
    draw(folder)
    train_round(folder, steps=STEPS, **SMALL)
    file = own_results(folder) / "model.safetensors"
    first = load_model(file)[1]
    train_round(folder, steps=STEPS, start=file, **SMALL)
    later = load_model(file)[1]
    for name in ("rate_encoder", "rate_decoder", "rate_heads"):
        assert getattr(later, name) == rounds.LATER * getattr(first, name)
    train_round(folder, steps=STEPS, start=file, rate_heads=1e-5, **SMALL)
    assert load_model(file)[1].rate_heads == 1e-5


def test_the_next_round_starts_where_the_last_one_ended(folder):
    draw(folder)
    first = train_round(folder, steps=STEPS, **SMALL)
    file = own_results(folder) / "model.safetensors"
    before = weights(first)
    near = train_round(
        folder,
        steps=STEPS,
        start=file,
        rate_encoder=0.0,
        rate_decoder=0.0,
        weight_decay=0.0,
        **SMALL,
    )
    kept = [
        name
        for name in first.unet.state_dict()
        if "running" not in name and "num_batches" not in name
    ]
    assert all(
        torch.equal(first.unet.state_dict()[name], near.unet.state_dict()[name]) for name in kept
    )
    far = train_round(folder, steps=STEPS, start=file, **SMALL)
    assert not torch.equal(weights(far), before)


def test_a_round_takes_over_the_network_of_the_model_it_starts_from(folder):
    draw(folder)
    train_round(folder, steps=STEPS, intensity="imagenet", **SMALL)
    train_round(folder, steps=STEPS, start=own_results(folder) / "model.safetensors", **SMALL)
    config = load_model(own_results(folder) / "model.safetensors")[1]
    assert config.intensity == "imagenet" and config.encoder == "resnet18"


def test_an_interrupted_round_keeps_what_was_learned(folder, capsys):
    draw(folder)
    model = train_round(
        folder, steps=STEPS, watch=lambda network: os.kill(os.getpid(), signal.SIGINT), **SMALL
    )
    assert f"of {STEPS}; what was learned is kept" in capsys.readouterr().out
    saved, _ = load_model(own_results(folder) / "model.safetensors")
    assert torch.equal(weights(saved), weights(model))
    again = train_round(
        folder, steps=STEPS, start=own_results(folder) / "model.safetensors", **SMALL
    )
    assert np.isfinite(predict(again, load_dataset(str(folder))[0].image)).all()


def test_nothing_drawn_is_said_and_nothing_is_written(folder):
    with pytest.raises(
        S2LError, match="none of 3 images has scribbles.*Draw strokes of both classes"
    ):
        train_round(folder, steps=STEPS, **SMALL)
    assert not own_results(folder).exists()


@pytest.mark.parametrize(("label", "missing"), [(0, "foreground"), (1, "background")])
def test_one_class_alone_is_named(folder, label, missing):
    draw(folder, {"synthetic-fluo-000": [Stroke(label, 4.0, ((10.0, 10.0), (60.0, 60.0)))]})
    with pytest.raises(S2LError, match=f"no {missing} scribble in any training image.*Draw some"):
        train_round(folder, steps=STEPS, **SMALL)


def test_too_few_steps_are_refused(folder):
    with pytest.raises(S2LError, match=f"steps = 3: a round has {STEPS} at least"):
        train_round(folder, steps=3)


@pytest.mark.parametrize(
    "content", [None, b"", b"no model", (8).to_bytes(8, "little") + b"{}      "]
)
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
    file = own_results(folder) / "model.safetensors"
    with safe_open(file, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}
        config = json.loads(stored.metadata()["config"])
    save_file(tensors, file, {"config": json.dumps(config | {"encoder": "resnet34"})})
    with pytest.raises(S2LError, match="no model that was saved here"):
        load_model(file)
