"""The loop: learns, repeats itself bit for bit, shares its warm-up, resumes,
and refuses what cannot work.
"""

import dataclasses
import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from s2l_core import checkpoints, objective, trainer
from s2l_core.augment import intensity_range
from s2l_core.batches import Prefetcher
from s2l_core.checkpoints import save_model
from s2l_core.config import IGNORE, METHODS, RunConfig, S2LError
from s2l_core.objective import loss_terms, rate_factor, scale_labels
from s2l_paper import annotators, paths, results, runs
from s2l_paper.runs import new_trainer, train, warm_up

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, one_thread):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    monkeypatch.setenv("S2L_PLAIN", "1")
    return tmp_path


def smoke(method="s2l-r1-r4", **fields):
    return RunConfig("synthetic-fluo", method, profile="smoke", **fields)


def weights(result, file="model.safetensors"):
    from safetensors.torch import load_file

    return load_file(result.folder / file)


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def timeless(steps):
    return steps.drop(columns=[c for c in steps if "seconds" in c])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_scores(method):
    result = train(smoke(method), progress=False)
    assert list(result.per_image.columns) == results.COLUMNS
    checkpoints = {"last"} if METHODS[method].baseline else {"best", "last"}
    assert set(result.per_image.checkpoint) == checkpoints
    assert result.per_image.iou.between(0, 1).all()
    assert results.is_done(result.config)
    names = {file.name for file in result.folder.iterdir()}
    assert {"config.json", "env.json", "steps.csv", "per_image.csv", "probability"} <= names
    assert not [name for name in names if name.startswith(".") or name.endswith(".tmp")]
    environment = json.loads((result.folder / "env.json").read_text())
    assert environment["peak_memory_mib"] > 100 and environment["threads"] == 1


def test_fork_is_bit_identical_to_training_through(home, monkeypatch):
    for method in ("s2l", "s2l-r1-r4", "scribble-only"):
        through = train(smoke(method), progress=False)
        kept = weights(through), timeless(through.steps), through.per_image
        monkeypatch.setenv("S2L_HOME", str(home / f"forked-{method}"))
        forked = train(smoke(method), warmup=warm_up(smoke(method), progress=False), progress=False)
        assert same(weights(forked), kept[0])
        pd.testing.assert_frame_equal(timeless(forked.steps), kept[1])
        pd.testing.assert_frame_equal(forked.per_image, kept[2])
        monkeypatch.setenv("S2L_HOME", str(home))


@pytest.mark.parametrize("stop", [2, 4, 6])  # in the warm-up, at the fork, in the main stage
def test_resume_is_bit_identical(home, monkeypatch, stop):
    config = smoke()
    untouched = train(config, progress=False)
    expected = weights(untouched), timeless(untouched.steps), untouched.per_image
    monkeypatch.setenv("S2L_HOME", str(home / "cut"))
    folder = paths.run_folder("smoke", results.run_id(config))
    run = new_trainer(config, progress=False)
    run.advance(min(stop, config.warmup_steps))
    if stop > config.warmup_steps:
        run.fork()
        run.advance(stop)
    checkpoints.save(run, folder)
    with pytest.raises(S2LError, match="resume=True"):
        train(config, progress=False)
    resumed = train(config, resume=True, progress=False)
    assert same(weights(resumed), expected[0])
    pd.testing.assert_frame_equal(timeless(resumed.steps), expected[1])
    pd.testing.assert_frame_equal(resumed.per_image, expected[2])
    assert not (folder / "checkpoint.pt").exists()


def test_warmup_has_no_trace_of_heads(home):
    folder = warm_up(smoke(), progress=False)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert not [name for name in state["model"] if "head" in name and "segmentation" not in name]
    assert len(state["optimiser"]["param_groups"]) == 2
    assert warm_up(smoke("s2l"), progress=False) == folder  # found, not trained again


def test_methods_see_the_same_crops():
    batches = [
        new_trainer(smoke(m), progress=False).data.batch(3)["image"]
        for m in ("s2l", "s2l-r4", "supervised")
    ]
    assert torch.equal(batches[0], batches[1]) and torch.equal(batches[0], batches[2])


