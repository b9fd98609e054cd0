"""Run folders and tables: what is done, what is stale,
and that every number follows from per_image.csv.
"""

import dataclasses
import html
import json
import re

import numpy as np
import pandas as pd
import pytest
from made_up import write_run

from conftest import script
from s2l_core.config import TABLE1_METHODS, RunConfig, S2LError
from s2l_core.profiles import DATASETS, REAL
from s2l_images.files import write_atomically, write_csv, write_json, write_text
from s2l_paper import paths
from s2l_paper.data.datasets import load_dataset, splits
from s2l_paper.running import results
from s2l_paper.tables import table1


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))


def fake_run(method, dataset="dsb-bf", fold=0, base=0.5, checkpoints=("best", "last"), **fields):
    config = RunConfig(dataset, method, fold=fold, profile="scratch", **fields)
    rows = []
    for checkpoint in checkpoints:
        for image in range(3):
            value = base + 0.1 * image - 0.05 * (checkpoint == "last")
            rows.append(
                {
                    "run_id": results.run_id(config),
                    "dataset": dataset,
                    "method": method,
                    "fold": fold,
                }
                | {"seed": config.seed, "annotator": config.annotator, "budget": 0.3}
                | {"checkpoint": checkpoint, "image": f"i{image}", "n_nuclei": 10}
                | {
                    "iou": value,
                    "mdice": value,
                    "mdice_official": value + 0.01,
                    "aji": value,
                    "f1": value,
                }
                | {"false_positives": image, "missed": 1, "merged": 2}
            )
    shown = {"i0": np.linspace(0, 1, 64).reshape(8, 8)}
    results.write_run(
        config,
        rows,
        [{"step": 1, "loss": 0.5}] if checkpoints != ("last",) else [],
        shown,
        seconds=1.0,
    )
    return config


def test_done_until_touched():
    config = fake_run("s2l")
    folder = paths.run_folder("scratch", results.run_id(config))
    assert results.is_done(config)
    assert not results.is_done(dataclasses.replace(config, max_regions=5))
    table = (folder / "per_image.csv").read_text()
    (folder / "per_image.csv").write_text(table.replace("0.5", "0.6", 1))
    assert not results.is_done(config)


@pytest.mark.parametrize("break_it", ["no config", "bad json", "no table", "other hash"])
def test_half_a_run_is_not_done(break_it):
    config = fake_run("s2l")
    folder = paths.run_folder("scratch", results.run_id(config))
    record = json.loads((folder / "config.json").read_text())
    if break_it == "no config":
        (folder / "config.json").unlink()
    elif break_it == "bad json":
        (folder / "config.json").write_text("{")
    elif break_it == "no table":
        (folder / "per_image.csv").unlink()
    else:
        (folder / "config.json").write_text(json.dumps(record | {"hash": "00000000"}))
    assert not results.is_done(config)


def test_hash_covers_config_splits_scribbles_and_numerics(monkeypatch, tmp_path):
    config = RunConfig("dsb-bf", "s2l", profile="scratch")
    hashes = {results.run_hash(config), results.run_hash(dataclasses.replace(config, seed=1))}
    monkeypatch.setitem(results.NUMERICS_VERSION, "networks", 10**6)
    hashes.add(results.run_hash(config))
    changed = tmp_path / "changed.json"
    changed.write_text("{}")
    monkeypatch.setattr(paths, "scribble_file", lambda *_: changed)
    hashes.add(results.run_hash(config))
    unseen = RunConfig("dsb-bf", "supervised", profile="scratch", foreground_crops=0.0)
    unaffected = results.run_hash(unseen)
    changed.write_text("[]")
    assert unaffected == results.run_hash(unseen)  # no crop of its is placed on a scribble
    monkeypatch.setattr(paths, "split_file", lambda *_: changed)
    hashes.add(results.run_hash(config))
    assert len(hashes) == 5


def test_methods_share_a_warmup_unless_it_differs():
    ids = {
        results.warmup_id(RunConfig("dsb-bf", m, profile="scratch"))
        for m in ("s2l", "s2l-r1-r4", "scribble-only")
    }
    assert len(ids) == 1
    assert results.warmup_id(RunConfig("dsb-bf", "s2l", profile="scratch", seed=1)) not in ids


def test_paper_table_holds_thirty_numbers():
    values = [value for pair in table1.PAPER_TABLE1.values() for value in pair]
    assert len(values) == 30 and len(set(table1.PAPER_TABLE1)) == 15
    assert set(table1.PAPER_TABLE1) == {(m, d) for m in TABLE1_METHODS for d in REAL}
    assert sum(values) == pytest.approx(23.0925)


