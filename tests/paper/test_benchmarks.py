"""Each topic of `make bench` runs at a tiny scale;
plain counterparts agree with the package; reports judge rightly.
"""

import importlib
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import harness, imports, inputs, loss, report, scores, scribbles
from benchmarks.__main__ import main
from benchmarks.harness import FOLDER, TOPICS, Row, Scale, absolute, interleaved, ratio
from s2l_core.losses import contrastive_loss
from s2l_core.metrics import score

SPAWNING = {
    "loss",
    "prediction",
    "options",
}  # would start a fresh process for each of their figures of memory


QUICK = ("loss", "scores")  # the others train, predict or start processes


@pytest.mark.parametrize(
    "topic",
    [
        pytest.param(topic, marks=() if topic in QUICK else pytest.mark.long)
        for topic in TOPICS["smoke"]
    ],
)
@pytest.mark.usefixtures("one_thread")
def test_a_topic_runs_at_a_tiny_scale(topic, tmp_path, monkeypatch):
    """One call of each case; the rows are written, drawn and put into the README."""
    module = importlib.import_module(f"benchmarks.{topic}")
    if topic in SPAWNING:
        monkeypatch.setattr(
            module, "in_fresh_process", lambda prepare, *values: harness._measured(prepare, values)
        )
    if topic == "imports":
        monkeypatch.setattr(
            module, "python", lambda program, **_: compile(program, topic, "exec") and "False"
        )
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    monkeypatch.setenv("S2L_DATA", str(tmp_path))  # no archive: the synthetic set stands in
    scale = Scale("smoke", tmp_path)
    rows = module.measure(scale)
    assert rows and all(
        math.isfinite(row.value) and row.low <= row.value <= row.high for row in rows
    )
    assert all(row.met in ("yes", "no") for row in rows if row.bar)
    if topic not in ("cost", "options", "rounds", "reach"):  # figures without a promise
        assert any(row.bar for row in rows) or topic == "reading"
    table = report.record(scale, topic, rows, 0.0, 1.0)
    assert list(table.case) == [row.case for row in rows]
    report.write(table, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert all(row.case in text for row in rows) and f"![{topic}]({topic}_smoke.png)" in text
    assert (tmp_path / f"{topic}_smoke.png").stat().st_size > 5000
    if topic == "cost":
        assert "convolution" in (tmp_path / "profile_main.txt").read_text()
        assert all(
            any(f", {name}, " in row.case for row in rows)
            for name in ("dsb-bf", "dsb-fluo", "monuseg")
        )


def test_every_topic_belongs_to_a_scale():
    files = {path.stem for path in FOLDER.glob("*.py")} - {
        "__main__",
        "campaign",
        "harness",
        "inputs",
        "report",
    }
    assert files == set(TOPICS["smoke"]) == {*TOPICS["bench"], *TOPICS["full"]}


def test_a_wrong_topic_is_answered_with_the_nearest(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "loss", "stps"])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr()
    assert "'stps'" in shown.err and "'steps'" in shown.err and not shown.out, "nothing is measured"


@pytest.mark.long
def test_tables_do_without_pytorch():
    assert not imports.loads_torch("06_table1")
    assert (
        imports.python("import s2l_paper.running.runs, sys; print('torch' in sys.modules)")
        == "True\n"
    )


def test_a_fresh_process_tells_its_memory():
    spent, memory = harness.in_fresh_process(loss.prepare, loss.plain_loss, 1000)
    assert 0 < spent < 600
    assert 15 < memory < 400  # a matrix of 2000 x 2000 takes 15 MiB, a few of them are needed


@pytest.mark.parametrize("count", [3, 40])
def test_plain_loss_is_ours(count):
    z, y = loss.embeddings(count)
    ours, plain = (
        loss.value_and_gradient(each, z, y) for each in (contrastive_loss, loss.plain_loss)
    )
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-8)