def test_overfits_one_image():
    config = smoke(
        "supervised", batch=1, warmup_steps=1, main_steps=60, validate_every=60, schedule="constant"
    )
    run = new_trainer(config, progress=False)
    run.data.images = run.data.images[:1]
    run.advance(1)
    run.advance(61)
    losses = [row["loss"] for row in run.history]
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:5])


def test_supervised_never_sees_scribbles_nor_the_others_masks():
    run = new_trainer(smoke("supervised"), progress=False)
    batch = run.data.batch(0)
    assert (batch["scribbles"] == IGNORE).all()
    run = new_trainer(smoke("s2l-r1"), progress=False)
    run.fork()
    batch = run.data.batch(0)
    config = run.config
    changed = batch | {"mask": 1 - batch["mask"].clamp(max=1)}
    first, second = (loss_terms(run.model.eval(), b, config, 5) for b in (batch, changed))
    assert all(torch.equal(first[name], second[name]) for name in first)


SWITCHES = [
    {"pair_target": "and"},
    {"pair_target": "or"},
    {"pair_reduction": "balanced"},
    {"max_regions": 7},
    {"equalise": True},
    {"region_rule": "unanimous"},
    {"contrast_labels": "scribbles"},
    {"confidence": 0.6},
    {"pairs": "image"},
    {"label_mean": "image"},
    {"nu_low": 0.4},
    {"nu_high": 0.5},
    {"pseudo_weight": 2.0},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda s: "-".join(map(str, *s.items())))
def test_every_switch_of_the_loss_changes_what_it_should(switch):
    config = smoke("s2l-r1-r4", max_regions=100_000)
    run = new_trainer(config, progress=False)
    run.fork()
    batch = run.data.batch(0)
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(batch["averaged"].shape, generator=generator)
    truth = (batch["mask"] == 1).float()
    batch["averaged"] = (0.15 * noise + 0.85 * truth).where(
        noise > 0.02, 0.7
    )  # mostly confident, some undecided
    usual = loss_terms(run.model.eval(), batch, config, 5)
    other = loss_terms(run.model, batch, dataclasses.replace(config, **switch), 5)
    name = next(iter(switch))
    touches = {"label_mean": {"labels", "pseudo"}, "pseudo_weight": {"pseudo"}}
    touches["confidence"] = {"pseudo", "r1", "r4"}
    expected = touches.get(name, {"r1", "r4"})
    if name in (
        "nu_low",
        "nu_high",
        "region_rule",
    ):  # one pixel is a region of its own: nothing to disagree
        expected = {"r4"}
    changed = {term for term in usual if not torch.equal(usual[term], other[term])}
    assert changed == expected


def test_average_start_and_averaging_change_the_averages():
    maps = []
    for fields in ({}, {"average_start": "zero"}, {"averaging": 0.5}):
        run = new_trainer(smoke("s2l", **fields), progress=False)
        run.advance(4)
        maps.append(run.pseudo.average(run.data.images[0].id))
    assert not np.allclose(maps[0], maps[1]) and not np.allclose(maps[0], maps[2])


def test_schedules():
    config = smoke(schedule="cosine", warmup_steps=50, main_steps=50)
    assert rate_factor(config, 0) == 1 and rate_factor(config, 50) == pytest.approx(0.5)
    assert rate_factor(config, 99) < 0.001
    assert rate_factor(dataclasses.replace(config, schedule="constant"), 99) == 1
    restarts = [
        rate_factor(dataclasses.replace(config, schedule="warm-restarts"), step)
        for step in range(14)
    ]
    assert [step for step, value in enumerate(restarts) if value == 1] == [0, 2, 6]
    assert restarts[4] == pytest.approx(0.5)


def test_selection_and_annotator_reach_the_run(home):
    first = train(smoke("scribble-only", selection="last"), progress=False)
    runs = results.load_runs("smoke", variants=True)
    assert set(runs[runs.run_id == first.folder.name].query("shown").checkpoint) == {"last"}
    drawn = [
        new_trainer(smoke("s2l", **f), progress=False).data.scribbles
        for f in ({}, {"annotator": 1}, {"annotator": "skeleton"})
    ]
    name = next(iter(drawn[0]))
    assert not np.array_equal(drawn[0][name], drawn[1][name]) and not np.array_equal(
        drawn[0][name], drawn[2][name]
    )


