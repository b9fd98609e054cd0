"""`s2l predict FOLDER`: strokes answer without a notebook, as notebook 08 would export them."""

import numpy as np
import pytest
import tifffile
import tiny

from s2l_core.model import ScribbleUNet
from s2l_images.board.own_folder import write_example
from s2l_images.commands import COMMANDS
from s2l_images.commands.command_line import main
from s2l_images.learning.kept_models import keep_model, model_in_use
from s2l_images.places import own_strokes
from s2l_images.session import Session
from s2l_images.strokes import write_strokes
from s2l_paper.running.examples import example_of_four


def s2l(*words):
    return main("s2l", "Title.", {"Your own images:": COMMANDS}, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path):
    """Four images, three of them drawn on."""
    cells, strokes = example_of_four("synthetic-fluo")
    write_example(tmp_path / "my cells", cells, strokes)
    return tmp_path / "my cells"


def label_images(target):
    return {file.stem: tifffile.imread(file) for file in sorted(target.glob("*.tif"))}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def test_the_command_exports_what_the_notebook_exports(folder, tmp_path, capsys):
    by_notebook = Session(folder).export("by notebook")
    assert s2l("predict", folder, "--split", "auto", "--to", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "The forest's answer is exported: there is no network." in said
    assert f"4 images, {sum(by_notebook.counts.values())} nuclei" in said
    found = label_images(tmp_path / "out")
    assert same(found, label_images(by_notebook.folder)) and len(found) == 4

    # Strokes may lie elsewhere: nothing is read from the folder but its images.
    elsewhere = tmp_path / "strokes.json"
    own_strokes(folder).rename(elsewhere)
    before = sorted(folder.rglob("*"))
    words = ["--strokes", elsewhere, "--split", "auto", "--to", tmp_path / "again"]
    assert s2l("predict", *words, folder) == 0
    assert same(label_images(tmp_path / "again"), found) and sorted(folder.rglob("*")) == before


def test_the_network_in_use_is_compared_and_can_be_wished_for(folder, tmp_path, capsys):
    assert s2l("predict", folder, "--answer", "network") == 1
    assert "no network is in use" in capsys.readouterr().err
    model = ScribbleUNet(tiny.ENCODER)
    model.unet.segmentation_head[0].bias.data.fill_(-30.0)  # it finds nothing
    keep_model(folder, model.state_dict(), tiny.config("s2l"), score=0.5, steps=8)

    assert s2l("predict", folder, "--to", tmp_path / "auto") == 0
    said = capsys.readouterr().out
    assert "forest 100.0%, network 50.0%. The forest's answer is exported." in said
    assert any(labels.any() for labels in label_images(tmp_path / "auto").values())

    assert s2l("predict", folder, "--to", tmp_path / "net", "--answer", "network") == 0
    assert "The network's answer is exported, as you wish." in capsys.readouterr().out
    assert s2l("predict", model_in_use(folder), folder, "--to", tmp_path / "model") == 0
    assert same(label_images(tmp_path / "net"), label_images(tmp_path / "model"))


def test_a_folder_without_strokes_says_what_to_do(folder, tmp_path, capsys):
    own_strokes(folder).unlink()
    assert s2l("predict", folder) == 1
    said = capsys.readouterr().err
    assert "no image carries a stroke" in said and "--strokes FILE" in said
    write_strokes(tmp_path / "other.json", {"another image": []}, {})
    assert s2l("predict", folder, "--strokes", tmp_path / "other.json") == 1
    assert "other.json: no stroke lies on an image of" in capsys.readouterr().err
    assert s2l("predict", folder, "--strokes", tmp_path / "gone.json") == 1
    assert "gone.json" in capsys.readouterr().err


def test_files_that_no_prediction_wrote_are_not_written_over(folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "synthetic-fluo-001.csv").write_text("mine")
    assert s2l("predict", folder, "--to", out) == 1
    assert "synthetic-fluo-001.csv: exists already" in capsys.readouterr().err
    assert [file.read_text() for file in out.iterdir()] == ["mine"]
    for words in (["--force"], []):  # its own files are its own
        assert s2l("predict", folder, "--to", out, *words) == 0
    assert len(label_images(out)) == 4
