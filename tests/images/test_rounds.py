"""Training in rounds on a folder of one's own: from strokes alone, interrupted, corrected,
gone on with.
"""

import datetime
import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import ENCODER

from conftest import raises_fault
from s2l_core.config import S2LError
from s2l_core.inference import predict
from s2l_core.metrics import instances, iou
from s2l_core.profiles import PROFILES
from s2l_core.trainer import Trainer
from s2l_images.learning import rounds, verdicts
from s2l_images.learning.answers import hold_out
from s2l_images.learning.forest import fit_random_forest, predict_random_forest
from s2l_images.learning.kept_models import (
    kept_rounds,
    load_model,
    model_in_use,
    round_file,
    rounds_folder,
)
from s2l_images.learning.rounds import UNFINISHED, UPDATES, train_round
from s2l_images.nuclei import prediction
from s2l_images.nuclei.diameters import usual_nucleus
from s2l_images.nuclei.prediction import predict_folder
from s2l_images.places import own_results, own_strokes
from s2l_images.strokes import Stroke, write_strokes
from s2l_paper.data.datasets import load_dataset
from s2l_paper.scribbles.annotators import SimulatedAnnotator

SMALL = {"crop": 64, "max_regions": 200}
# Where it does not matter what the network is like: a fortieth of ResNet-34, which knows nothing.
QUICK = SMALL | {"encoder": ENCODER, "encoder_weights": None}
STEPS = 2 * UPDATES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_PLAIN", "1")
    monkeypatch.setenv("S2L_HOME", str(tmp_path / "home"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with_images(tmp_path / "cells")
    yield tmp_path / "cells"
    torch.set_num_threads(threads)


def with_images(folder):
    """Makes a folder of three images."""
    (folder / "images").mkdir(parents=True)
    for cell in load_dataset("synthetic-fluo", images=3, image_size=96):
        Image.fromarray(cell.image).save(folder / "images" / f"{cell.id}.png")


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


@pytest.fixture(scope="module")
def first_round(tmp_path_factory):
    """A folder with strokes and one finished round, which no test may change."""
    home = tmp_path_factory.mktemp("first") / "cells"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2L_PLAIN", "1")
        with_images(home)
        draw(home)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        train_round(home, steps=STEPS, **SMALL)
        torch.set_num_threads(threads)
    return home


@pytest.fixture
def learned(folder, first_round):
    """A folder with strokes, in which one round has ended."""
    shutil.rmtree(folder)
    shutil.copytree(first_round, folder)
    return folder


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_a_round_learns_from_strokes_alone_and_shows_it(folder):
    draw(folder)
    seen, image = [], load_dataset(str(folder))[2].image
    done = train_round(
        folder, steps=STEPS, watch=lambda network: seen.append(predict(network, image)), **SMALL
    )
    model = done.model
    assert len(seen) == UPDATES - 1, "after the last step the model itself can be asked"
    assert not np.array_equal(seen[0], seen[-1])
    saved, config = load_model(model_in_use(folder))
    assert torch.equal(weights(saved), weights(model)) and config.method == "s2l-r1-r4"
    assert (config.encoder, config.encoder_weights) == ("efficientnet-lite0", "imagenet")
    usual = PROFILES["pretrained"].settings
    for name in ("rate_encoder", "rate_decoder", "rate_heads"):
        assert getattr(config, name) == rounds.SHORT * usual[name]
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
    train_round(folder, steps=STEPS, guess=guess, **QUICK)

    (run,) = runs
    assert [image.id for image in run.data.images] == ["synthetic-fluo-000", "synthetic-fluo-001"]
    for image in run.data.images:
        assert run.pseudo.count(image.id) == 1, "no prediction is averaged into it"
        torch.testing.assert_close(run.pseudo.average(image.id), torch.from_numpy(guess[image.id]))


@pytest.mark.long
def test_a_guess_teaches_more_than_the_strokes_alone(folder):
    few = Stroke(1, 2.0, ((40.0, 40.0), (42.0, 42.0))), Stroke(0, 2.0, ((2.0, 2.0), (6.0, 6.0)))
    draw(folder, {f"synthetic-fluo-00{k}": few for k in range(2)})
    image, guess = load_dataset(str(folder))[0].image, truth(folder)
    alone, guided = (
        load_model(round_file(folder, trained.number))[0]
        for trained in (
            train_round(folder, steps=4 * STEPS, guess=given, **SMALL) for given in (None, guess)
        )
    )
    target = guess["synthetic-fluo-000"] > 0.5
    assert (
        iou(target, predict(guided, image) > 0.5) > iou(target, predict(alone, image) > 0.5) + 0.1
    )


def test_a_guess_of_every_image_drawn_on_is_asked_for(folder):
    draw(folder)
    with pytest.raises(S2LError, match=r"guess of synthetic-fluo-001 .*\(96, 96\)"):
        train_round(folder, steps=STEPS, guess=truth(folder, 1 / 3), **QUICK)
    small = {name: values[:50] for name, values in truth(folder).items()}
    with pytest.raises(S2LError, match=r"guess of synthetic-fluo-000 .*\(50, 96\).*\(96, 96\)"):
        train_round(folder, steps=STEPS, guess=small, **QUICK)


def test_a_later_round_takes_smaller_steps(learned):
    folder, file = learned, round_file(learned, 1)
    first = load_model(file)[1]
    train_round(folder, steps=STEPS, start=file, **SMALL)
    later = load_model(round_file(folder, 2))[1]
    for name in ("rate_encoder", "rate_decoder", "rate_heads"):
        assert getattr(later, name) == pytest.approx(rounds.LATER * getattr(first, name))
    assert later.encoder_weights is None, "its weights are those of the round before"
    train_round(folder, steps=STEPS, start=file, rate_heads=1e-5, **SMALL)
    assert load_model(round_file(folder, 3))[1].rate_heads == 1e-5


def test_the_next_round_starts_where_the_last_one_ended(learned):
    folder = learned
    first = load_model(round_file(folder, 1))[0]
    frozen = {"rate_encoder": 0.0, "rate_decoder": 0.0, "weight_decay": 0.0}
    train_round(folder, steps=STEPS, start=round_file(folder, 1), **frozen, **SMALL)
    near = load_model(round_file(folder, 2))[0]
    for (name, before), after in zip(
        first.unet.named_parameters(), near.unet.parameters(), strict=True
    ):
        assert torch.equal(before, after), name

    train_round(folder, steps=STEPS, start=round_file(folder, 1), **SMALL)
    far = load_model(round_file(folder, 3))[0]
    assert not torch.equal(weights(far), weights(first))


def test_the_old_start_is_an_option_and_later_rounds_keep_its_network(folder):
    draw(folder)
    train_round(
        folder, steps=STEPS, profile="scratch", encoder=ENCODER, intensity="imagenet", **SMALL
    )
    first = load_model(round_file(folder, 1))[1]
    assert first.encoder == ENCODER and first.encoder_weights is None
    train_round(folder, steps=STEPS, start=round_file(folder, 1), **SMALL)
    later = load_model(round_file(folder, 2))[1]
    assert later.intensity == "imagenet" and later.encoder == ENCODER
    assert later.rate_decoder == pytest.approx(rounds.LATER * first.rate_decoder)
    assert not later.frozen_statistics, "its encoder has learned without ImageNet's statistics"


def interrupt(network):
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_round_with_nothing_before_is_kept_and_goes_on(folder, capsys):
    draw(folder)
    stopped = train_round(folder, steps=STEPS, watch=interrupt, **QUICK)
    said = capsys.readouterr().out
    assert f"of {STEPS}; what was learned is kept. Run the cell again to go on" in said
    assert stopped.accepted and torch.equal(
        weights(load_model(model_in_use(folder))[0]), weights(stopped.model)
    )

    # The same call takes the remaining steps only, and ends where an undisturbed one ends.
    taken = []
    done = train_round(folder, steps=STEPS, watch=taken.append, **QUICK)
    assert len(taken) == UPDATES - 2, "one watch was before the interruption"
    assert f"going on from step 2 of {STEPS}" in capsys.readouterr().out
    assert not (rounds_folder(folder) / UNFINISHED).exists()
    train_round(folder, steps=STEPS, **QUICK)
    whole, cut = (load_model(round_file(folder, number))[0] for number in (3, done.number))
    assert torch.equal(weights(whole), weights(cut))
    assert [(kept.steps, kept.planned) for kept in kept_rounds(folder)] == [
        (2, STEPS),
        (STEPS, STEPS),
        (STEPS, STEPS),
    ]


def test_a_round_in_a_thread_is_stopped_by_an_event_and_goes_on(folder, capsys):
    draw(folder)
    stop, told = threading.Event(), []

    def report(text, share):
        told.append(text)
        if share > 0.4:
            stop.set()

    done = []
    options = {"steps": STEPS, "report": report, **QUICK}
    thread = threading.Thread(target=lambda: done.append(train_round(folder, stop=stop, **options)))
    thread.start()
    thread.join()
    stopped = len(told)
    assert "what was learned is kept" in done[0].said and stopped < STEPS
    assert told[0].startswith("step ") and told[0].endswith(" left")
    assert "step " not in capsys.readouterr().out, "who reports does not print"

    again = train_round(folder, stop=threading.Event(), **options)
    assert "stopped" not in again.said and len(told) == STEPS, "no step is taken twice"


def test_an_interrupted_round_that_is_worse_than_the_guess_leaves_everything_as_it_was(
    folder, capsys
):
    draw(folder)
    done = train_round(folder, steps=STEPS, guess=truth(folder), watch=interrupt, **QUICK)
    assert done.before == 1.0, "the guess is the truth"
    assert not done.accepted and done.model is None and not model_in_use(folder).exists()
    said = capsys.readouterr().out
    assert "The new network is not used, and what was there before stays." in said
    assert "Run the cell again to go on" in said
    (kept,) = kept_rounds(folder)
    assert kept.refused and round_file(folder, 1).exists(), "what was learned is not thrown away"
    assert (rounds_folder(folder) / UNFINISHED / "checkpoint.pt").exists()


def test_an_interrupted_round_that_is_better_than_the_guess_is_used(folder, monkeypatch):
    draw(folder)
    monkeypatch.setattr(verdicts, "predict", lambda model, image: right(folder, image))
    wrong = {name: 1 - values for name, values in truth(folder).items()}
    done = train_round(folder, steps=STEPS, guess=wrong, watch=None, **QUICK)
    assert done.accepted and done.score == 1.0
    wrong_and_cut = train_round(folder, steps=STEPS, guess=wrong, watch=interrupt, seed=1, **QUICK)
    assert not wrong_and_cut.accepted, "it is not better than the model of the round before"
    model_in_use(folder).unlink()
    assert train_round(folder, steps=STEPS, guess=wrong, watch=interrupt, seed=2, **QUICK).accepted


def right(folder, image):
    """What a perfect network predicts for one of the images."""
    for cell in load_dataset("synthetic-fluo", images=3, image_size=96):
        if np.array_equal(cell.image, image):
            return (cell.instances > 0).astype(np.float32)
    raise AssertionError("another image")


def test_other_settings_do_not_go_on_from_an_interrupted_round(folder, capsys):
    draw(folder)
    train_round(folder, steps=STEPS, watch=interrupt, **QUICK)
    for change in ({"seed": 1}, {"start": round_file(folder, 1)}):
        capsys.readouterr()
        train_round(folder, steps=STEPS, watch=interrupt, **change, **QUICK)
        assert "going on from" not in capsys.readouterr().out


def test_strokes_and_guess_that_are_new_count_after_an_interruption(folder, monkeypatch):
    draw(folder)
    train_round(folder, steps=STEPS, guess=truth(folder), watch=interrupt, **QUICK)
    runs, fit = [], Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda run: (runs.append(run), fit(run))[1])
    other = {name: 1 - values for name, values in truth(folder).items()}
    train_round(folder, steps=STEPS, guess=other, **QUICK)
    for image in runs[0].data.images:
        torch.testing.assert_close(
            runs[0].pseudo.average(image.id), torch.from_numpy(other[image.id])
        )


def test_held_out_strokes_are_not_learned_from(folder, monkeypatch):
    draw(folder)
    runs, fit = [], Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda run: (runs.append(run), fit(run))[1])
    train_round(folder, steps=STEPS, **QUICK)
    scribbles = {cell.id: cell.scribbles for cell in load_dataset(str(folder))[:2]}
    parts = hold_out(scribbles)
    assert parts.held
    for name, labels in parts.kept.items():
        assert np.array_equal(runs[0].data.scribbles[name], labels)


