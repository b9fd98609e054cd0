"""Notebook 08's cells on their own: one that is run too early says which comes first."""

import nbformat
import pytest

from conftest import ROOT
from s2l_core.config import S2LError
from s2l_images import session
from s2l_images.places import own_results
from s2l_images.session import Session, find_folder, open_session, opened, write_example
from s2l_paper.examples import example_of_four

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
    with pytest.raises(S2LError, match="No folder is open in this kernel. Run the first cells"):
        exec(source, {})


def test_opened_is_what_was_opened_last(work):
    assert opened() is work and len(work.cells) == 4 and len(work.drawn) == 3


def test_without_a_network_the_forest_answers_and_is_exported(work, capsys):
    places = work.look()
    assert "The forest goes out: there is no network" in capsys.readouterr().out
    assert set(places) == set(work.cells)
    choice = work.choose()
    assert choice.answer == "forest" and 0 <= choice.forest <= 1
    home = work.export()
    assert home.folder == own_results(work.folder) / "export"
    assert len(list(home.folder.glob("synthetic-*.csv"))) == 4


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
    for phrase in (f"{tmp_path / 'my-flou'} is not there", f"{tmp_path} holds my-fluo", "images/"):
        assert phrase in str(error.value)
    with pytest.raises(S2LError, match="a-file is a file"):
        find_folder("a-file")
    with pytest.raises(S2LError, match=f"{tmp_path} holds my-fluo"):
        find_folder("no/such/place")