def test_best_is_chosen_in_the_main_stage_only():
    run = new_trainer(smoke("supervised"), progress=False)
    run.advance(4)
    assert run.best["step"] == -1
    run.advance(8)
    assert run.best["step"] > 4


def test_same_seed_same_weights_other_seed_other_weights():
    ends = []
    for seed in (0, 0, 1):
        run = new_trainer(smoke("supervised", seed=seed), progress=False)
        run.advance(3)
        ends.append({name: value.clone() for name, value in run.model.state_dict().items()})
    assert same(ends[0], ends[1]) and not same(ends[0], ends[2])


def test_not_a_number_stops_the_run_and_says_where(monkeypatch):
    monkeypatch.setattr(objective, "partial_bce", lambda logits, *_: logits.sum() * float("nan"))
    with pytest.raises(
        S2LError,
        match=(
            r"step 0: the loss is nan \(\{'loss': nan, .*\}\).*synthetic-fluo-.*Lower rate_encoder"
        ),
    ):
        train(smoke("supervised"), progress=False)
    assert not list((paths.results("smoke") / "runs").glob("*/per_image.csv"))


def test_weights_that_overflow_stop_the_run_before_they_are_averaged(monkeypatch):
    monkeypatch.setattr(
        trainer, "predict", lambda model, image: np.full(image.shape[:2], np.nan, np.float32)
    )
    with pytest.raises(S2LError, match="step 2: a prediction is not finite. Lower rate_encoder"):
        train(smoke("s2l"), progress=False)


def test_weights_that_are_not_finite_are_never_saved(monkeypatch, tmp_path):
    """A finite loss whose gradient is not: the run stops at its next checkpoint,
    and goes on from the one before.
    """
    config = smoke("s2l-r1", encoder="tu-lcnet_050")
    calm = train(config, progress=False)
    monkeypatch.setenv("S2L_HOME", str(tmp_path / "spoiled"))
    monkeypatch.setenv(checkpoints.SECONDS, "0")
    folder = paths.run_folder("smoke", results.run_id(config))

    def spoiled(model, *arguments):
        terms = loss_terms(model, *arguments)
        if arguments[-1] == 5:
            terms["labels"] = terms["labels"] + (0 * next(model.parameters())).sum().sqrt()
        return terms

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "loss_terms", spoiled)
        with pytest.raises(
            S2LError, match=r"step 6: \S+ is not finite \(.*nothing is saved.* Lower rate_encoder"
        ):
            train(config, progress=False)
    state = checkpoints.read(folder)
    assert state["step"] == 5 and not list(folder.glob(".*"))
    assert all(value.isfinite().all() for value in state["model"].values())
    result = train(config, resume=True, progress=False)
    assert same(weights(result), weights(calm))
    with pytest.raises(S2LError, match=f"{folder.name}: b is not finite"):
        save_model(folder, {"a": torch.ones(1), "b": torch.tensor([1, torch.inf])}, config)
    assert same(weights(result), weights(calm))


@pytest.mark.parametrize(
    "fill", [lambda: torch.empty(10**15), lambda: np.empty(10**15)], ids=["torch", "numpy"]
)
def test_out_of_memory_says_what_to_lower(monkeypatch, fill):
    monkeypatch.setattr(trainer, "loss_terms", lambda *_: fill())
    message = (
        r"step 0: out of memory \(.*\). Lower batch \(2\), crop \(64\) or max_regions \(200\).*tile"
    )
    with pytest.raises(S2LError, match=message):
        train(smoke("s2l"), progress=False)


