"""Figures: what they show is read off their axes, and the marks of Fig.
2 are checked on constructed disagreements.
"""

import json
import types

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Circle
from PIL import Image

from s2l_core.config import R1, R4, RunConfig, S2LError
from s2l_core.images import CellImage
from s2l_core.metrics import score
from s2l_paper import paths
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.figures import figure1, figure2, figure2_windows, plotting, run_pictures
from s2l_paper.running import results

PROFILE = "smoke"
DATA = "synthetic-fluo"


def texts(figure):
    found = [text.get_text() for ax in figure.axes for text in [*ax.texts, ax.title]]
    return [*found, *(text.get_text() for text in figure.texts)]


def write_run(config, cell, probability, checkpoints=("best", "last")):
    keys = {
        "run_id": results.run_id(config),
        "dataset": config.dataset,
        "method": config.method,
        "fold": config.fold,
    }
    keys |= {"seed": 0, "annotator": 0, "budget": 0.3, "image": cell.id} | score(
        cell.instances, probability
    )
    rows = [keys | {"checkpoint": name} for name in checkpoints]
    return results.write_run(config, rows, [], {cell.id: probability}, seconds=1)


@pytest.fixture(scope="module")
def cell():
    config = RunConfig(DATA, "s2l", profile=PROFILE)
    return images_of(config, split_of(config).test[:1])[0]


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    return tmp_path


def empty_corner(truth, side=12):
    """A square of background, `side` pixels wide: the first without any nucleus."""
    free = np.lib.stride_tricks.sliding_window_view(truth == 0, (side, side)).all((2, 3))
    row, column = np.argwhere(free)[0]
    return np.s_[row : row + side, column : column + side]


@pytest.fixture
def runs(home, cell):
    """Three runs that are right everywhere, but S2L sees a square where nothing is and +R1x1 misses
    a nucleus.
    """
    square, largest = (
        empty_corner(cell.instances),
        np.bincount(cell.instances.ravel())[1:].argmax() + 1,
    )
    maps = {name: (cell.instances > 0).astype(float) for name in ("supervised", "s2l", "s2l-r1")}
    maps["s2l"][square] = 1
    maps["s2l-r1"][cell.instances == largest] = 0
    for name, probability in maps.items():
        write_run(RunConfig(DATA, name, profile=PROFILE), cell, probability)
    return square, largest


# --- building blocks
# ----------------------------------------------------------------------------------------------


def test_display_makes_dark_images_visible():
    image = np.random.default_rng(0).integers(3, 12, (40, 40, 3), np.uint8)
    shown = plotting.display(image)
    assert shown.dtype == np.uint8 and shown.min() == 0 and shown.max() == 255


def test_touching_nuclei_differ_in_colour():
    labels = np.kron(
        np.arange(1, 37).reshape(6, 6) * 3, np.ones((8, 8), int)
    )  # 36 squares in contact; label gaps
    labels[:, 24:26] = 0  # a gap of two pixels is as good as contact
    shown = plotting.colour_instances(labels)
    assert (shown[labels == 0] == 0).all() and (shown[labels > 0].sum(1) > 0).all()
    for a, b in (
        (np.s_[4::8, 3:-8:8], np.s_[4::8, 11::8]),
        (np.s_[4:-8:8, 4::8], np.s_[12::8, 4::8]),
    ):
        assert (shown[a] != shown[b]).any(-1).all()
    assert (plotting.colour_instances(np.zeros((4, 4), np.int32)) == 0).all()


def test_error_map_tells_the_four_cases():
    truth = np.zeros((1, 8), int)
    truth[0, 1:4], truth[0, 4:6] = 1, 2
    probability = np.array([[0, 0.4, 0.9, 0.9, 0.9, 0.9, 0.6, 0.5]])
    shown = plotting.error_map(truth, probability)[0]
    names = [
        next((n for n, c in plotting.TINTS.items() if (plotting.rgb(c) == p).all()), "")
        for p in shown
    ]
    joined = "touching nuclei joined"
    assert names == ["", "missed", "right", joined, joined, "right", "false positive", ""]


