"""`s2l check`, `predict` and `export`, as a person types them."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torture import load

from conftest import ROOT
from s2l_images.commands import COMMANDS
from s2l_images.commands.command_line import main
from s2l_images.nuclei import prediction
from s2l_images.nuclei.journal import JOURNAL, predictions
from s2l_images.strokes import Stroke, write_strokes


def s2l(*words):
    """The commands about one's own images; the exit code."""
    return main("s2l", "Title.", {"Your own images:": COMMANDS}, [str(word) for word in words])


@pytest.fixture
def small(tmp_path):
    """A folder of five images and a model."""
    return tmp_path / "folder", load.make(tmp_path / "folder", 5)


def test_each_command_explains_itself(capsys):
    assert s2l("--help") == s2l() == 0
    said = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name}" in said and command.summary in said
        with pytest.raises(SystemExit, match="0"):
            s2l(name, "--help")
        text = capsys.readouterr().out
        assert all(example in text for example in command.examples) and "usage: s2l" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek", "x"], "command = 'chek' is not known. Did you mean 'check'?"),
        (["check"], "the following arguments are required: FOLDER"),
        (["check", "a", "b"], "'b' is one word too many. Put quotes around a name with spaces"),
        (["predict"], "the following arguments are required: FOLDER"),
        (["predict", "m", "f", "x"], "'x' is one word too many. Put quotes around a name with"),
        (["predict", "m", "f", "--strokes", "s"], "--strokes is for a folder without a model"),
        (["predict", "m", "f", "--answer", "auto"], "--answer is for a folder without a model"),
        (["predict", "m", "f", "--pixelsize=2"], "there is no option '--pixelsize'. Did you mean"),
        (["predict", "m", "f", "--min", "2"], "there is no option '--min'. Did you mean '--min-"),
        (["predict", "m", "f", "--min-size"], "argument --min-size: expected one argument"),
        (["predict", "m", "f", "--min-size", "-3"], "'-3' is not a number of pixels, such as 64"),
        (["predict", "m", "f", "--pixel-size", "wide"], "'wide' is no length in micrometres"),
        (["predict", "m", "f", "--pixel-size", "0"], "'0' is no length in micrometres, such as"),
        (["predict", "m", "f", "--split", "big"], "'big' is neither a width in pixels nor auto"),
        (["predict", "m", "f", "--threshold", "1"], "'1' is not a probability between 0 and 1"),
        (["export", "f"], "the following arguments are required: --to"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(capsys, words, said):
    assert s2l(*words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and said in shown.err and "--help` " in shown.err
    assert not shown.out and shown.err.count("\n") == 1


def test_a_name_that_looks_like_an_option_is_understood(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-odd" / "images").mkdir(parents=True)
    assert s2l("check", "-odd") == 2
    assert "Write ./-odd" in capsys.readouterr().err
    for words in (["./-odd"], ["--", "-odd"]):
        assert s2l("check", *words) == 1
        assert "error: no-images" in capsys.readouterr().out


def test_check_reports_a_folder(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "images" / "a.png")
    assert s2l("check", tmp_path) == 1
    said = capsys.readouterr().out
    assert "error: nothing-labelled" in said and "notebook 08 (`make lab`)" in said
    (tmp_path / "images" / "a.png").write_bytes(b"")
    assert s2l("check", tmp_path) == 1
    assert "error: empty-file\n  images/a.png: holds 0 bytes" in capsys.readouterr().out


def test_any_place_can_be_checked(tmp_path, capsys):
    (file := tmp_path / "file").write_text("x")
    (loop := tmp_path / "loop").symlink_to(loop)
    for place in (file, loop, tmp_path / "none", file / "below", tmp_path):
        assert s2l("check", place) == 1
        shown = capsys.readouterr()
        assert "error: " in shown.out and not shown.err


NO_UTF8 = os.fsdecode(b"caf\xe9 \xff")
ODD = [NO_UTF8, "naïve µ 細胞 \N{MICROSCOPE}", "two\nlines", "$HOME `x` 'y' \"z\""]


@pytest.mark.parametrize("name", ODD)
def test_names_that_this_terminal_cannot_print_are_escaped(tmp_path, small, monkeypatch, name):
    """Letters that ASCII lacks, lines and quotes are read; bytes that are no UTF-8 are named."""
    _, model = small
    folder = named(tmp_path, name)
    for words in (["check", folder], ["predict", model, folder]):
        code, out, err = in_ascii(monkeypatch, *words)
        assert code == (words[0] == "check" or name == NO_UTF8), err
        assert b"image" in out + err
    exported = list((folder / "s2l" / "export").glob("*"))
    assert len(exported) == (0 if name == NO_UTF8 else 5)


def test_a_process_of_its_own_escapes_such_a_name(tmp_path):
    folder = named(tmp_path, NO_UTF8)
    done = subprocess.run(
        [sys.executable, "-m", "s2l_paper", "check", os.fsencode(folder)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr
    assert b"image" in done.stdout + done.stderr


def named(base, name):
    """A folder of this name with an image of this name."""
    folder = base / name
    (folder / "images").mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(image).save(folder / "images" / f"{name}.png")
    return folder


def in_ascii(monkeypatch, *words):
    """A command at a terminal that knows ASCII only: its exit code, and the bytes of stdout and
    stderr.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    with monkeypatch.context() as terminal:
        terminal.setattr(sys, "stdout", streams[0])
        terminal.setattr(sys, "stderr", streams[1])
        code = s2l(*words)
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams)
    return code, out, err


def test_a_reader_that_leaves_early_is_no_error(small):
    folder, _ = small
    command = f'"{sys.executable}" -m s2l_paper check "{folder}" | head -c 1'
    done = subprocess.run(
        command, shell=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert not done.stderr


def test_predict_says_what_it_found(small, capsys):
    folder, model = small
    assert s2l("predict", model, folder) == 0
    said = capsys.readouterr().out
    export = folder / "s2l" / "export"
    tables = {file.stem: pd.read_csv(file) for file in export.glob("*.csv")}
    assert f"5 images, {sum(map(len, tables.values())):,} nuclei\n" in said
    assert f"{export}: label images" in said

    # The least sure image comes first, with its own number of nuclei.
    kept = predictions(export)
    unsure = [one.unsure for one in kept.values()]
    assert unsure == sorted(unsure, reverse=True) and unsure[0] > 0
    first = next(iter(kept))
    assert f"{kept[first].nuclei} nuclei: {first}\n" in said
    assert {name: one.nuclei for name, one in kept.items()} == {
        name: len(table) for name, table in tables.items()
    }

    # A second call says the same, though it predicts nothing.
    assert s2l("predict", model, folder) == 0
    assert capsys.readouterr().out == said


def test_objects_that_are_left_out_are_counted(small, capsys, monkeypatch):
    """Three squares, of which the smallest two are too small, the second only just."""
    folder, model = small
    probability = np.zeros((64, 64), np.float32)
    probability[2:10, 2:10] = probability[20:28, 20:27] = probability[40:43, 40:43] = 1
    monkeypatch.setattr(prediction, "predict", lambda *_: probability)
    assert s2l("predict", model, folder) == 0
    said = capsys.readouterr().out
    assert "5 images, 5 nuclei\n" in said and "folder: 10 objects under 64 px were dropped" in said
    assert "unsure" not in said
    assert s2l("predict", model, folder, "--min-size", "9") == 0
    said = capsys.readouterr().out
    assert "5 images, 15 nuclei\n" in said and "dropped" not in said


def test_predict_takes_a_pixel_size(small):
    folder, model = small
    for size, expected in ([], False), (["--pixel-size", "0.5"], True):
        assert s2l("predict", model, folder, *size) == 0
        cells = pd.concat(map(pd.read_csv, sorted((folder / "s2l/export").glob("*.csv"))))
        assert len(cells) and ("area_um2" in cells) == expected
    assert (cells.area_um2 == 0.25 * cells.area).all()


def test_where_nothing_can_be_written_the_results_go_elsewhere(small, tmp_path, capsys):
    """A file stands where the folder of the results belongs, as on a disk that is read-only."""
    folder, model = small
    (folder / "s2l").write_text("")
    assert s2l("predict", model, folder) == 1
    assert "s2l/export: cannot be written (" in (said := capsys.readouterr().err)
    assert "Name another folder: --to FOLDER." in said
    before = sorted(folder.rglob("*"))
    assert s2l("predict", model, folder, "--to", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.geojson"))) == 5
    assert sorted(folder.rglob("*")) == before


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid(), reason="mounts a folder read-only")
def test_a_folder_that_is_read_only_is_predicted(small, tmp_path, capsys):
    folder, model = small
    place = str(folder)
    mounts = [["mount", "--bind", place, place], ["mount", "-o", "remount,bind,ro", place]]
    if subprocess.run(mounts[0], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(mounts[1], check=True)
        assert s2l("predict", model, folder) == 1
        assert "Read-only file system). Name another folder: --to" in capsys.readouterr().err
        assert s2l("predict", model, folder, "--to", tmp_path / "out") == 0
        assert "5 images" in capsys.readouterr().out
    finally:
        subprocess.run(["umount", place], check=True)


def test_what_cannot_be_read_is_named_and_the_rest_is_predicted(small, capsys):
    folder, model = small
    (folder / "images" / "00002.png").write_bytes(b"")
    assert s2l("predict", model, folder) == 1
    shown = capsys.readouterr()
    assert "1 of 5 images were left out" in shown.err and "4 images, " in shown.out
    assert s2l("predict", folder / "no.safetensors", folder) == 1
    assert "not a model that was saved here" in capsys.readouterr().err


def test_notes_of_an_older_version_are_made_anew(small):
    """Their lines have a name and a key only; half of what is known now."""
    folder, model = small
    target = prediction.predict_folder(model, folder)
    journal = target / JOURNAL
    whole = journal.read_text()
    noted = [json.loads(line) for line in whole.splitlines()]
    old = [line[:2] for line in noted if isinstance(line, list)]
    journal.write_text("".join(json.dumps(line) + "\n" for line in old))
    prediction.predict_folder(model, folder)
    assert journal.read_text().endswith(whole)


def test_export_writes_strokes_and_nuclei(tmp_path, capsys):
    folder, target = tmp_path / "own", tmp_path / "out"
    for kind in ("images", "masks", "scribbles"):
        (folder / kind).mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint16)
    mask[4:20, 4:20], mask[30:50, 30:50] = 1, 2
    for name in "ab":
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
    Image.fromarray(mask).save(folder / "masks" / "b.png")
    lines = [Stroke(1, 3, ((10.0, 10.0), (12.0, 14.0))), Stroke(0, 3, ((40.0, 5.0), (50.0, 5.0)))]
    write_strokes(folder / "scribbles" / "strokes.json", {"a": lines}, {})

    assert s2l("export", folder, "--to", target, "--program", "imagj") == 1
    assert "Did you mean 'imagej'?" in capsys.readouterr().err
    assert s2l("export", folder, "--to", folder) == 1
    assert not target.exists() and "is where your own files are read" in capsys.readouterr().err

    for program, kind in (("imagej", ".zip"), ("qupath", ".geojson")):
        assert s2l("export", folder, "--to", target, "--program", program, "--force") == 0
        assert (target / "strokes" / f"a{kind}").stat().st_size > 100
    assert "strokes of 1 and nuclei of 1 images are written" in capsys.readouterr().out
    assert {file.name for file in (target / "nuclei").iterdir()} == {
        "b.tif", "b.zip", "b.geojson", "b.csv",
    }  # fmt: skip
    assert pd.read_csv(target / "nuclei" / "b.csv").area.tolist() == [256, 400]

    # What was written may have been changed in another program: it is not written over.
    changed = target / "nuclei" / "b.csv"
    changed.write_text("mine")
    before = {file: file.stat().st_mtime_ns for file in target.rglob("*.*")}
    assert s2l("export", folder, "--to", target) == 1
    said = capsys.readouterr().err
    assert "a.geojson: exists already (and 4 more)" in said and "--force" in said
    assert {file: file.stat().st_mtime_ns for file in target.rglob("*.*")} == before
    assert s2l("export", folder, "--to", target, "--force") == 0
    assert changed.read_text() != "mine"
