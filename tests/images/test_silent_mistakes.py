"""What once gave a wrong number, or lost a file, without a word."""

import contextlib
import json
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image
from torture import load

from conftest import raises_fault
from s2l_core.config import S2LError
from s2l_images.commands import COMMANDS
from s2l_images.commands.command_line import main
from s2l_images.exporting.export_cells import Measured, write_cells
from s2l_images.folders.own_channel import channel_chosen
from s2l_images.folders.settings import read_settings
from s2l_images.nuclei import one_image, prediction
from s2l_images.nuclei.journal import predictions
from s2l_images.nuclei.sizes import nuclei
from s2l_images.nuclei.split import divided
from s2l_images.reading.pictures import read_image
from s2l_images.session import Session
from s2l_images.strokes import Stroke, read_strokes, write_strokes


def s2l(*words) -> int:
    return main("s2l", "Test.", {"images": COMMANDS}, [str(word) for word in words])


@pytest.fixture
def predicted(tmp_path, monkeypatch):
    """A folder, a model whose answer is the image's brightness, and what predicts it."""
    folder, target = tmp_path / "A", tmp_path / "out"
    file = load.make(folder, 2).rename(tmp_path / "model.safetensors")
    monkeypatch.setattr(prediction, "predict", lambda model, image: image.mean(2) / np.float32(255))

    def run(threshold=0.3, of=folder, to=target, **options):
        options = {"min_size": 4, "threshold": threshold} | options
        return prediction.predict_folder(file, of, to, **options)

    return folder, target, run


def counted(target, name="00000") -> tuple[int, int]:
    """Nuclei in the label image, and rows of the table."""
    rows = (target / f"{name}.csv").read_text().splitlines()
    return int(tifffile.imread(target / f"{name}.tif").max()), len(rows) - 1


def test_an_answer_cut_short_is_not_taken_for_the_one_before(predicted, monkeypatch):
    _, target, run = predicted
    run(0.3)
    first = counted(target)
    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(one_image, "write_cells", interrupted)
        run(0.75)
    assert counted(target)[0] != first[0], "the label image is of the other threshold"
    assert set(predictions(target)) == {"00001"}
    run(0.3)
    assert counted(target) == first


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_a_file_that_no_prediction_has_written_stays(predicted):
    folder, target, run = predicted
    run()
    own = target / "00009.csv"
    own.write_text("my own counts\n")
    (folder / "images" / "00009.png").write_bytes((folder / "images" / "00000.png").read_bytes())
    with pytest.raises(S2LError, match=r"00009\.csv: exists already"):
        run()
    assert own.read_text() == "my own counts\n"
    run(force=True)
    assert own.read_text() != "my own counts\n"


def test_results_of_another_folder_stay(predicted, tmp_path):
    _, target, run = predicted
    run()
    before, other = counted(target), tmp_path / "B"
    load.make(other, 1)
    with pytest.raises(S2LError, match="holds the results of"):
        run(of=other)
    assert counted(target) == before
    run(of=other, force=True)
    assert set(predictions(target)) == {"00000", "00001"}


def test_a_folder_that_was_moved_goes_on(predicted, tmp_path):
    folder, target, run = predicted
    run()
    folder.rename(tmp_path / "moved")
    run(of=tmp_path / "moved")
    assert set(predictions(target)) == {"00000", "00001"}


@pytest.mark.parametrize("place", ["", "images", "masks", "scribbles/deeper"])
def test_nothing_is_written_where_files_are_read(predicted, place):
    folder, _, run = predicted
    before = sorted(folder.rglob("*"))
    for force in (False, True):
        with pytest.raises(S2LError, match="where your own files are read"):
            run(to=folder / place, force=force)
    assert sorted(folder.rglob("*")) == before
    assert s2l("export", folder, "--to", folder / place) == 1


def test_an_image_that_cannot_be_read_any_more_is_not_summed_up(predicted, capsys):
    folder, target, run = predicted
    run()
    (folder / "images" / "00001.png").write_bytes(b"")
    with pytest.raises(prediction.ImagesLeftOut, match="1 of 2 images were left out"):
        run(0.75)
    assert set(predictions(target)) == {"00000"}