def test_a_worse_round_does_not_take_the_place_of_a_better_one(folder, monkeypatch, capsys):
    draw(folder)
    monkeypatch.setattr(verdicts, "predict", lambda model, image: right(folder, image))
    train_round(folder, steps=STEPS, **QUICK)
    first = model_in_use(folder).read_bytes()
    good = {id(None): None}

    def judged(model, image):
        # The model in use is asked after the new one: only the newest is wrong.
        good.setdefault(id(model), len(good))
        return right(folder, image) * (good[id(model)] > 1)

    monkeypatch.setattr(verdicts, "predict", judged)
    done = train_round(folder, steps=STEPS, seed=1, largest=1.0, **QUICK)
    assert not done.accepted and done.score < done.before == 1.0
    assert model_in_use(folder).read_bytes() == first and done.model is not None
    assert "what was there before stays" in capsys.readouterr().out
    assert [bool(kept.refused) for kept in kept_rounds(folder)] == [False, True]


def test_absurd_masks_are_refused_where_there_is_another_answer(folder, monkeypatch, capsys):
    draw(folder)
    monkeypatch.setattr(verdicts, "predict", lambda model, image: np.ones(image.shape[:2]))
    done = train_round(folder, steps=STEPS, guess=truth(folder), **QUICK)
    assert not done.accepted and done.model is None
    assert "One object covers 100% of the image" in capsys.readouterr().out

    # With nothing to fall back on it is kept, with a warning.
    alone = train_round(folder, steps=STEPS, **QUICK)
    assert alone.accepted and "Look at it before you trust it" in capsys.readouterr().out


