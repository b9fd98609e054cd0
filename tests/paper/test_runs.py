"""Runs: every method trains, is scored and written; warm-up and resume change nothing;
strokes reach them as they are configured.
"""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torture.kills import tiny

from s2l_core import objective
from s2l_core.config import IGNORE, METHODS, RunConfig, S2LError
from s2l_core.metrics import iou
from s2l_core.profiles import DATASETS, PAPER_LENGTHS
from s2l_images import checkpoints
from s2l_paper import paths
from s2l_paper.data import datasets
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.running import results, runs
from s2l_paper.running.kept_masks import kept_images, read_mask
from s2l_paper.running.runs import new_trainer, train, warm_up
from s2l_paper.scribbles import annotators
from s2l_paper.scribbles.annotators import scribbles_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    monkeypatch.setenv("S2L_PLAIN", "1")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The result of a run that was trained through, by its method."""
    folder, known = tmp_path_factory.mktemp("trained"), {}

    def of(method):
        if method not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("S2L_HOME", str(folder))
                known[method] = train(tiny(method), progress=False)
        return known[method]

    return of


def timeless(steps):
    return steps.drop(columns=[column for column in steps if "seconds" in column])


def assert_same(first, second):
    """Two runs left the same scores and, where there is a network, the same weights."""
    one, two = (load_file(run.folder / "model.safetensors") for run in (first, second))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    pd.testing.assert_frame_equal(timeless(first.steps), timeless(second.steps))
    pd.testing.assert_frame_equal(first.per_image, second.per_image)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_scores(trained, monkeypatch, method):
    result = trained(method)
    assert list(result.per_image.columns) == results.COLUMNS + results.OPTIONAL
    kinds = {"last"} if METHODS[method].baseline else {"best", "last"}
    assert set(result.per_image.checkpoint) == kinds
    assert result.per_image.iou.between(0, 1).all()

    names = {file.name for file in result.folder.iterdir()}
    assert {"config.json", "env.json", "steps.csv"} <= names
    assert not [name for name in names if name.startswith(".") or name.endswith(".tmp")]
    environment = json.loads((result.folder / "env.json").read_text())
    assert environment["peak_memory_mib"] > 100 and environment["threads"] == 1

    monkeypatch.setenv("S2L_HOME", str(result.folder.parents[3]))
    assert results.is_done(result.config)


def test_a_run_keeps_what_it_found_on_every_test_image(trained):
    """The masks are those of the checkpoint that Table 1 shows; the first images are calibrated."""
    result = trained("s2l")
    test = list(split_of(result.config).test)
    kept = kept_images(result.folder)
    assert set(kept) == set(test)
    shown = result.per_image[result.per_image.checkpoint == result.config.selection]
    truth = {cell.id: cell.instances for cell in images_of(result.config, test)}
    for name, score in shown.set_index("image").iou.items():
        assert iou(truth[name] > 0, read_mask(kept[name])) == pytest.approx(score, abs=1e-5)

    counts = results.read_calibration(result.folder)
    assert list(dict.fromkeys(counts.image)) == test[: results.CALIBRATED]
    for name, own in counts.groupby("image"):
        assert own.pixels.sum() == truth[name].size
        assert own.nuclei.sum() == (truth[name] > 0).sum()
        assert (own.predicted * results.calibration.BINS).sub(own.bin).between(0, 1).all()


def test_a_run_from_the_shared_warmup_that_was_cut_is_the_same(trained, home):
    config = tiny("s2l-r1-r4")
    warmup = warm_up(config, progress=False)
    assert warm_up(tiny("s2l"), progress=False) == warmup  # found, not trained again

    folder = paths.run_folder("smoke", results.run_id(config))
    cut = new_trainer(config, progress=False)
    checkpoints.restore(cut, warmup)
    cut.fork()
    cut.advance(6)
    checkpoints.save(cut, folder)
    with pytest.raises(S2LError, match="resume=True"):
        train(config, progress=False)

    assert_same(train(config, resume=True, progress=False), trained("s2l-r1-r4"))
    assert not (folder / "checkpoint.pt").exists()


def test_a_finished_run_is_read_not_trained_again(trained, monkeypatch, capsys):
    first = trained("otsu")
    monkeypatch.setenv("S2L_HOME", str(first.folder.parents[3]))
    monkeypatch.setattr(runs, "fit_baseline", lambda config: pytest.fail("trained again"))
    again = train(first.config, progress=False)
    pd.testing.assert_frame_equal(first.per_image, again.per_image)
    assert "finished before" in capsys.readouterr().out


def test_a_run_that_stops_leaves_no_scores(monkeypatch):
    monkeypatch.setattr(objective, "partial_bce", lambda logits, *_: logits.sum() * float("nan"))
    with pytest.raises(S2LError, match="'loss': nan.*synthetic-fluo-"):
        train(tiny("supervised"), progress=False)
    assert not list((paths.results("smoke") / "runs").glob("*/per_image.csv"))


def test_a_folder_with_one_image_and_nothing_to_test_on(tmp_path):
    folder = tmp_path / "one"
    cell = datasets.load_dataset("synthetic-fluo", images=1, image_size=64)[0]
    labels = np.full(cell.image.shape[:2], IGNORE, np.uint8)
    labels[:4], labels[cell.instances > 0] = 0, 1
    for name, picture in (("images", cell.image), ("scribbles", labels)):
        (folder / name).mkdir(parents=True)
        Image.fromarray(picture).save(folder / name / "a.png")

    config = dataclasses.replace(tiny("s2l-r1-r4"), dataset=str(folder))
    result = train(config, progress=False)
    assert result.per_image.empty and len(result.steps) == 8 and result.steps.loss.notna().all()
    assert "validation_iou" not in result.steps and results.is_done(config)
    assert (result.folder / "model.safetensors").exists()  # the last weights


def test_selection_decides_what_tables_show():
    result = train(tiny("scribble-only", selection="last"), progress=False)
    rows = results.load_runs("smoke", variants=True)
    assert set(rows[rows.run_id == result.folder.name].query("shown").checkpoint) == {"last"}


def drawn(method="s2l", **fields):
    """Scribbles of the training images of a configuration."""
    config = tiny(method, **fields)
    return scribbles_of(config, images_of(config, split_of(config).train))


def test_the_annotator_reaches_the_run():
    usual, other, skeleton = (drawn(**f) for f in ({}, {"annotator": 1}, {"annotator": "skeleton"}))
    name = next(iter(usual))
    assert not np.array_equal(usual[name], other[name])
    assert not np.array_equal(usual[name], skeleton[name])


@pytest.mark.parametrize("annotator", [1, "skeleton"])
def test_strokes_are_those_of_the_annotator_whatever_the_seed_of_training(annotator):
    """So that budgets stay nested, and the shipped 30 % are among the 50 % of any run."""
    first, second = (drawn(seed=seed, annotator=annotator) for seed in (0, 1))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_more_budget_adds_strokes_and_takes_none():
    """D16."""
    many = {"image_size": 128}  # nuclei
    levels = [drawn(budget=budget, **many) for budget in (0.1, 0.3, 0.5, 1.0)]
    trainer = new_trainer(tiny("s2l", **many), progress=False)
    assert all(np.array_equal(levels[1][name], trainer.data.scribbles[name]) for name in levels[1])
    for less, more in zip(levels, levels[1:], strict=False):
        before, after = ({name: s[name] != IGNORE for name in s} for s in (less, more))
        assert all((after[name] >= before[name]).all() for name in before)
        assert sum(after[name].sum() - before[name].sum() for name in before) > 0


def test_an_image_without_a_scribble_is_named(monkeypatch):
    monkeypatch.setattr(annotators, "strokes_of", lambda *_: [])
    with pytest.raises(S2LError, match="synthetic-fluo-"):
        train(tiny("s2l"), progress=False)


def test_paper_lengths_follow_from_the_splits():
    for dataset, lengths in PAPER_LENGTHS.items():
        for fold in range(DATASETS[dataset][1]):
            epoch = -(-len(datasets.splits(dataset, fold).train) // 30)
            assert lengths["warmup_steps"] == 100 * epoch and lengths["main_steps"] == 400 * epoch


def test_the_size_of_synthetic_data_is_part_of_a_run():
    names = {results.run_id(tiny("otsu", images=count)) for count in (5, 6)}
    assert len(names) == 2 and RunConfig("dsb-bf", "otsu", images=9).images == 0


@pytest.mark.parametrize(("allowed", "asked", "expected"), [("1", 0, 1), ("1", 2, 2), ("", 3, 3)])
def test_threads_are_as_many_as_are_allowed_unless_asked_for(
    monkeypatch, one_thread, allowed, asked, expected
):
    """More threads than free cores wait for each other, twenty times as long as one would take."""
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    runs.set_threads(asked)
    assert torch.get_num_threads() == expected
