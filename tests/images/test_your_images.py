"""Notebook 08 without a browser: bad images and strokes are named in one sentence,
and nothing drawn is ever lost.
"""

import contextlib
import io
import re

import nbformat
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from conftest import ROOT
from s2l_core.config import S2LError
from s2l_images.places import own_results, own_strokes
from s2l_images.session import opened
from s2l_images.strokes import Stroke, read_strokes, write_strokes
from s2l_images.taken_home import COUNTS_FILE
from s2l_paper.data.datasets import load_dataset
from s2l_paper.running import notebooks
from s2l_paper.scribbles.annotators import SimulatedAnnotator

STEPS = 12  # the fewest that a round may have
ONE_SENTENCE = re.compile(r"[^\n]{20,400}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one sound image and strokes of both classes on it."""
    monkeypatch.setenv("S2L_PLAIN", "1")
    home, (cell,) = tmp_path / "cells", load_dataset("synthetic-fluo", images=1, image_size=96)
    (home / "images").mkdir(parents=True)
    Image.fromarray(cell.image).save(home / "images" / "sound.png")
    draw(home, {"sound": SimulatedAnnotator(0, 0.5).strokes(cell.instances)})
    threads = torch.get_num_threads()
    yield home
    torch.set_num_threads(threads)


def draw(home, strokes):
    own_strokes(home).parent.mkdir(exist_ok=True)
    write_strokes(own_strokes(home), strokes, {"annotator": "hand"})


def run_until(last, home):
    """Runs the code cells of notebook 08 up to one of them."""
    names = {}
    for cell in nbformat.read(ROOT / "notebooks" / "08_your_images.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if cell.id == "parameters":
                names |= {"folder": str(home), "steps": STEPS, "threads": 1}
            if cell.id == last:
                return
    raise AssertionError(f"no cell {last}")


def refused(home, last, *phrases):
    """A cell ends with one sentence that says all this; the strokes are as they were."""
    before = own_strokes(home).read_bytes()
    with pytest.raises(S2LError) as error:
        run_until(last, home)
    (shown,) = error.value._render_traceback_()  # what a notebook shows of it
    assert ONE_SENTENCE.fullmatch(shown) and all(phrase in shown for phrase in phrases), shown
    assert own_strokes(home).read_bytes() == before


def test_a_dark_image_of_16_bits_is_seen_and_drawn_on(folder):
    (cell,) = load_dataset("synthetic-fluo", images=1, image_size=96)
    dark = cell.image[..., 0].astype(np.uint16) * 4 + 100  # 10 of 16 bits
    tifffile.imwrite(folder / "images" / "deep.tif", dark)
    run_until("draw", folder)
    board = opened().board
    sent = []
    board.send = lambda content, buffers=None: sent.append((content, buffers))
    board._receive(None, {"kind": "open", "id": "deep"}, [])
    low, high = sent[0][0]["limits"]
    assert high - low > 100, "its own range fills the screen's"
    board._receive(
        None, {"kind": "strokes", "id": "deep", "edit": 1, "strokes": [[12, 40, 40, 4, 8]]}, []
    )
    assert sent[-1][0]["kind"] == "saved" and set(read_strokes(own_strokes(folder))) == {
        "sound",
        "deep",
    }


def test_three_pages_are_refused(folder):
    tifffile.imwrite(
        folder / "images" / "stack.tif", np.zeros((3, 64, 64), np.uint8), photometric="minisblack"
    )
    refused(folder, "draw", "stack.tif", "holds 3 planes", "Save the plane")


def test_a_broken_tiff_is_refused(folder):
    file = folder / "images" / "broken.tif"
    tifffile.imwrite(file, np.zeros((64, 64), np.uint8))
    file.write_bytes(file.read_bytes()[:-1000])
    refused(folder, "draw", "broken.tif", "lie beyond its end", "save it again")


def test_a_huge_image_is_refused(folder):
    Image.new("1", (8000, 8000)).save(folder / "images" / "huge.png")
    refused(folder, "draw", "huge.png", "8000 x 8000", "Cut it into pieces")


def test_strokes_outside_of_the_image_are_named_and_kept(folder):
    strokes = read_strokes(own_strokes(folder)) | {"gone": [Stroke(1, 3.0, ((5.0, 5.0),))]}
    strokes["sound"] = [*strokes["sound"], Stroke(0, 3.0, ((500.0, 500.0), (510.0, 500.0)))]
    draw(folder, strokes)
    run_until("first-guess", folder)
    board = opened().board
    assert (
        ONE_SENTENCE.fullmatch(board.message)
        and "1 of" in board.message
        and "outside the image" in board.message
    )
    assert read_strokes(own_strokes(folder)) == strokes


@pytest.mark.parametrize(("label", "missing"), [(0, "foreground"), (1, "background")])
def test_scribbles_of_one_class_are_refused(folder, label, missing):
    draw(folder, {"sound": [Stroke(label, 4.0, ((10.0, 10.0), (60.0, 60.0)))]})
    refused(folder, "first-guess", f"no {missing} scribble", "Draw some")


def test_nothing_drawn_is_refused(folder):
    draw(folder, {"sound": []})
    refused(folder, "first-guess", "both classes", "Draw some")


@pytest.mark.long
def test_papermill_runs_it_with_saved_scribbles_and_no_browser(folder, tmp_path):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        parameters = {"folder": str(folder), "steps": STEPS, "threads": 1, "pixel_size": 0.5}
        copy = notebooks.run("08_your_images", tmp_path / "copy.ipynb", parameters)
    lines = [line for line in said.getvalue().splitlines() if "step " in line]
    assert 4 <= len(lines) <= 40 and " left" in lines[0] and "loss" not in said.getvalue()
    exported = {path.name for path in (own_results(folder) / "export").iterdir()}
    assert exported == {
        "sound.tif",
        "sound.zip",
        "sound.geojson",
        "sound.csv",
        "predicted.jsonl",
        COUNTS_FILE,
    }
    assert "area_um2" in (own_results(folder) / "export" / "sound.csv").read_text()
    executed = nbformat.read(copy, as_version=4)
    assert not any(
        output.output_type == "error"
        for cell in executed.cells
        for output in cell.get("outputs", [])
    )