def test_models_are_kept_by_round_and_never_overwritten(folder):
    draw(folder)
    contents = []
    for seed in range(3):
        train_round(folder, steps=STEPS, seed=seed, **QUICK)
        contents.append(round_file(folder, seed + 1).read_bytes())
    assert [round_file(folder, n).read_bytes() for n in (1, 2, 3)] == contents
    assert len(set(contents)) == 3
    kept = kept_rounds(folder)
    assert [one.number for one in kept] == [1, 2, 3]
    used = [one.number for one in kept if not one.refused]
    assert model_in_use(folder).read_bytes() == contents[used[-1] - 1]
    for one in kept:
        assert 0 <= one.score <= 1 and one.steps == STEPS
        datetime.datetime.fromisoformat(one.date)

    round_file(folder, 2).with_suffix(".json").write_text("no JSON")
    assert kept_rounds(folder)[1].date == ""


def test_a_model_from_elsewhere_is_kept_before_a_round_takes_its_place(folder, capsys):
    draw(folder)
    own_results(folder).mkdir()
    model_in_use(folder).write_bytes(b"harmed")
    train_round(folder, steps=STEPS, **QUICK)
    assert round_file(folder, 1).read_bytes() == b"harmed"
    assert "not a model that was saved here" in capsys.readouterr().out
    load_model(model_in_use(folder))