def test_planes_without_pages_of_their_own_are_a_stack(tmp_path):
    planes = np.random.default_rng(0).integers(0, 1000, (5, 32, 32)).astype(np.uint16)
    cut = tmp_path / "cut.tif"
    tifffile.imwrite(cut, planes, truncate=True, photometric="minisblack")
    with raises_fault("stack", file="cut.tif"):
        read_image(cut)

    metamorph = tmp_path / "metamorph.tif"
    metamorph.write_bytes(stk(planes))
    with raises_fault("stack", file="metamorph.tif"):
        read_image(metamorph)
    tifffile.imwrite(cut, planes[0], photometric="minisblack")
    assert read_image(cut)[0].shape == (32, 32, 3)


def stk(planes: np.ndarray) -> bytes:
    """A stack (N, H, W) uint16 as MetaMorph writes it: one page, and a tag that counts planes."""
    count, height, width = planes.shape
    data = planes.astype("<u2").tobytes()
    dates = b"".join(struct.pack("<6I", k, 1, 2450000, 0, 2450000, 0) for k in range(1, count + 1))
    first, second = 8 + len(data), 8 + len(data) + len(dates)
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 2 * height * width),
        (33628, 4, 1, second), (33629, 5, count, first),
    ]  # fmt: skip
    page = struct.pack("<H", len(entries))
    for tag, kind, length, value in entries:
        form = "<HHIHH" if kind == 3 else "<HHII"
        page += struct.pack(form, tag, kind, length, value, *([0] if kind == 3 else []))
    head = b"II*\0" + struct.pack("<I", second + 8)
    return head + data + dates + struct.pack("<2I", 0, 0) + page + struct.pack("<I", 0)


def test_a_part_that_hangs_on_by_a_corner_is_not_lost():
    answer = np.zeros((48, 48), np.float32)
    answer[10:22, 10:22] = answer[22:27, 22:27] = 1
    found = nuclei(answer, 10).instances
    assert (divided(found, 20.0) > 0).sum() == (found > 0).sum() == 169


def test_a_channel_may_have_a_number_for_its_name(tmp_path):
    (tmp_path / "images").mkdir()
    values = np.random.default_rng(0).integers(0, 255, (3, 32, 32)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "images" / "a.ome.tif",
        values,
        photometric="minisblack",
        metadata={"axes": "CYX", "Channel": {"Name": ["405", "488", "1"]}},
    )
    for wanted, noted in (("488", "488"), ("1", "1"), ("2", 2)):
        with channel_chosen(tmp_path, wanted):
            assert read_settings(tmp_path).channel == noted


def test_two_channels_of_one_name_are_told_apart(tmp_path):
    file = tmp_path / "twice.tif"
    values = np.stack([np.full((32, 32), 100, np.uint16), np.full((32, 32), 900, np.uint16)])
    values[:, 0, 0] = 0
    tifffile.imwrite(file, values, imagej=True, metadata={"axes": "CYX", "Labels": ["DAPI"] * 2})
    with raises_fault("image-channels", file="twice.tif"):
        read_image(file, "DAPI")

    labels = np.zeros((32, 32), np.int32)
    labels[5:15, 5:15] = 1
    write_cells(tmp_path / "t.csv", labels, Measured(np.moveaxis(values, 0, 2), ("DAPI", "DAPI")))
    head, row = (tmp_path / "t.csv").read_text().splitlines()
    table = dict(zip(head.split(","), row.split(","), strict=True))
    assert (table["mean_DAPI_1"], table["mean_DAPI_2"]) == ("100", "900")


@pytest.fixture
def opened(tmp_path):
    """A folder with two images, one of them drawn on, open as in notebook 08."""
    folder = tmp_path / "cells"
    load.make(folder, 2)
    lines = [
        Stroke(label, 3.0, ((x, y), (x + 4, y)))
        for label, x, y in [(1, 20, 20), (1, 40, 20), (0, 4, 4), (0, 50, 58), (1, 20, 40)]
    ]
    write_strokes(folder / "scribbles" / "strokes.json", {"00000": lines}, {})
    return folder, Session(folder, largest=1.0)


def test_strokes_drawn_since_the_guess_count_in_what_is_exported(opened):
    _, session = opened
    session.guess()
    before = session.answers.forest.key
    session.board.strokes["00000"].append(Stroke(0, 3.0, ((4, 30), (8, 30))))
    assert session.answers.stale
    session.choose()
    assert session.answers.forest.key != before and not session.answers.stale