def test_another_runtime_error_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(trainer, "loss_terms", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        train(smoke("s2l"), progress=False)


def test_validation_without_foreground_still_chooses_weights(monkeypatch):
    """Empty and empty agree: 1. The first such weights are kept, since no later ones are better."""
    monkeypatch.setattr(
        trainer, "predict", lambda model, image: np.zeros(image.shape[:2], np.float32)
    )
    run = new_trainer(smoke("supervised"), progress=False)
    for image in run.validation:
        image.instances[:] = 0
    run.advance(4)
    run.advance(8)
    scores = {row["step"]: row["validation_iou"] for row in run.history if "validation_iou" in row}
    assert list(scores.values()) == [1, 1]
    assert run.best["iou"] == 1 and run.best["step"] == min(scores) and run.best["weights"]


def test_one_image_without_validation_or_test_set(tmp_path):
    folder = tmp_path / "one"
    cell = new_trainer(smoke("s2l"), progress=False).data.images[0]
    labels = np.full(cell.image.shape[:2], IGNORE, np.uint8)
    labels[:4], labels[cell.instances > 0] = 0, 1
    for name, picture in (("images", cell.image), ("scribbles", labels)):
        (folder / name).mkdir(parents=True)
        Image.fromarray(picture).save(folder / name / "a.png")
    config = dataclasses.replace(smoke(), dataset=str(folder))
    result = train(config, progress=False)
    assert result.per_image.empty and len(result.steps) == 8 and result.steps.loss.notna().all()
    assert "validation_iou" not in result.steps and results.is_done(config)
    assert (result.folder / "model.safetensors").exists()  # the last weights


def test_batch_of_one_works_unless_nothing_is_left_to_normalise_by():
    run = new_trainer(smoke("s2l-r1-r4", batch=1), progress=False)
    run.advance(4)
    run.fork()
    run.advance(6)
    assert run.history[-1]["step"] == 6
    with pytest.raises(
        S2LError, match="crop = 32 and one crop in a step.*Choose crop = 64 or batch = 2"
    ):
        new_trainer(smoke("s2l", batch=1, crop=32), progress=False)
    run = new_trainer(smoke("s2l", batch=2, crop=32), progress=False)
    run.advance(1)


def test_a_blank_image_gives_finite_losses():
    run = new_trainer(smoke("s2l-r1-r4"), progress=False)
    for image in run.data.images:
        image.image[:] = 7
    run.data.limits = {
        image.id: intensity_range(image.image, run.config.intensity) for image in run.data.images
    }
    run.advance(4)
    run.fork()
    run.advance(8)
    assert all(np.isfinite(row["loss"]) for row in run.history)


def test_checkpoint_of_another_configuration_is_refused_by_field(tmp_path):
    run = new_trainer(smoke("s2l"), progress=False)
    run.advance(2)
    checkpoints.save(run, tmp_path)
    with pytest.raises(S2LError, match=r"averaging \(0.2 there, 0.5 here\)"):
        checkpoints.restore(new_trainer(smoke("s2l", averaging=0.5), progress=False), tmp_path)


def test_image_without_a_scribble_is_named(monkeypatch):
    monkeypatch.setattr(annotators, "strokes_of", lambda *_: [])
    with pytest.raises(S2LError, match="synthetic-fluo-.*no pixel carries a scribble"):
        train(smoke("s2l"), progress=False)


def test_finished_run_is_read_not_trained_again(monkeypatch, capsys):
    first = train(smoke("otsu"), progress=False)
    monkeypatch.setattr(runs, "fit_baseline", lambda config: pytest.fail("trained again"))
    again = train(smoke("otsu"), progress=False)
    pd.testing.assert_frame_equal(first.per_image, again.per_image)
    assert "finished before" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["s2l", "s2l-r1-r4", "supervised"])
def test_a_step_on_a_gpu_waits_for_nothing_until_its_losses_are_read(method):
    run = new_trainer(smoke(method), torch.device("cuda"), False)
    run.step = run.config.warmup_steps
    run.fork()
    for image in run.data.images:
        run.pseudo.update(image.id, (image.instances > 0).astype(np.float32))
    loader = Prefetcher(run.data, run.pseudo, run.device, partial(scale_labels, config=run.config))
    batch = loader.batch(run.step, prefetch_next=False)
    loader.close()
    assert all(
        math.isfinite(value) for value in run._step(batch).values()
    )  # in bfloat16; and memory is taken
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.bfloat16):
            terms = loss_terms(run.model, batch, run.config, run.step)
        sum(terms.values()).backward()
        run.optimiser.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(term.isfinite() for term in terms.values())
