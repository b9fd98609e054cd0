"""Files and names from anybody: broken, bloated, leading elsewhere.
Read or refused with our error, nothing beside.
"""

import contextlib
import dataclasses
import json
import os
import random
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import papermill.translators
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torture import files

from conftest import ROOT, raises_fault
from s2l_core.config import RunConfig, S2LError
from s2l_images import checkpoints
from s2l_images.annotation_files import annotations, aperio
from s2l_images.folders.input_checks import check_folder
from s2l_images.folders.listing import sound
from s2l_images.learning import rounds
from s2l_images.nuclei.journal import open_journal
from s2l_images.reading import pictures
from s2l_paper import paths
from s2l_paper.data import archives, sources
from s2l_paper.data.datasets import load_dataset, split_of
from s2l_paper.running import kept_masks, notebooks, results
from s2l_paper.texts import provenance

READERS = files.readers()
EXAMPLES = -(-500 // len(READERS))  # of each: 500 in all, of which `make torture` makes 20,000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_spoiled_files_are_read_or_refused(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SECONDS", 60)  # tests run on busy machines

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def spoil(rng):
        files.forget()
        before = files.memory("VmHWM")
        verdict, said = files.attempt(reader, rng, tmp_path)
        assert verdict in files.GOOD, (verdict, said)
        assert files.memory("VmHWM") - before < files.MEMORY  # the peak, not what is left of it

    spoil()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a peak that can be forgotten")
def test_memory_that_was_held_for_a_moment_is_seen():
    files.forget()
    before = files.memory("VmHWM")
    assert len(b"1" * 2**28) == 2**28
    assert files.memory("VmHWM") - before > 2**27
    files.forget()
    assert files.memory("VmHWM") - before < 2**27


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_whole_files_are_read(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "spoiled", lambda data, other, rng: data)
    for name in reader.cases:
        one = dataclasses.replace(
            reader, cases={name: reader.cases[name]}, around=reader.around | reader.cases
        )
        assert files.attempt(one, random.Random(0), tmp_path) == ("read", ""), name


def test_the_fuzzer_notices(tmp_path, monkeypatch):
    """An error of another kind, a hang, a lack of memory, a file left behind,
    and a process that dies.
    """

    def stray(folder, path):
        (tmp_path / "stray").touch()

    def greedy(folder, path):
        raise S2LError("no room") from MemoryError()

    for read, verdict in (
        (lambda folder, path: {}[0], "other error"),
        (lambda folder, path: [0 for _ in iter(int, 1)], "hang"),
        (greedy, "memory"),
        (stray, "wrote outside"),
    ):
        monkeypatch.setattr(files, "SECONDS", 0.1 if verdict == "hang" else 60)
        reader = files.Reader("bad", read, {"a.png": b"content"})
        assert files.attempt(reader, random.Random(0), tmp_path)[0] == verdict
        assert not files._listed(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../evil.roi", "/tmp/evil.roi", "a/../../../evil.roi", "C:\\evil.roi"]
)
def test_members_that_would_escape_stay_where_they_are(tmp_path, name):
    """Nothing is ever unpacked: only the last part of a name is looked at."""
    picture = files._pillow(np.full((20, 24, 3), 200, np.uint8), "PNG")
    path = tmp_path / "here" / "a.zip"
    path.parent.mkdir()
    path.write_bytes(
        files._zipped({name: b"Iout", "../x/images/x.png": picture, "../x/masks/m.png": picture})
    )
    with contextlib.closing(archives.Source(path)) as source:
        assert [cell.id for cell in archives.read_bbbc038(source, "dsb-bf")] == ["x"]
    path.write_bytes(files._zipped({name: next(iter(files._drawings()[0].cases.values()))}))
    annotations.read_instances(path, (20, 24))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def bomb(side):
    """A PNG of few bytes that is large."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)]
    chunks += [b"IDAT" + zlib.compress(bytes(side * (side + 1)), 9), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def test_bombs_are_refused_unread_within_limits_that_can_be_set(tmp_path):
    picture, path = bomb(6000), tmp_path / "a.png"
    path.write_bytes(picture)
    with raises_fault("image-huge", file="a.png", naming="6000 x 6000") as refused:
        pictures.read_image(path)
    assert "33,554,432" in str(refused.value) and "S2L_LIMITS=4" in str(refused.value)
    code = (
        "import sys; from pathlib import Path; from s2l_images.reading.pictures import read_image; "
    )
    code += "print(read_image(Path(sys.argv[1]))[0].shape)"
    for limits, said in (
        ("2", "(6000, 6000, 3)"),
        ("many", "S2L_LIMITS = 'many': "),
    ):
        environment = os.environ | {"S2L_LIMITS": limits}
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert said in done.stdout + done.stderr
    members = {"a/images/a.png": picture, "b/images/b.png": bytes(archives.MAX_MEMBER_BYTES + 1)}
    for name, said in (
        ("a/images/a.png", "6000 x 6000"),
        ("b/images/b.png", "33,554,433"),
    ):
        (tmp_path / "a.zip").write_bytes(files._zipped({name: members[name]}))
        with (
            pytest.raises(S2LError, match=said),
            contextlib.closing(archives.Source(tmp_path / "a.zip")) as source,
        ):
            list(archives.read_bbbc038(source, "dsb-bf"))


def test_a_page_chain_without_end_and_planes_without_number_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((20, 24), np.uint8), metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].offset
    end = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    data[end : end + 4] = struct.pack("<I", start)  # the next page is this page
    path.write_bytes(data)
    with raises_fault("stack", "unreadable-file", file="a.tif"):
        pictures.read_image(path)


def test_an_xml_of_archives_is_bounded(monkeypatch):
    zigzag = "".join(f'<Vertex X="{x % 2 * 999}" Y="{x % 999}"/>' for x in range(3000))
    layer = f"<Annotation><Region>{zigzag}</Region></Annotation>"
    content = f"<Annotations>{layer}</Annotations>".encode()
    with pytest.raises(S2LError):
        aperio.rasterise(content, (1000, 1000))
    monkeypatch.setattr(aperio, "MAX_ELEMENTS", 100)
    with pytest.raises(S2LError, match=" 100 "):
        aperio.rasterise(content, (1000, 1000))


def test_strokes_that_would_take_hours_are_refused(tmp_path):
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    (folder / "scribbles").mkdir()
    (folder / "images" / "a.png").write_bytes(
        files._pillow(np.full((500, 500), 9, np.uint8), "PNG")
    )
    row = [10**5, *[1, 1] * 20_000]
    (folder / "scribbles" / "strokes.json").write_text(
        json.dumps({"unit": 1, "strokes": {"a": [row]}})
    )
    found = [(finding.code, finding.file.name) for finding in check_folder(folder)]
    assert ("unreadable-file", "strokes.json") in found
    with raises_fault("unreadable-file", file="strokes.json"):
        load_dataset(str(folder))
    (folder / "scribbles" / "strokes.json").write_text("[" * 200_000)
    with raises_fault("unreadable-file", file="strokes.json"):
        load_dataset(str(folder))


@pytest.mark.parametrize("kind", ["images", "scribbles", "masks"])
def test_what_has_no_end_is_no_file(tmp_path, kind):
    """A pipe would be waited for, and /dev/zero read, for ever."""
    folder = tmp_path / "own"
    for name in ("images", "scribbles", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(files._pillow(np.full((40, 40), 9, np.uint8), "PNG"))
    (folder / "images" / "b.png").write_bytes(files._pillow(np.full((40, 40), 7, np.uint8), "PNG"))
    os.mkfifo(folder / kind / ("c.png" if kind == "images" else "a.png"))
    assert "unreadable-file" in {finding.code for finding in check_folder(folder)}
    with raises_fault("unreadable-file", file="c.png" if kind == "images" else "a.png"):
        load_dataset(str(folder))
    os.mkfifo(tmp_path / "a.roi")
    with pytest.raises(S2LError, match="a.roi: "):
        annotations.read_scribbles(tmp_path / "a.roi", (20, 24))


@pytest.mark.parametrize("kind", ["images", "scribbles", "s2l"])
def test_links_out_of_a_folder_are_not_followed(tmp_path, kind):
    folder, secret = tmp_path / "own", tmp_path / "secret"
    for name in ({"images", "scribbles"} - {kind}) | {"../secret"}:
        (folder / name).mkdir(parents=True)
    (folder / kind).symlink_to(secret, target_is_directory=True)
    (folder / "images" / "a.png").write_bytes(files._pillow(np.full((40, 40), 9, np.uint8), "PNG"))
    assert "link-outside" in {finding.code for finding in check_folder(folder)}
    for use in (lambda: load_dataset(str(folder)), lambda: rounds.train_round(folder, steps=12)):
        with raises_fault("link-outside", naming=str(secret)):
            use()
    assert {file.name for file in secret.iterdir()} <= {"a.png"}
    (tmp_path / "link").symlink_to(
        folder, target_is_directory=True
    )  # the whole folder may lie anywhere
    (folder / kind).unlink()
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.png").write_bytes(files._pillow(np.full((40, 40), 9, np.uint8), "PNG"))
    assert len(load_dataset(str(tmp_path / "link"))) == 1


@pytest.mark.parametrize("entry", ["export", "export/predicted.jsonl", "model.safetensors"])
def test_links_where_results_go_are_not_followed(tmp_path, entry):
    link, secret = tmp_path / "own" / "s2l" / entry, tmp_path / "secret"
    (tmp_path / "own" / "images").mkdir(parents=True)
    (tmp_path / "own" / "images" / "a.png").write_bytes(
        files._pillow(np.full((40, 40), 9, np.uint8), "PNG")
    )
    assert len(sound(tmp_path / "own").files["images"]) == 1
    link.parent.mkdir(parents=True)
    link.symlink_to(secret)
    assert "link-outside" in {finding.code for finding in check_folder(tmp_path / "own")}
    with raises_fault("link-outside", file=f"s2l/{entry}", naming=str(secret)):
        sound(tmp_path / "own")


@pytest.mark.parametrize("entry", ["a", "a/masks", "a/masks/m.png"])
def test_links_out_of_an_unpacked_data_set_are_refused(tmp_path, entry):
    """Links of the user's own to a data set, or to the folder that holds them, are followed;
    others in it are not.
    """
    raw = tmp_path / "elsewhere"
    for name, kind in (
        ("images/a.png", (20, 24, 3)),
        ("masks/m.png", (20, 24)),
        ("masks/l.png", (20, 24)),
    ):
        (file := raw / "set" / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(files._pillow(np.full(kind, 200, np.uint8), "PNG"))
    (raw / "set" / "a" / "masks" / "n.png").symlink_to("l.png")  # stays inside
    (tmp_path / "data" / "bbbc038").mkdir(parents=True)
    (tmp_path / "data" / "bbbc038" / "stage1_train").symlink_to(
        raw / "set", target_is_directory=True
    )
    (tmp_path / "linked").symlink_to(tmp_path / "data", target_is_directory=True)
    path = sources.locate("dsb-bf", tmp_path / "linked")
    with contextlib.closing(archives.Source(path)) as source:
        assert [cell.id for cell in archives.read_bbbc038(source, "dsb-bf")] == ["a"]
    os.mkfifo(raw / "set" / "a" / "masks" / "pipe.png")  # would be waited for
    assert len(archives.Source(path).names) == 4
    link, secret = raw / "set" / entry, tmp_path / "secret"
    link.rename(secret)
    link.symlink_to(secret)
    with pytest.raises(S2LError, match=f"{entry}: .*{secret}"):
        archives.Source(path)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a/b"])
def test_names_with_path_parts_lead_nowhere(tmp_path, name):
    with pytest.raises(S2LError, match=f"{name}-none"):
        split_of(RunConfig(f"{name}-none", "s2l", profile="smoke"))
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    run_id = results.run_id(RunConfig(f"{folder}/../own/.", "s2l", profile="smoke"))
    assert "/" not in run_id and not run_id.startswith("..")
    assert paths.run_folder("smoke", run_id).parent == paths.results("smoke") / "runs"
    with pytest.raises(S2LError, match=f"profile = {name!r}"):
        RunConfig("synthetic-fluo", "s2l", profile=name)
    (folder / "images" / "a.png").write_bytes(files._pillow(np.full((40, 40), 9, np.uint8), "PNG"))
    (folder / "splits.json").write_text(json.dumps({"train": [name]}))
    (folder / "scribbles").mkdir()
    (folder / "scribbles" / "strokes.json").write_text('{"unit": 1, "strokes": {"a": [[1, 1, 1]]}}')
    with raises_fault("bad-splits", file="splits.json", naming=repr(name)):
        split_of(RunConfig(str(folder), "s2l", profile="smoke"))


CODE = [
    "'); open('evil', 'w')#",
    '"""\nopen("evil", "w")\n"""',
    "__import__('os').mkdir('evil')",
    "\\'\n!touch evil\n",
    "{x}",
]


@pytest.mark.parametrize("text", CODE)
def test_a_parameter_that_carries_code_stays_a_word(tmp_path, monkeypatch, text):
    """What papermill writes into the cell of parameters is run, and gives the very words back."""
    monkeypatch.chdir(tmp_path)
    source = paths.notebook("04_train")
    notebooks.check_parameters(source, {"dataset": text})
    given = {"dataset": text, "overrides": {text: [text, {"a": text}]}}
    notebooks.check_parameters(source, given)
    cell, values = (
        papermill.translators.translate_parameters("python3", "python", given, "Parameters"),
        {},
    )
    exec(cell, values)
    assert {name: values[name] for name in given} == given and not list(tmp_path.iterdir())
    for bad in ({text: 1}, {"dataset": text.encode()}, {"overrides": {1: text}}, {"fold": text}):
        with pytest.raises(S2LError):
            notebooks.check_parameters(source, bad)


@pytest.mark.parametrize("harm", ["another program's", "compressed"])
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, harm):
    path = tmp_path / checkpoints.NAMES[0]
    if harm == "compressed":
        files._checkpoint(path)
        with zipfile.ZipFile(path) as archive:
            path.write_bytes(
                files._zipped({name: archive.read(name) for name in archive.namelist()})
            )
    else:
        torch.save({"config": files.SmallTrainer().config.to_dict(), "step": 3, "epoch": 3}, path)
    with pytest.raises(S2LError, match=f"{tmp_path}: "):
        checkpoints.restore(files.SmallTrainer(), tmp_path)


@pytest.mark.parametrize(
    "content", [b"[]", b"[" * 200_000, b"\xff", b'{"config": {"dataset": "x", "method": ["s2l"]}}']
)
def test_a_damaged_run_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    folder = paths.results("smoke") / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(S2LError, match="runs/a: "):
        results.load_runs("smoke")
    (folder / "per_image.csv").write_bytes(b'image\n"a')
    with pytest.raises(S2LError, match="runs/a: "):
        results.read_run(folder)


@pytest.mark.parametrize("content", [b"[]", b"[" * 200_000, b"\xff", b'{"python": 3}'])
def test_a_damaged_record_of_the_machine_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    config = RunConfig("synthetic-fluo", "otsu", profile="smoke")
    folder = results.write_run(config, [], [], {}, seconds=1.0)
    assert folder.name in provenance.reproducibility(["smoke"])
    (folder / "env.json").write_bytes(content)
    with pytest.raises(S2LError, match=f"{folder.name}: "):
        provenance.reproducibility(["smoke"])


def test_a_picture_that_is_no_mask_is_refused(tmp_path):
    values = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24)
    path = tmp_path / "a.png"
    Image.fromarray(values % 7 == 0).save(path)
    np.testing.assert_array_equal(kept_masks.read_mask(path), values % 7 == 0)
    colour = np.dstack([values, values + 1, values]).astype(np.uint8)
    pictures = {
        "0 to 479": files._pillow(values, "PNG"),
        "values": files._pillow(colour, "PNG"),
        "6000 x 6000": bomb(6000),
        "0 bytes": b"",
    }
    for found, content in pictures.items():
        path.write_bytes(content)
        with pytest.raises(S2LError, match=f"a.png: .*{found}"):
            kept_masks.read_mask(path)


@pytest.mark.parametrize(
    "content", [b"\xff\n", b"[" * 200_000 + b"\n", b'{"a": 1}\n', b"3\n", b"not ours\n\nhalf"]
)
def test_a_journal_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path, content):
    (path := tmp_path / "predicted.jsonl").write_bytes(content)
    with (
        pytest.raises(S2LError, match="predicted.jsonl: "),
        open_journal(path),
    ):
        pass
    assert path.read_bytes() == content