def test_table1_is_the_mean_over_images_each_averaged_over_its_runs():
    fake_run("s2l", base=0.5)
    fake_run("s2l", fold=1, base=0.7)
    fake_run("supervised", base=0.65)
    fake_run("otsu", base=0.1, checkpoints=("last",))
    table = table1.table1(results.load_runs("scratch")).set_index(["method", "score"])
    assert table.loc[("s2l", "IoU"), "ours"] == pytest.approx((0.6 + 0.8) / 2)
    assert table.loc[("s2l", "IoU"), "spread"] == pytest.approx(
        np.std([0.6, 0.8], ddof=1), abs=1e-4
    )
    assert table.loc[("s2l", "mDice"), "ours"] == pytest.approx(0.71)
    assert table.loc[("s2l", "IoU"), "difference"] == pytest.approx(0.7 - 0.8108, abs=1e-4)
    assert np.isnan(table.loc[("supervised", "IoU"), "spread"])
    assert np.isnan(table.loc[("supervised", "IoU"), "rank"])  # stands apart
    assert table.loc[("s2l", "IoU"), "rank"] == 1
    assert "otsu" not in table.index.get_level_values("method")
    assert set(table1.summary(results.load_runs("scratch")).method) == {"s2l", "supervised", "otsu"}


def test_three_images_get_neither_interval_nor_test():
    fake_run("s2l", base=0.5)
    fake_run("supervised", base=0.7)
    table = table1.table1(results.load_runs("scratch"))
    assert table[["low", "high", "p_holm"]].isna().all(axis=None) and (table.images == 3).all()
    for text in (table1.table1_markdown(table), table1.table1_html(table)):
        assert not {"†", "["} & set(
            html.unescape(text).replace(table1.LEGEND, "").split("</style>")[-1]
        )


def test_a_run_with_settings_of_its_own_is_no_repetition():
    fake_run("s2l", base=0.5)
    fake_run("s2l", base=0.6, seed=1)
    fake_run("s2l", base=0.7, annotator=2)
    fake_run("s2l", base=0.1, pair_target="or")
    fake_run("s2l", base=0.1, annotator="skeleton")
    runs = results.load_runs("scratch")
    assert runs.run_id.nunique() == 3 and set(runs.variant) == {""}
    assert table1.table1(runs).set_index("score").loc["IoU", "ours"] == pytest.approx(0.7)
    runs = results.load_runs("scratch", variants=True)
    assert set(runs.variant) == {"", "pair_target=or", "annotator=skeleton"}
    wide = table1.summary(runs).query("checkpoint == 'best'").set_index("variant")
    assert wide.iou["pair_target=or"] == pytest.approx(0.2) and wide.runs[""] == 3


def test_another_rotation_is_a_repetition_and_old_tables_need_no_such_column():
    run = fake_run("s2l")
    fake_run("s2l", rotation=3)
    runs = results.load_runs("scratch")
    assert "rotation" not in results.read_run(paths.run_folder("scratch", results.run_id(run)))[0]
    assert set(runs.rotation) == {0, 3} and set(runs.variant) == {""}
    assert "rotation" not in run.choices()  # so that runs from before the field keep their names


@pytest.mark.parametrize(
    ("usual", "other", "expected"),
    [
        (0, 2, ""),
        (0, "attentive-1", "annotator=attentive-1"),
        ("attentive-0", "attentive-1", ""),
        ("attentive-0", 1, "annotator=1"),
        (0, "skeleton", "annotator=skeleton"),
    ],
)
def test_annotators_who_draw_alike_are_repetitions(monkeypatch, usual, other, expected):
    original = RunConfig.__init__

    def with_usual(self, *args, annotator=usual, **fields):
        original(self, *args, annotator=annotator, **fields)

    monkeypatch.setattr(RunConfig, "__init__", with_usual)
    config = RunConfig("dsb-bf", "s2l", profile="scratch", annotator=other)
    assert results.variant(config) == expected


def test_a_run_of_another_profile_is_refused():
    fake_run("s2l")
    config = RunConfig("dsb-bf", "s2l", profile="pretrained")
    results.write_run(config, [], [], {}, seconds=1.0)
    stray = paths.run_folder("pretrained", results.run_id(config))
    stray.rename(paths.run_folder("scratch", stray.name))
    with pytest.raises(S2LError, match="profile pretrained .*scratch"):
        results.load_runs("scratch")