def test_products_are_those_of_all_pairs(monkeypatch):
    monkeypatch.setattr(loss, "TILE", 16)
    z, _ = loss.embeddings(20)
    expected = (z @ z.T) @ z
    for i in range(0, 40, 16):  # of a tile on the diagonal both gradients are computed
        a = z[i : i + 16]
        expected[i : i + 16] += (a @ a.T) @ a
    torch.testing.assert_close(loss.products(z), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_plain_scores_are_ours(seed):
    truth = inputs.nuclei(120, 12, (8, 14), seed)
    mask = np.roll(truth > 0, 3, 0) & (truth != 1)
    ours, plain = score(truth, mask), scores.plain_scores(truth, mask)
    assert ours.keys() == plain.keys()
    assert list(ours.values()) == pytest.approx(list(plain.values()), abs=1e-9)


def test_both_plain_skeleton_rules_are_one():
    instances = inputs.nuclei(64, 5, (6, 10))
    drawn = [
        scribbles.plain_skeletons(instances, 0.5, 0, relabel=relabel) for relabel in (True, False)
    ]
    assert (drawn[0] == drawn[1]).all() and {0, 1} <= set(np.unique(drawn[0]))
    assert (instances[drawn[0] == 1] > 0).all() and (instances[drawn[0] == 0] == 0).all()


@pytest.mark.parametrize(
    ("bar", "ours", "theirs", "value", "met"),
    [
        ("<= 1.2", [1.0, 3.0, 2.0], [2.0, 2.0, 2.0], 1.0, "yes"),
        ("<= 1.2", [2.5], [2.0], 1.25, "no"),
        (">= 12", [1.0], [12.0], 12.0, "yes"),
        (">= 12", [1.0], [11.9], 11.9, "no"),
        ("", [1.0], [2.0], 0.5, ""),
    ],
)
def test_a_bar_is_met_or_missed(bar, ours, theirs, value, met):
    row = ratio("a", ours, "b", theirs, bar)
    assert row.value == pytest.approx(value) and row.met == met
    assert absolute("a", [row.value], bar).met == met


def test_what_is_quick_has_seven_rounds_and_what_is_slow_fewer(monkeypatch):
    clock, calls = [0.0], {"quick": 0, "slow": 0, "endless": 0}

    def case(name, takes):
        calls[name] += 1
        clock[0] += takes

    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    takes = {"quick": 1.0, "slow": 5.0, "endless": 60.0}
    spent = interleaved({name: partial(case, name, value) for name, value in takes.items()})
    assert spent == {"quick": [1.0] * 7, "slow": [5.0] * 3, "endless": [60.0]}
    assert calls == {"quick": 8, "slow": 4, "endless": 2}
    assert ratio("quick", spent["quick"], "slow", spent["slow"], ">= 2").rounds == 3


def test_the_report_names_what_is_missed(tmp_path):
    good, bad = (
        Row(name, 1, 1, 1, 7, bar, 1)
        for name, bar in (("quick one", "<= 2"), ("slow one", "<= 0.5"))
    )
    report.write(
        report.record(Scale("bench", tmp_path), "steps", [good, bad], 0.25, 12.0), tmp_path
    )
    text = (tmp_path / "README.md").read_text()
    assert "1 of 2 bars are met" in text and "Other processes took 25% of the machine" in text
    assert f"12 seconds: {report.machine()}" in text
    assert f"Missed: slow one. Reason: {report.REASONS['steps']}" in text
    assert [ax.get_xlabel() for ax in report.draw(report.read(tmp_path / "results.csv")).axes] == [
        "seconds"
    ]
    again = report.record(
        Scale("bench", tmp_path), "steps", [good], 0.0, 1.0
    )  # in place of the older rows
    assert list(again.case) == ["quick one"]


def test_committed_results_are_what_the_readme_shows():
    rows = report.read(FOLDER / "results.csv")
    text = (FOLDER / "README.md").read_text()
    assert len(rows) > 50 and all(report._line(row) in text for row in rows.itertuples())
    measured = {(row.topic, row.scale) for row in rows.itertuples()}
    assert measured == {(topic, scale) for scale in ("bench", "full") for topic in TOPICS[scale]}
    assert {file.name for file in FOLDER.glob("*.png")} == {
        f"{topic}_{scale}.png" for topic, scale in measured
    }
    assert all(rows.machine)


def test_what_was_lost_is_drawn_too():
    rows = pd.DataFrame(
        [absolute("gained", [-0.2, -0.1, 0.3], ">= 0", unit="IoU"), absolute("plain", [0.5])]
    )
    rows["met"] = ["no", ""]
    for ax in report.draw(rows).axes:
        low, high = ax.get_xlim()
        points = np.concatenate([line.get_xdata() for line in ax.lines[:2]])
        assert low <= min(points) and max(points) <= high