def test_an_image_that_is_gone_is_not_counted(opened):
    folder, session = opened
    session.guess()
    (folder / "images" / "00001.png").unlink()
    with pytest.raises(S2LError, match="00001 is gone"):
        session.export()
    assert not (folder / "s2l" / "export").exists()


def test_strokes_of_a_file_that_meet_no_image_are_named(tmp_path, capsys):
    folder = tmp_path / "cells"
    load.make(folder, 1)
    lines = [Stroke(label, 3.0, ((x, 20), (x + 9, 20))) for label, x in ((1, 20), (0, 40))]
    far = [Stroke(1, 3.0, ((500, 500), (510, 500)))]
    write_strokes(tmp_path / "drawn.json", {"00000": lines + far, "elsewhere": lines}, {})
    assert s2l("predict", folder, "--strokes", tmp_path / "drawn.json", "--to", tmp_path / "o") == 0
    said = capsys.readouterr().out
    assert "strokes-astray" in said and "and 1 more like it" in said


def test_no_objects_are_dropped_where_none_should_be(tmp_path, monkeypatch):
    folder, given = tmp_path / "cells", {}
    load.make(folder, 1)
    lines = [Stroke(label, 3.0, ((x, 20), (x + 9, 20))) for label, x in ((1, 20), (0, 40))]
    write_strokes(folder / "scribbles" / "strokes.json", {"00000": lines}, {})
    monkeypatch.setattr(prediction, "predict_folder", lambda **options: given.update(options))
    with contextlib.suppress(OSError, S2LError):  # no results are there to be summed up
        s2l("predict", folder, "--min-size", "0")
    assert given["min_size"] == 0


def test_an_empty_scribble_is_named_whoever_reads_it(tmp_path, capsys):
    folder = tmp_path / "cells"
    load.make(folder, 2)
    (folder / "scribbles").mkdir(exist_ok=True)
    drawn = np.zeros((64, 64), np.uint8)
    drawn[10:14, 10:30], drawn[50:54, 10:30] = 1, 2
    Image.fromarray(drawn).save(folder / "scribbles" / "00000.png")
    Image.fromarray(0 * drawn).save(folder / "scribbles" / "00001.png")
    words = {"foreground": 1, "background": 2}
    (folder / "scribbles.json").write_text(json.dumps(words))
    assert s2l("predict", folder, "--to", tmp_path / "out") == 0
    assert "scribble-empty" in capsys.readouterr().out


def test_strokes_are_exported_to_their_folder_alone(tmp_path, capsys):
    folder, to = tmp_path / "cells", tmp_path / "deep" / "out"
    load.make(folder, 1)
    lines = [Stroke(1, 3.0, ((20, 20), (29, 20)))]
    write_strokes(
        folder / "scribbles" / "strokes.json",
        {"00000": lines, "../../../escaped": lines},
        {},
    )
    assert s2l("export", folder, "--to", to) == 0
    assert [file.name for file in tmp_path.rglob("*.geojson")] == ["00000.geojson"]
    said = capsys.readouterr().out
    assert "escaped' are left out" in said and "files of another program" not in said


def test_an_export_that_cannot_end_does_not_begin(tmp_path):
    folder, to = tmp_path / "cells", tmp_path / "out"
    load.make(folder, 2)
    (folder / "masks").mkdir()
    labels = np.zeros((64, 64), np.uint8)
    labels[10:20, 10:20] = 1
    Image.fromarray(labels).save(folder / "masks" / "00000.png")
    (folder / "masks" / "00001.png").write_bytes(b"")
    assert s2l("export", folder, "--to", to) == 1
    assert not to.exists()


@pytest.mark.parametrize("unit", ["0", "-1", "NaN", "Infinity", "1e308", '"1"', "true"])
def test_a_unit_that_is_no_length_is_refused(tmp_path, unit):
    file = tmp_path / "strokes.json"
    file.write_text(f'{{"unit": {unit}, "strokes": {{"a": []}}}}')
    with pytest.raises(S2LError, match="unit = "):
        read_strokes(file)


def test_a_table_of_counts_that_is_not_ours_stays(opened, capsys):
    folder, session = opened
    session.guess()
    own = folder / "mine" / "counts_per_image.csv"
    own.parent.mkdir()
    own.write_text("well,dose\n")
    session.export("mine")
    assert own.read_text() == "well,dose\n"
    assert "stays as it is" in capsys.readouterr().out