def test_a_new_score_is_kept_and_old_tables_do_without():
    old = results.read_run(paths.run_folder("scratch", results.run_id(fake_run("s2l"))))[0]
    assert list(old) == results.COLUMNS
    config = RunConfig("dsb-bf", "s2l", fold=1, profile="scratch")
    rows = [{**row, "false_area": 0.25} for row in old.to_dict("records")]
    folder = results.write_run(config, rows, [{"step": 1}], {}, seconds=1.0)
    assert list(results.read_run(folder)[0]) == [*results.COLUMNS, "false_area"]


def test_only_variants_count_as_no_run():
    fake_run("s2l", pair_target="or")
    with pytest.raises(S2LError, match="make reproduce PROFILE=scratch"):
        results.load_runs("scratch")


def test_wide_table_has_every_score_and_checkpoint():
    fake_run("s2l")
    fake_run("s2l", fold=1)
    wide = table1.summary(results.load_runs("scratch")).set_index("checkpoint")
    assert set(wide.index) == {"best", "last"}
    assert (
        wide.merged["best"] == 2 and wide.missed["last"] == 1 and wide.false_positives["best"] == 1
    )
    assert {
        f"{name}_spread" for name in ("iou", "mdice", "mdice_official", "aji", "f1", "merged")
    } <= set(wide)


def test_images_without_nuclei_are_left_out_of_mdice_only():
    config = fake_run("s2l")
    runs = results.load_runs("scratch")
    runs.loc[runs.image == "i2", ["mdice", "mdice_official"]] = np.nan
    row = table1.summary(runs).query("checkpoint == 'best'").iloc[0]
    assert row.mdice == pytest.approx(0.55) and row.iou == pytest.approx(0.6)
    assert results.run_id(config) in row.run_ids


def test_table_as_text_marks_best_and_second_best():
    fake_run("s2l", base=0.5)
    fake_run("s2l-r1", base=0.6)
    fake_run("supervised", base=0.7)
    table = table1.table1(results.load_runs("scratch"))
    markdown, page = table1.table1_markdown(table), table1.table1_html(table)
    assert "| S2L + R1x1 | **0.710** | 0.707 | **0.700** | 0.815 |" in markdown
    assert "<u>0.600</u>" in markdown and "not run" not in markdown
    cells = markdown.split("\n\n")[1]
    assert cells.count("**") == 4 and cells.count("<u>") == 2
    seen = [
        set(re.findall(rf'<span style="{style}">([\d.]+)</span>', page))
        for style in (
            "color:#c1121f;font-weight:bold",
            "color:#1d4ed8;text-decoration:underline",
        )
    ]
    assert seen == [{"0.710", "0.700"}, {"0.610", "0.600"}] and "S2L + R1x1" in page
    assert "paper 0.815" in page


def test_images_that_more_runs_tested_do_not_weigh_more():
    """Two rotations with images of their own, one of them run twice."""
    fake_run("s2l", base=0.5)
    fake_run("s2l", base=0.6, rotation=1)
    fake_run("s2l", base=0.8, rotation=1, seed=1)
    fake_run("s2l-r1", base=0.9, rotation=1)
    runs = results.load_runs("scratch")
    runs["image"] = runs.image + "-" + runs.rotation.astype(str)
    wide = table1.summary(runs).query("shown").set_index("method").loc["s2l"]
    assert wide.iou == pytest.approx((0.6 + (0.7 + 0.9) / 2) / 2)
    assert wide.iou_spread == pytest.approx(np.std([0.7, 0.9], ddof=1))
    assert wide.images == 6

    # The other method has not met the harder images, so it is not called the best.
    table = table1.table1(runs).set_index(["method", "score"])
    assert table["rank"]["s2l", "IoU"] == 1 and np.isnan(table["rank"]["s2l-r1", "IoU"])
    assert table.ours["s2l", "IoU"] == pytest.approx(wide.iou)
    assert "3 to 6 test images (methods with fewer are not ranked)" in table1.table1_markdown(
        table.reset_index()
    )


def test_the_true_mask_stands_below_the_methods(monkeypatch):
    """On the images that the runs tested, and nowhere if they are made up."""
    fake_run("s2l", base=0.5)
    runs = results.load_runs("scratch")
    assert table1.TRUE_MASK not in table1.table1_markdown(table1.table1(runs))
    masks = pd.DataFrame({"mdice_official": [0.7, 0.8, 0.9, 0.1], "iou": 1.0})
    masks.index = [*sorted(set(runs.image)), "another image"]
    monkeypatch.setattr(table1, "_true_masks", lambda dataset: masks)
    table = table1.table1(runs)
    row = table1.table1_markdown(table).split("\n\n")[1].splitlines()[-1]
    assert row.replace(" ", "") == "|Truemask|0.800||1.000||"
    assert "True mask" in table1.table1_html(table)


