"""The loop: learns, repeats itself bit for bit, shares its warm-up, resumes,
and refuses what cannot work.
"""

import copy
import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from tiny import cell, cells, config
from tiny import trainer as new_trainer

from s2l_core import objective, trainer
from s2l_core.batches import Prefetcher
from s2l_core.config import IGNORE, S2LError
from s2l_core.objective import loss_terms, rate_factor, scale_labels
from s2l_core.trainer import Trainer
from s2l_images import checkpoints

WARM, ALL = 4, 8  # steps of the warm-up, and of the whole training


@pytest.fixture(autouse=True)
def quiet(monkeypatch, one_thread):
    monkeypatch.setenv("S2L_PLAIN", "1")


def state(run):
    """All that a training has come to, times aside."""
    return copy.deepcopy([run.model.state_dict(), run.pseudo.state_dict(), run.history, run.best])


def same(first, second):
    """Whether nested dictionaries and lists of tensors and numbers are equal, bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return first == second or (first != first and second != second)


@pytest.fixture(scope="module")
def through():
    """What a training has come to that was trained through, by its method."""
    known = {}

    def of(method):
        if method not in known:
            run = new_trainer(method)
            run.fit()
            known[method] = state(run)
        return known[method]

    return of


@pytest.mark.parametrize("method", ["s2l", "s2l-r1-r4", "scribble-only"])
def test_fork_is_bit_identical_to_training_through(tmp_path, through, method):
    shared = Trainer(config(method).warmup(), cells(), validation=cells("v"), progress=False)
    shared.advance(WARM)
    checkpoints.save(shared, tmp_path)
    forked = new_trainer(method)
    checkpoints.restore(forked, tmp_path)
    forked.fit()
    assert same(state(forked), through(method))


@pytest.mark.parametrize("stop", [2, 4, 6])  # in the warm-up, at the fork, in the main stage
def test_resume_is_bit_identical(tmp_path, through, stop):
    run = new_trainer()
    run.advance(min(stop, WARM))
    if stop > WARM:
        run.fork()
        run.advance(stop)
    checkpoints.save(run, tmp_path)

    resumed = new_trainer()
    checkpoints.restore(resumed, tmp_path)
    resumed.fit()
    assert same(state(resumed), through("s2l-r1-r4"))


def test_warmup_has_no_trace_of_heads():
    run = Trainer(config().warmup(), cells(), progress=False)
    run.advance(1)
    found = run.state_dict()
    assert not [name for name in found["model"] if "head" in name and "segmentation" not in name]
    assert len(found["optimiser"]["param_groups"]) == 2
    assert config("s2l").warmup() == config().warmup(), "it is shared"


def test_methods_see_the_same_crops():
    batches = [new_trainer(m).data.batch(3)["image"] for m in ("s2l", "s2l-r4", "supervised")]
    assert torch.equal(batches[0], batches[1]) and torch.equal(batches[0], batches[2])


def test_overfits_one_image():
    fields = {"batch": 1, "warmup_steps": 1, "main_steps": 40, "schedule": "constant"}
    run = Trainer(config("supervised", **fields), cells("a"), progress=False)
    run.fit()
    losses = [row["loss"] for row in run.history]
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:5])


@pytest.mark.parametrize("method", ["supervised", "s2l"])
def test_the_output_bias_expects_as_much_foreground_as_is_labelled(method):
    run = new_trainer(method, output_bias="labels")
    foreground = labelled = 0
    for image in run.data.images:
        labels = image.instances > 0 if method == "supervised" else image.scribbles
        foreground += int((labels == 1).sum())
        labelled += int((labels != IGNORE).sum())
    bias = run.model.unet.segmentation_head[0].bias
    assert torch.sigmoid(bias).item() == pytest.approx(foreground / labelled, abs=1e-4)
    assert (new_trainer(method).model.unet.segmentation_head[0].bias == 0).all()


@pytest.mark.parametrize(("mask", "share"), [(0, 0.001), (1, 0.999)])
def test_the_output_bias_of_masks_of_one_class_stays_finite(mask, share):
    images = [
        dataclasses.replace(image, instances=np.full_like(image.instances, mask))
        for image in cells("ab")
    ]
    run = Trainer(config("supervised", output_bias="labels"), images, progress=False)
    assert run.data.foreground_share() == share


def test_supervised_never_sees_scribbles_nor_the_others_masks():
    assert (new_trainer("supervised").data.batch(0)["scribbles"] == IGNORE).all()
    run = new_trainer("s2l-r1")
    run.fork()
    batch = run.data.batch(0)
    changed = batch | {"mask": 1 - batch["mask"].clamp(max=1)}
    first, second = (loss_terms(run.model.eval(), b, run.config, 5) for b in (batch, changed))
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


@pytest.fixture(scope="module")
def main_step():
    """A network with its heads, and a batch whose averages are mostly confident, some undecided."""
    run = new_trainer(max_regions=100_000)
    run.fork()
    batch = run.data.batch(0)
    noise = torch.rand(batch["averaged"].shape, generator=torch.Generator().manual_seed(1))
    truth = (batch["mask"] == 1).float()
    batch["averaged"] = (0.15 * noise + 0.85 * truth).where(noise > 0.02, 0.7)
    return run.model.eval(), batch, run.config


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda s: "-".join(map(str, *s.items())))
def test_every_switch_of_the_loss_changes_what_it_should(main_step, switch):
    model, batch, usual = main_step
    before = loss_terms(model, batch, usual, 5)
    after = loss_terms(model, batch, dataclasses.replace(usual, **switch), 5)

    expected = {
        "label_mean": {"labels", "pseudo"},
        "pseudo_weight": {"pseudo"},
        "confidence": {"pseudo", "r1", "r4"},
        # One pixel is a region of its own: nothing to disagree.
        "nu_low": {"r4"},
        "nu_high": {"r4"},
        "region_rule": {"r4"},
    }
    changed = {term for term in before if not torch.equal(before[term], after[term])}
    assert changed == expected.get(next(iter(switch)), {"r1", "r4"})


def test_average_start_and_averaging_change_the_averages():
    maps = []
    for fields in ({}, {"average_start": "zero"}, {"averaging": 0.5}):
        run = new_trainer("s2l", **fields)
        run.advance(4)
        maps.append(run.pseudo.average("a"))
    assert not np.allclose(maps[0], maps[1]) and not np.allclose(maps[0], maps[2])


def test_schedules():
    cosine = config(schedule="cosine", warmup_steps=50, main_steps=50)
    assert rate_factor(cosine, 0) == 1 and rate_factor(cosine, 50) == pytest.approx(0.5)
    assert rate_factor(cosine, 99) < 0.001
    assert rate_factor(dataclasses.replace(cosine, schedule="constant"), 99) == 1
    warm = dataclasses.replace(cosine, schedule="warm-restarts")
    restarts = [rate_factor(warm, step) for step in range(14)]
    assert [step for step, value in enumerate(restarts) if value == 1] == [0, 2, 6]
    assert restarts[4] == pytest.approx(0.5)


def test_best_is_chosen_in_the_main_stage_only():
    run = new_trainer("supervised")
    run.advance(WARM)
    assert run.best["step"] == -1
    run.advance(ALL)
    assert run.best["step"] > WARM


def test_same_seed_same_weights_other_seed_other_weights():
    ends = []
    for seed in (0, 0, 1):
        run = new_trainer("supervised", seed=seed)
        run.advance(3)
        ends.append(run.model.state_dict())
    assert same(ends[0], ends[1]) and not same(ends[0], ends[2])


def test_not_a_number_stops_the_training_and_says_where(monkeypatch):
    monkeypatch.setattr(objective, "partial_bce", lambda logits, *_: logits.sum() * float("nan"))
    said = r"step 0: .*'loss': nan, .*\['.', '.'\].*rate_encoder"
    with pytest.raises(S2LError, match=said):
        new_trainer("supervised").fit()


def test_weights_that_overflow_stop_the_training_before_they_are_averaged(monkeypatch):
    monkeypatch.setattr(
        trainer, "predict", lambda model, image: np.full(image.shape[:2], np.nan, np.float32)
    )
    with pytest.raises(S2LError, match="step 2: .*rate_encoder"):
        new_trainer("s2l").fit()


def test_weights_that_are_not_finite_are_never_saved(monkeypatch, tmp_path, through):
    """A finite loss whose gradient is not: the training stops at its next checkpoint,
    and goes on from the one before.
    """

    def spoiled(model, *arguments):
        terms = loss_terms(model, *arguments)
        if arguments[-1] == 5:
            terms["labels"] = terms["labels"] + (0 * next(model.parameters())).sum().sqrt()
        return terms

    monkeypatch.setenv(checkpoints.SECONDS, "0")  # one after every step
    said = "step 6: .*rate_encoder"
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "loss_terms", spoiled)
        run = new_trainer()
        with pytest.raises(S2LError, match=said), checkpoints.kept(run, tmp_path):
            run.fit()
    saved = checkpoints.read(tmp_path)
    assert saved["step"] == 5 and not list(tmp_path.glob(".*"))
    assert all(value.isfinite().all() for value in saved["model"].values())

    again = new_trainer()
    checkpoints.restore(again, tmp_path)
    again.fit()
    assert same(state(again), through("s2l-r1-r4"))


def test_a_model_that_is_not_finite_is_not_saved_over_one_that_is(tmp_path):
    checkpoints.save_model(tmp_path, {"a": torch.ones(1)}, config())
    before = (tmp_path / "model.safetensors").read_bytes()
    bad = {"a": torch.ones(1), "b": torch.tensor([1, torch.inf])}
    with pytest.raises(S2LError, match=f"{tmp_path.name}: b "):
        checkpoints.save_model(tmp_path, bad, config())
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "fill", [lambda: torch.empty(10**15), lambda: np.empty(10**15)], ids=["torch", "numpy"]
)
def test_out_of_memory_says_what_to_lower(monkeypatch, fill):
    monkeypatch.setattr(trainer, "loss_terms", lambda *_: fill())
    lower = r"batch \(2\).*crop \(64\).*max_regions \(200\).*tile"
    run = new_trainer("s2l")
    with (
        pytest.raises(S2LError, match=f"step 0: .*{lower}"),
        checkpoints.kept(run, None),
    ):
        run.fit()


def test_another_runtime_error_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(trainer, "loss_terms", lambda *_: torch.ones(2) @ torch.ones(3))
    run = new_trainer("s2l")
    with pytest.raises(RuntimeError, match="size"), checkpoints.kept(run, None):
        run.fit()


def test_validation_without_foreground_still_chooses_weights(monkeypatch):
    """Empty and empty agree: 1. The first such weights are kept, since no later ones are better."""
    monkeypatch.setattr(
        trainer, "predict", lambda model, image: np.zeros(image.shape[:2], np.float32)
    )
    empty = dataclasses.replace(cell("v"), instances=np.zeros((64, 64), np.int32))
    run = Trainer(config("supervised"), cells(), validation=[empty], progress=False)
    run.fit()
    scores = {row["step"]: row["validation_iou"] for row in run.history if "validation_iou" in row}
    assert list(scores.values()) == [1, 1]
    assert run.best["iou"] == 1 and run.best["step"] == min(scores) and run.best["weights"]


def test_one_image_without_mask_or_validation():
    lonely = dataclasses.replace(cell("a"), instances=None)
    run = Trainer(config(), [lonely], progress=False)
    run.fit()
    assert len(run.history) == ALL and all(math.isfinite(row["loss"]) for row in run.history)
    assert not any("validation_iou" in row for row in run.history)
    assert same(run.weights("best"), run.weights("last"))


def test_batch_of_one_works_unless_nothing_is_left_to_normalise_by():
    run = new_trainer(batch=1)
    run.advance(WARM)
    run.fork()
    run.advance(WARM + 1)
    assert run.history[-1]["step"] == WARM + 1
    said = "crop = 32 .*crop = 64 .*batch = 2"
    with pytest.raises(S2LError, match=said):
        new_trainer("s2l", batch=1, crop=32)
    new_trainer("s2l", batch=2, crop=32).advance(1)


def test_a_blank_image_gives_finite_losses():
    blank = [dataclasses.replace(one, image=np.full_like(one.image, 7)) for one in cells()]
    run = Trainer(config(), blank, progress=False)
    run.fit()
    assert all(np.isfinite(row["loss"]) for row in run.history)


def test_checkpoint_of_another_configuration_is_refused_by_field(tmp_path):
    run = new_trainer("s2l")
    run.advance(1)
    checkpoints.save(run, tmp_path)
    with pytest.raises(S2LError, match=r"averaging \(0.2 there, 0.5 here\)"):
        checkpoints.restore(new_trainer("s2l", averaging=0.5), tmp_path)


def test_what_an_image_lacks_is_named():
    drawn, bare = cell("drawn"), dataclasses.replace(cell("bare"), instances=None, scribbles=None)
    with pytest.raises(S2LError, match="bare: "):
        Trainer(config(), [drawn, bare])
    with pytest.raises(S2LError, match="'bare' "):
        Trainer(config("supervised"), [drawn, bare])
    with pytest.raises(S2LError, match=f"{config().dataset}, fold 0: "):
        Trainer(config(), [])


def test_labels_of_another_size_are_refused_before_they_are_learned_from():
    one = cell("a")
    with pytest.raises(S2LError, match=r"a: .*scribbles .*\(32, 64\).*\(64, 64\)"):
        Trainer(config(), [one], {"a": one.scribbles[:32]})
    with pytest.raises(S2LError, match=r"a: .*mask .*\(64, 32\)"):
        Trainer(config("supervised"), [dataclasses.replace(one, instances=one.instances[:, :32])])


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["s2l", "s2l-r1-r4", "supervised"])
def test_a_step_on_a_gpu_waits_for_nothing_until_its_losses_are_read(method):
    run = Trainer(config(method), cells(), device="cuda", progress=False)
    run.step = run.config.warmup_steps
    run.fork()
    for image in run.data.images:
        run.pseudo.update(image.id, (image.instances > 0).astype(np.float32))
    loader = Prefetcher(run.data, run.pseudo, run.device, partial(scale_labels, config=run.config))
    batch = loader.batch(run.step, prefetch_next=False)
    loader.close()

    # In bfloat16; and memory is taken.
    assert all(math.isfinite(value) for value in run._optimise(batch).values())
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.bfloat16):
            terms = loss_terms(run.model, batch, run.config, run.step)
        sum(terms.values()).backward()
        run.optimiser.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(term.isfinite() for term in terms.values())