def test_overlay_draws_strokes_outlines_and_veil():
    image, scribbles = np.full((20, 20, 3), 50, np.uint8), np.full((20, 20), 255, np.uint8)
    scribbles[2], scribbles[5] = 0, 1
    nucleus = np.zeros((20, 20), np.int32)
    nucleus[10:18, 10:18] = 1
    picture = plotting.overlay(image, scribbles, nucleus).axes[0].images[0].get_array()
    assert (picture[2] == plotting.rgb(plotting.BACKGROUND)).all() and (
        picture[5] == plotting.rgb(plotting.FOREGROUND)
    ).all()
    assert (picture[10, 10:18] == plotting.rgb(plotting.MARK)).all() and (
        picture[14, 14] == picture[0, 0]
    ).all()
    veiled = plotting.overlay(image, probability=(nucleus > 0) * 1.0).axes[0].images[0].get_array()
    assert (veiled[14, 14] > veiled[0, 0]).any() and (veiled[0, 0] == picture[0, 0]).all()


def test_gallery(cell):
    figure = plotting.gallery([cell] * 5, columns=3)
    assert sum(bool(ax.images) for ax in figure.axes) == 5 and cell.id in texts(figure)
    assert plotting.MONUSEG_NOTE not in texts(figure)
    monuseg = plotting.gallery([CellImage("TCGA-XX", cell.image, None)], ["a title"])
    assert plotting.MONUSEG_NOTE in texts(monuseg) and "a title" in texts(monuseg)
    with pytest.raises(S2LError):
        plotting.gallery([])


# --- the rule of Fig. 2
# -------------------------------------------------------------------------------------------


def one_disagreement(inside, wrong=0):
    """Truth and three predictions that agree with it, but one is wrong in rows 40-51,
    columns 60-75.
    """
    truth = np.zeros((100, 120), np.int32)
    truth[10:20, 10:20] = 1
    if inside:
        truth[40:52, 60:76] = 2
    predictions = [truth > 0 for _ in range(3)]
    predictions[wrong] = predictions[wrong].copy()
    predictions[wrong][40:52, 60:76] ^= True
    return truth, predictions


@pytest.mark.parametrize("wrong", [0, 1, 2])
@pytest.mark.parametrize(("inside", "kind"), [(False, "arrow"), (True, "circle")])
def test_a_single_disagreement_gets_the_only_mark(inside, kind, wrong):
    strength = figure2_windows.disagreement(*one_disagreement(inside, wrong))
    assert strength[int(inside)][40:52, 60:76].min() == 2 and strength.sum() == 2 * 12 * 16
    ((found, (row, column), radius),) = figure2_windows.marks(strength)
    assert found == kind and 40 <= row <= 51 and 60 <= column <= 75
    assert kind == "arrow" or ((row, column) == (45.5, 67.5) and radius > 7.5)


def test_the_rule_treats_methods_alike_and_needs_disagreement():
    truth, predictions = one_disagreement(True)
    predictions[1] = predictions[1].copy()
    predictions[1][70:90, 20:40] = True
    strength = figure2_windows.disagreement(truth, predictions)
    assert (strength == figure2_windows.disagreement(truth, predictions[::-1])).all()
    assert {kind for kind, _, _ in figure2_windows.marks(strength)} == {"arrow", "circle"}
    all_wrong = [~(truth > 0)] * 3
    for alike in (all_wrong, predictions[:1], []):
        assert (
            figure2_windows.disagreement(truth, alike).sum() == 0
            and figure2_windows.marks(figure2_windows.disagreement(truth, alike)) == []
        )


def test_rims_do_not_count():
    truth, predictions = one_disagreement(True)
    predictions[0] = truth > 0
    predictions[1] = predictions[1].copy()
    predictions[1][36:56, 56:80] = True  # a rim of 4 pixels around the nucleus
    assert figure2_windows.disagreement(truth, predictions).sum() == 0
    predictions[1][35:57, 55:81] = True  # of 5
    assert figure2_windows.disagreement(truth, predictions).sum() > 0


def test_arrow_points_into_a_crescent():
    strength = np.zeros((2, 80, 80), int)
    rows, columns = np.ogrid[:80, :80]
    distance = np.hypot(rows - 40, columns - 40)
    strength[0] = (distance < 30) & (distance > 18) & (rows < 45)
    ((_, (row, column), _),) = figure2_windows.marks(strength)
    assert strength[0][int(row), int(column)]