@pytest.mark.parametrize("name", REAL)
def test_committed_true_masks_are_perfect_masks_of_every_image(name):
    masks, split = table1._true_masks(name), splits(name, 0)
    assert sorted(masks.index) == sorted(split.train + split.validation + split.test)
    assert (masks.iou == 1).all() and masks.mdice_official.dropna().between(0.2, 1).all()


@pytest.mark.real
def test_true_masks_are_scored_anew():
    made = script("data/make_true_masks.py").scores("dsb-bf", load_dataset("dsb-bf"))
    committed = table1._true_masks("dsb-bf").mdice_official.to_dict()
    assert made.set_index("image").mdice_official.to_dict() == pytest.approx(committed, nan_ok=True)


def test_what_a_test_lacks_is_told_with_the_table():
    fake_run("s2l", base=0.5)
    fake_run("supervised", base=0.6)
    fake_run("s2l", dataset="synthetic-bf", base=0.5)  # no evidence about the paper
    (line,) = [line for line in table1.told("scratch").splitlines() if line.startswith("missing ")]
    assert line.startswith("missing   for a test on DSB-BF: ") and "minutes on one core" in line
    assert "s2l fold 0, seed 1; " in line


def test_subset_is_labelled_everywhere():
    fake_run("s2l", dataset="dsb-fluo", subset=True)
    runs = results.load_runs("scratch", variants=True)
    assert set(runs.data) == {"DSB-Fluo (subset)"}
    assert "DSB-Fluo (subset)" in table1.table1_markdown(table1.table1(runs))
    assert (
        results.data_label(RunConfig("dsb-fluo", "s2l", profile="paper")) == DATASETS["dsb-fluo"][0]
    )


def test_no_runs_names_the_command():
    with pytest.raises(S2LError, match="make reproduce PROFILE=demo"):
        results.load_runs("demo")


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    (tmp_path / "kept.txt").write_text("old")
    with pytest.raises(OSError):
        write_atomically(tmp_path / "kept.txt", fail)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]
    assert (tmp_path / "kept.txt").read_text() == "old"


def test_current_tables_are_those_made_from_the_finished_runs():
    fake_run("s2l")
    assert not results.tables_are_current("scratch")
    write_csv(paths.results("scratch") / "table1.csv", table1.table1(results.load_runs("scratch")))
    write_text(paths.figures("scratch") / "figure2.png", "")
    assert results.tables_are_current("scratch")
    fake_run("s2l-r1")
    assert not results.tables_are_current("scratch")


def test_rival_has_no_steps():
    config = fake_run("otsu", checkpoints=("last",))
    per_image, steps = results.read_run(paths.run_folder("scratch", results.run_id(config)))
    assert steps.empty and len(per_image) == 3
    assert isinstance(per_image, pd.DataFrame)


def one_run():
    """The folder of a finished run."""
    write_run("s2l")
    config = RunConfig("dsb-bf", "s2l", profile="scratch")
    return paths.run_folder("scratch", results.run_id(config))


def test_a_run_of_another_version_is_refused_with_its_folder(home):
    """Neither left out without a word nor read by half."""
    folder = one_run()
    record = json.loads((folder / "config.json").read_text())
    record["config"]["pair_goal"] = "same"
    write_json(folder / "config.json", record)
    said = f"{folder}: .*'pair_goal'"
    with pytest.raises(S2LError, match=said):
        results.load_runs("scratch")
    record["config"] = ["dataset", "dsb-bf"]
    write_json(folder / "config.json", record)
    with pytest.raises(S2LError, match=f"{folder}: "):
        results.load_runs("scratch")


def test_a_table_that_lacks_a_column_is_refused(home):
    folder = one_run()
    table = pd.read_csv(folder / "per_image.csv").drop(columns=["merged", "aji"])
    table.to_csv(folder / "per_image.csv", index=False)
    with pytest.raises(S2LError, match="per_image.csv .*aji, merged"):
        results.read_run(folder)


def test_a_field_that_was_added_since_has_its_usual_value(home):
    folder = one_run()
    record = json.loads((folder / "config.json").read_text())
    assert record["config"].pop("rotation") == 0
    write_json(folder / "config.json", record)
    _, config = results.recorded(folder)
    assert config == RunConfig("dsb-bf", "s2l", profile="scratch")