def test_a_single_stroke_of_each_class_is_learned_from_and_cannot_judge(folder, capsys):
    few = Stroke(1, 2.0, ((40.0, 40.0), (42.0, 42.0))), Stroke(0, 2.0, ((2.0, 2.0), (6.0, 6.0)))
    draw(folder, {"synthetic-fluo-000": few})
    done = train_round(folder, steps=STEPS, **QUICK)
    assert done.accepted and np.isnan(done.score) and kept_rounds(folder)[0].score is None
    assert "No stroke could be held out" in capsys.readouterr().out


def touching():
    """A probability with two nuclei that touch, and one apart from them."""
    rows, columns = np.mgrid[:96, :96]
    found = np.zeros((96, 96), np.float32)
    for row, column in ((30, 30), (30, 51), (75, 70)):
        found[(rows - row) ** 2 + (columns - column) ** 2 <= 12**2] = 0.9
    return found


@pytest.fixture
def answered(folder, monkeypatch):
    """A folder whose images all get the answer of `touching`."""
    draw(folder, {"synthetic-fluo-000": [Stroke(1, 3.0, ((75.0, 66.0), (75.0, 74.0)))]})
    monkeypatch.setattr(prediction, "_asked", lambda source: (lambda image: touching(), "key"))
    return folder


@pytest.mark.parametrize(("split", "nuclei"), [(None, 2), (24.0, 3), ("auto", 3)])
def test_touching_nuclei_are_told_apart_where_it_is_wished(answered, split, nuclei):
    target = predict_folder("model", answered, split=split)
    assert tifffile.imread(target / "synthetic-fluo-000.tif").max() == nuclei


def test_another_split_or_threshold_is_predicted_anew(answered):
    target, counts = None, []
    for settings in ({}, {"split": 24.0}, {"threshold": 0.95}, {}):
        target = predict_folder("model", answered, **settings)
        counts.append(tifffile.imread(target / "synthetic-fluo-000.tif").max())
    assert counts == [2, 3, 0, 2]