def test_window_holds_the_most_disagreement():
    strength = np.zeros((300, 400), int)
    strength[250:260, 380:390], strength[0:5, 0:5] = 1, 1
    value, (rows, columns) = figure2_windows.best_window(strength)
    assert (
        value == 100
        and rows.stop - rows.start == columns.stop - columns.start == figure2_windows.WINDOW
    )
    assert rows.start <= 250 and rows.stop >= 260 and columns.start <= 380 and columns.stop >= 390

    # Where nuclei are, a window holds some: the next best one, though methods differ less there.
    truth = np.zeros(strength.shape, int)
    for label in range(1, figure2_windows.FEWEST_NUCLEI + 1):
        truth[270:273, 6 * label : 6 * label + 3] = label
    centres = figure2_windows.nucleus_centres(truth)
    value, (rows, columns) = figure2_windows.best_window(strength, side=100, centres=centres)
    assert rows.start <= 270 < rows.stop and columns.start <= 7 and columns.stop > 91

    value, window = figure2_windows.best_window(strength, side=1000)
    assert value == 100 and window == np.s_[0:300, 90:390]


def test_figure2_shows_runs_marks_and_gaps(runs, cell, home):
    square, largest = runs
    figure = figure2.figure2(PROFILE)
    panels = figure.axes
    titles = [
        "input",
        "truth, per nucleus",
        "Supervised",
        "S2L",
        "S2L + R1x1",
        "S2L + R4x4",
        "S2L + R1x1 + R4x4",
    ]
    assert [ax.get_title() for ax in panels] == titles
    assert [bool(ax.images) for ax in panels] == [True] * 5 + [False] * 2
    assert all("not run" in [text.get_text() for text in ax.texts] for ax in panels[5:])
    assert (
        panels[3].images[0].get_array()[square] == plotting.rgb(plotting.TINTS["false positive"])
    ).all()
    missed = panels[4].images[0].get_array()[cell.instances == largest]
    assert (missed == plotting.rgb(plotting.TINTS["missed"])).all()
    for ax in (panels[0], *panels[2:5]):
        (circle,) = [patch for patch in ax.patches if isinstance(patch, Circle)]
        (arrow,) = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
        column, row = map(int, arrow.xy)
        assert (
            square[0].start <= row < square[0].stop and square[1].start <= column < square[1].stop
        )
        pixels = np.argwhere(cell.instances == largest)
        assert (np.hypot(*(pixels - circle.center[::-1]).T) < 1.5 * circle.radius).all()
    assert not panels[1].patches
    printed = texts(figure)
    assert "IoU 1.00   mDice 1.00\nwindow: IoU 1.00" in printed
    assert any("Synthetic Fluo" in text for text in printed)
    tested = len(split_of(RunConfig(DATA, "s2l", profile=PROFILE)).test)
    assert any(text.endswith(f"chosen among 1 of {tested} test images") for text in printed)
    assert any(f"1 of {tested} on Syn" in text for text in printed)
    assert "50 px" in printed


def test_saved_png_names_its_runs_and_scores(runs, home, cell):
    file = plotting.save(figure2.figure2(PROFILE), paths.figures(PROFILE) / "figure2.png", dpi=40)
    ids = [
        results.run_id(RunConfig(DATA, name, profile=PROFILE))
        for name in ("supervised", "s2l", "s2l-r1")
    ]
    info = Image.open(file).info
    assert (
        info["RunIds"].split() == sorted(ids)
        and info["Software"] == "s2l_core"
        and len(info["Hash"]) == 8
    )
    scores = json.loads(info["Scores"])
    assert len(scores) == 3 and scores[f"{ids[0]}/{cell.id}"] == "IoU 1.00   mDice 1.00"
    again = Image.open(
        plotting.save(figure2.figure2(PROFILE), home / "b.png", ids[:1], dpi=40)
    ).info
    assert again["RunIds"] == ids[0] and again["Hash"] != info["Hash"] and "Copyright" not in again
    assert file.read_bytes() == plotting.save(figure2.figure2(PROFILE), file, dpi=40).read_bytes()


def test_figure2_carries_the_licence_of_monuseg(home, cell, monkeypatch):
    config = RunConfig("monuseg", "s2l", profile="paper")
    write_run(config, CellImage("TCGA-XX", cell.image, cell.instances), (cell.instances > 0) * 1.0)
    monkeypatch.setattr(
        figure2_windows,
        "images_of",
        lambda _, ids: [CellImage(i, cell.image, cell.instances) for i in ids],
    )
    figure = figure2.figure2("paper", ["monuseg"])
    assert any("CC BY-NC-SA 4.0" in text for text in texts(figure))
    bar = next(text for text in figure.axes[0].texts if text.get_text() == "20 µm")
    (line,) = figure.axes[0].lines
    assert np.ptp(line.get_xdata()) == 80 and bar.get_position()[0] == line.get_xdata().mean()
    assert (
        "CC BY-NC-SA 4.0"
        in Image.open(plotting.save(figure, home / "a.png", dpi=40)).info["Copyright"]
    )


