"""The charts show the numbers they are given: every image, every run, their means."""

import itertools

import numpy as np
import pandas as pd
import pytest
from made_up import write_run

from s2l_core.config import METHODS, RunConfig
from s2l_paper.figures import charts
from s2l_paper.running import results


def test_ablation_shows_every_image_the_mean_and_the_paper():
    rows = [
        {
            "data": data,
            "dataset": name,
            "method": method,
            "run_id": f"{name}_{method}",
            "fold": 0,
            "rotation": 0,
            "seed": 0,
        }
        | {
            "annotator": "0",
            "variant": "",
            "checkpoint": c,
            "shown": c == "best",
            "image": str(k),
            "iou": iou,
            "mdice_official": iou,
        }
        for data, name in (("DSB-BF", "dsb-bf"), ("Synthetic BF", "synthetic-bf"))
        for method in (("s2l", "supervised") if name == "dsb-bf" else ("s2l",))
        for c, shift in (("best", 0), ("last", 0.1))
        for k, iou in enumerate((0.2 + shift, 0.6 + shift))
    ]
    runs = pd.DataFrame(rows).reindex(
        columns=[*rows[0], *(s for s in results.SCORES if s not in rows[0])]
    )
    figure = charts.ablation_bars(runs.fillna(0.0))
    iou, mdice, synthetic, _ = figure.axes
    assert [ax.get_title() for ax in (iou, mdice)] == ["DSB-BF: IoU", "DSB-BF: mDice"]
    assert sorted(iou.collections[0].get_offsets()[:, 0]) == pytest.approx([0.2, 0.6])
    marks = {line.get_label(): float(line.get_xdata()[0]) for line in iou.lines[:2]}
    assert marks == pytest.approx({"mean": 0.4, "paper": 0.8108})
    assert float(mdice.lines[1].get_xdata()[0]) == 0.6980
    assert [line.get_label() for line in synthetic.lines] == ["mean"]
    assert "not run" in [text.get_text() for text in synthetic.texts]
    assert [label.get_text() for label in iou.get_yticklabels()] == [
        METHODS[n].label for n in ("s2l", "supervised")
    ]


def test_the_forest_shows_every_run_the_interval_and_the_paper():
    rng, rows = np.random.default_rng(0), []
    gains = {"s2l": 0.0, "s2l-r1": 0.05, "scribble-only": -0.02}
    for (method, gain), seed in itertools.product(gains.items(), range(3)):
        run = {"data": "DSB-BF", "dataset": "dsb-bf", "method": method, "seed": seed}
        run |= {"fold": 0, "rotation": 0, "annotator": "0", "shown": True, "variant": ""}
        run["run_id"] = f"{method}_s{seed}"
        for image in range(12):
            score = 0.5 + 0.02 * image + gain + 0.002 * rng.standard_normal()
            rows.append(run | {"image": str(image), "iou": score, "mdice_official": score})
    runs = pd.DataFrame(rows)
    figure = charts.difference_forest(runs)
    mdice, iou = figure.axes
    shown = [label.get_text() for label in mdice.get_yticklabels()]
    assert shown == ["S2L + R1x1", "Scribbles only"]
    assert mdice.get_title() == "DSB-BF: mDice, difference from S2L (12 images)"
    lines = {}
    for line in iou.lines:
        lines.setdefault(line.get_label(), []).append(line)

    # One dot for each run, at its difference; the interval around their mean; the paper's value.
    means = runs.groupby(["method", "seed"]).iou.mean()
    assert lines["one training"][0].get_xdata() == pytest.approx(
        (means["s2l-r1"] - means["s2l"]).tolist()
    )
    ours = "ours (filled: p < 0.05, corrected)"
    low, high = lines["95 % interval"][0].get_xdata()
    assert low < lines[ours][0].get_xdata()[0] < high
    assert lines["paper"][0].get_xdata()[0] == pytest.approx(0.8153 - 0.8108)
    assert lines[ours][0].get_markerfacecolor() == "black"  # differs significantly
    assert set(figure.run_ids) == set(runs.run_id)


def test_the_cost_picture_shows_every_run_and_the_median(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    for fold, iou in enumerate((0.4, 0.5, 0.7)):
        write_run("s2l", fold=fold, iou=iou)
    write_run("otsu", iou=0.1)
    figure = charts.cost_picture(results.load_runs("scratch"), "scratch")
    (ax,) = figure.axes
    small, median, *otsu = ax.lines
    assert list(small.get_xdata()) == [1.5] * 3  # a minute and half a minute of warm-up
    assert sorted(small.get_ydata()) == pytest.approx([0.42, 0.52, 0.72])
    assert median.get_ydata()[0] == pytest.approx(0.52) and len(otsu) == 2
    assert "Otsu: 0.12 ↓" in [text.get_text() for text in ax.texts]  # at the edge, not in scale
    assert otsu[1].get_ydata()[0] == pytest.approx(0.42 - 0.03)
    assert median.get_label() == "S2L" and ax.get_xlabel() == "core-minutes"
    markers = [line.get_marker() for line in (median, otsu[1])]
    assert len(set(markers)) == 2 and len(figure.run_ids) == 4


def test_validation_curves_show_the_mean_and_the_spread_of_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    wrong = {"s2l": (0.1, 0.3), "supervised": (np.nan, np.nan)}
    for method, fold, iou in (
        ("s2l", 0, 0.4),
        ("s2l", 1, 0.6),
        ("supervised", 0, 0.8),
        ("otsu", 0, None),
    ):
        right = 1 - wrong.get(method, (0,))[fold]
        config = RunConfig("dsb-bf", method, fold=fold, profile="scratch")
        steps = [
            {"step": 5, "stage": "main", "validation_iou": iou, "accuracy": right},
            {"step": 6, "stage": "main", "validation_iou": np.nan, "accuracy": np.nan},
            {"step": 10, "stage": "main", "validation_iou": (iou or 0) + 0.1, "accuracy": right},
        ]
        row = dict.fromkeys(results.COLUMNS, 0.5) | {
            "image": "a",
            "checkpoint": "best",
            "n_nuclei": 3,
        }
        row |= {
            "run_id": results.run_id(config),
            "dataset": "dsb-bf",
            "method": method,
            "fold": fold,
            "seed": 0,
        }
        results.write_run(config, [row | {"annotator": "0"}], steps if iou else [], {}, seconds=1)
    figure = charts.validation_curves(results.load_runs("scratch"), "scratch")
    validation, ending, errors = figure.axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in validation.lines}
    assert drawn == {
        METHODS["s2l"].label: pytest.approx([0.5, 0.6]),
        METHODS["supervised"].label: [0.8, 0.9],
    }
    assert len(figure.run_ids) == 3
    assert len({line.get_linestyle() for line in validation.lines}) == 2  # besides colours

    # The band reaches from the lowest run to the highest; the end stands on a scale of its own.
    band = validation.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.4, 0.7))
    assert [line.get_ydata().tolist() for line in ending.lines] == [[pytest.approx(0.6)], [0.9]]
    curves = [line.get_ydata().tolist() for line in errors.lines]
    assert curves == [pytest.approx([0.2] * 2)]
    assert validation.get_title() == "DSB-BF"