def test_the_usual_nucleus_is_measured_on_masks_or_else_where_strokes_are(answered):
    ask = lambda image: touching()  # noqa: E731
    assert usual_nucleus(answered, ask).diameter == 23.5, "of the nucleus with the stroke"
    (answered / "masks").mkdir()
    square = np.zeros((96, 96), np.uint8)
    square[10:20, 10:20], square[40:50, 40:50] = 1, 2
    tifffile.imwrite(answered / "masks" / "synthetic-fluo-001.tif", square)
    assert usual_nucleus(answered, ask).diameter == 11.5, "a disc of 100 pixels is 11.3 wide"


def test_a_split_that_explodes_leaves_its_image_out_and_names_the_parameter(answered, monkeypatch):
    noisy = np.zeros((96, 96), np.float32)
    noisy[:80] = (np.random.default_rng(0).random((80, 120)) < 0.75)[:, :96]
    asked = {"count": 0}

    def ask(image):
        asked["count"] += 1
        return noisy if asked["count"] == 2 else touching()

    monkeypatch.setattr(prediction, "_asked", lambda source: (ask, "key"))
    expected = r"1 of 3 .*synthetic-fluo-001: .*diameter"
    with pytest.raises(S2LError, match=expected):
        predict_folder("model", answered, split=2.0, min_size=1)
    left = {file.stem for file in (own_results(answered) / "export").glob("*.tif")}
    assert left == {"synthetic-fluo-000", "synthetic-fluo-002"}


def test_a_forest_predicts_a_folder_too(folder):
    draw(folder)
    cells = load_dataset(str(folder))[:2]
    images, scribbles = [cell.image for cell in cells], [cell.scribbles for cell in cells]
    forest = fit_random_forest(images, scribbles)
    target = predict_folder(forest, folder, min_size=64)
    expected = instances(predict_random_forest(forest, cells[0].image))
    assert np.array_equal(tifffile.imread(target / "synthetic-fluo-000.tif"), expected)
    again = fit_random_forest(images, scribbles)
    other = fit_random_forest(images, scribbles, seed=1)
    assert forest.key == again.key != other.key


def test_nothing_drawn_is_said_and_nothing_is_written(folder):
    with raises_fault("nothing-labelled", naming=" 3 "):
        train_round(folder, steps=STEPS, **QUICK)
    assert not own_results(folder).exists()


@pytest.mark.parametrize(("label", "missing"), [(0, "foreground"), (1, "background")])
def test_one_class_alone_is_named(folder, label, missing):
    draw(folder, {"synthetic-fluo-000": [Stroke(label, 4.0, ((10.0, 10.0), (60.0, 60.0)))]})
    with pytest.raises(S2LError, match=f" {missing} "):
        train_round(folder, steps=STEPS, **QUICK)


def test_too_few_steps_are_refused(folder):
    with pytest.raises(S2LError, match=f"steps = 3: .*{STEPS}"):
        train_round(folder, steps=3)


def stored_in(file):
    """The tensors of a model and its configuration."""
    with safe_open(file, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}
        return tensors, json.loads(stored.metadata()["config"])


@pytest.mark.parametrize(
    "content", [None, b"", b"no model", (8).to_bytes(8, "little") + b"{}      "]
)
def test_what_is_no_model_is_refused(tmp_path, content):
    file = tmp_path / "model.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(S2LError, match=f"{file}: "):
        load_model(file)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder": "resnet34"}, "it has .* weights that are not known, such as .*it lacks"),
        ({"pair_goal": "and"}, "configuration field = 'pair_goal' is not known"),
        ({"encoder": "resnet99"}, "resnet99"),
    ],
)
def test_a_model_of_another_version_says_what_differs(learned, changed, said):
    file = own_results(learned) / "model.safetensors"
    tensors, config = stored_in(file)
    save_file(tensors, file, {"config": json.dumps(config | changed)})
    with pytest.raises(S2LError, match=f"{file}: .*{said}"):
        load_model(file)


def test_a_weight_of_another_shape_is_named(learned):
    file = own_results(learned) / "model.safetensors"
    tensors, config = stored_in(file)
    name = max(name for name in tensors if name.endswith("segmentation_head.0.bias"))
    tensors[name] = tensors[name][:1].repeat(7)
    save_file(tensors, file, {"config": json.dumps(config)})
    with pytest.raises(S2LError, match=r" 1 weights .*\(7,\)"):
        load_model(file)