def test_figure2_says_what_is_missing(home, cell, monkeypatch):
    with pytest.raises(S2LError, match="make reproduce PROFILE=smoke"):
        figure2.figure2(PROFILE)
    with pytest.raises(S2LError, match="'dsb' "):
        figure2.figure2(PROFILE, ["dsb"])
    config = RunConfig("dsb-bf", "s2l", profile="scratch")
    write_run(config, cell, (cell.instances > 0) * 1.0)
    monkeypatch.setenv("S2L_DATA", str(home / "nowhere"))
    with pytest.raises(S2LError, match="stage1_train.zip"):
        figure2.figure2("scratch")


def test_picture_of_a_run(runs, home):
    config = RunConfig(DATA, "s2l", profile=PROFILE)
    result = types.SimpleNamespace(
        config=config, folder=paths.run_folder(PROFILE, results.run_id(config))
    )
    figure = run_pictures.test_image(result)
    assert [ax.get_title() for ax in figure.axes][1:] == ["truth", "S2L"] and all(
        ax.images for ax in figure.axes
    )
    assert figure.run_ids == (result.folder.name,)
    with pytest.raises(S2LError, match=f"{home}/masks: "):
        run_pictures.test_image(types.SimpleNamespace(config=config, folder=home))


def test_picture_of_a_run_that_held_nothing_out(home, monkeypatch):
    """As on a folder of one's own without splits.json."""
    monkeypatch.setattr(run_pictures, "split_of", lambda _: types.SimpleNamespace(test=()))
    figure = run_pictures.test_image(types.SimpleNamespace(config=None, folder=home))
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "no image was held out for a test"
    ]


# --- curves and scores
# --------------------------------------------------------------------------------------------


def steps():
    table = pd.DataFrame(
        {
            "step": range(1, 41),
            "stage": ["warm-up"] * 20 + ["main"] * 20,
            "loss": 1.0,
            "labels": 0.5,
        }
    )
    table["r2"] = np.where(table.stage == "main", 0.3, np.nan)
    table["coverage"] = np.where(table.step % 5 == 0, 0.4, np.nan)
    table["validation_iou"] = np.where(
        (table.step > 20) & (table.step % 5 == 0), 0.9 - (table.step - 30) ** 2 / 1e3, np.nan
    )
    return table


def test_learning_curves():
    losses, pseudo, validation = run_pictures.learning_curves(steps()).axes
    assert (
        losses.get_legend_handles_labels()[1] == ["scribbles or masks", "R2x2", "warm-up"]
        and losses.get_yscale() == "log"
    )
    assert pseudo.get_legend_handles_labels()[1] == ["coverage", "warm-up"]
    best = validation.lines[-1]
    assert best.get_label() == "best weights" and (best.get_xdata()[0], best.get_ydata()[0]) == (
        30,
        0.9,
    )
    assert "warm-up" in validation.get_legend_handles_labels()[1]


def test_curves_of_a_rival_are_empty_and_say_so():
    assert texts(run_pictures.learning_curves(pd.DataFrame())).count("none in this run") == 3


# --- Fig. 1, and what all share
# -----------------------------------------------------------------------------------


def test_figure1_names_stages_losses_and_numbers():
    shown = " ".join(texts(figure1.figure1()))
    for expected in (
        "Warm-up stage",
        "Main stage",
        r"\mathcal{L}_s",
        r"\mathcal{L}_p",
        "pseudo-labels",
        r"f_\phi",
    ):
        assert expected in shown
    for scale in (R1, R4):
        term = rf"R^{{{scale.factor}\times{scale.factor}}}"
        assert rf"{scale.weight:g}\,{term}" in shown and rf"$\tau$ = {scale.temperature}" in shown


def test_readers_settings_and_pyplot_stay_out(cell):
    with matplotlib.style.context("dark_background"):
        figure = plotting.overlay(cell.image)
        assert matplotlib.rcParams["figure.facecolor"] == "black"
    assert figure.get_facecolor() == (1, 1, 1, 1) and plt.get_fignums() == []
    assert figure._repr_png_().startswith(b"\x89PNG")
