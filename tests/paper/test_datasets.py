"""Readers, prepared store, splits and download,
on tiny archives in the official layouts and on the real data.
"""

import dataclasses
import functools
import hashlib
import http.server
import io
import json
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import script
from s2l_core.config import RunConfig, S2LError
from s2l_core.profiles import DATASETS
from s2l_images.annotation_files.aperio import rasterise
from s2l_paper import paths
from s2l_paper.__main__ import main
from s2l_paper.data import archives, datasets, prepared, sources
from s2l_paper.data.datasets import Split, load_dataset, splits, synthetic_ids
from s2l_paper.data.sources import fetch
from s2l_paper.running.runs import new_trainer

TRAIN, TEST = ["TCGA-A", "TCGA-B"], ["TCGA-C"]


def png(array, **options):
    """Encoded bytes of an array."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


def grey(value, shape=(20, 24), mode=4):
    """A flat RGBA (or RGB) image."""
    image = np.full((*shape, mode), value, np.uint8)
    image[..., 3:] = 255
    return image


def box(top, left, bottom, right, shape=(20, 24)):
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def bbbc038_files():
    """Two bright-field, two fluorescence images and one of histology: member name -> bytes."""
    pieces = box(0, 0, 3, 3) | box(10, 10, 12, 12)
    purple = grey(90)
    purple[..., 0] = 150
    crowd = {
        f"{k:03d}": box(k // 20, k % 20, k // 20 + 1, k % 20 + 1, (30, 40)) for k in range(300)
    }
    cells = {
        # two overlap, in order of their names
        "bright1": (grey(220), {"b": box(2, 2, 8, 8), "a": box(6, 6, 12, 12)}),
        "bright2": (grey(200), {"a": pieces}),
        # b lies under a
        "dark1": (grey(9), {"a": box(1, 1, 5, 5), "b": box(2, 2, 4, 4), "c": box(7, 7, 9, 9)}),
        "dark2": (grey(2, (30, 40)), crowd),
        "purple": (purple, {"a": box(1, 1, 5, 5)}),
    }  # fmt: skip
    files = {}
    for name, (image, masks) in cells.items():
        files[f"{name}/images/{name}.png"] = png(image)
        files |= {f"{name}/masks/{mask}.png": png(array) for mask, array in masks.items()}
    return files


def aperio(*outlines):
    """An Aperio XML of outlines given as lists of (x, y)."""
    regions = "".join(
        "<Region><Vertices>"
        + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in outline)
        + "</Vertices></Region>"
        for outline in outlines
    )
    return (
        f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>".encode()
    )


def square(x, y, side):
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


def tiff(value, compression):
    return png(grey(value, (40, 50), mode=3), format="TIFF", compression=compression)


def monuseg_files():
    """Member name -> bytes of the training and of the test archive;
    `TCGA-X` is not among the paper's images.
    """
    train = {}
    for value, name in enumerate([*TRAIN, "TCGA-X"]):
        train[f"MoNuSeg 2018 Training Data/Tissue Images/{name}.tif"] = tiff(value, "tiff_lzw")
        train[f"MoNuSeg 2018 Training Data/Annotations/{name}.xml"] = aperio(
            square(2, 4, 6), square(5, 4, 8)
        )
    train["__MACOSX/MoNuSeg 2018 Training Data/Tissue Images/._TCGA-A.tif"] = b"resource fork"
    test = {f"MoNuSegTestData/{name}.tif": tiff(7, "packbits") for name in TEST}
    test |= {f"MoNuSegTestData/{name}.xml": aperio(square(2, 4, 6)) for name in TEST}
    return train, test


def write(files, target: Path):
    """Writes files as an archive, or as a folder where `target` has no suffix."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return
    for name, data in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """An empty data folder; the tiny archives' counts and ids stand in for the official ones."""
    lists = tmp_path / "monuseg.json"
    lists.write_text(json.dumps({"parts": [[TRAIN[1]], [TRAIN[0]]], "test": TEST}))
    monkeypatch.setenv("S2L_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("S2L_DATA", str(tmp_path / "raw"))
    monkeypatch.setattr(paths, "split_file", lambda name: lists)
    monkeypatch.setattr(
        prepared, "COUNTS", {"dsb-bf": 2, "dsb-fluo": 2, "monuseg-train": 2, "monuseg-test": 1}
    )
    return tmp_path / "raw"


@pytest.fixture
def bbbc038(raw):
    write(bbbc038_files(), raw / "bbbc038/stage1_train.zip")
    return raw / "bbbc038/stage1_train.zip"


def check_bbbc038():
    bright, dark = load_dataset("dsb-bf"), load_dataset("dsb-fluo")
    assert [c.id for c in bright + dark] == ["bright1", "bright2", "dark1", "dark2"]
    for cell in bright + dark:
        assert cell.image.dtype == np.uint8 and cell.image.shape == (*cell.instances.shape, 3)
        assert cell.instances.dtype == np.int32 and not cell.instances.flags.writeable
    assert (bright[0].image == 220).all()
    first = bright[0].instances
    assert (
        (first[6:12, 6:12] == 1).all() and (first == 2).sum() == 36 - 4 and first.max() == 2
    )  # a is 1, b is 2
    assert (
        set(np.unique(bright[1].instances)) == {0, 1} and (bright[1].instances > 0).sum() == 9 + 4
    )
    assert set(np.unique(dark[0].instances)) == {
        0,
        1,
        3,
    }  # nucleus 2 is hidden, the third keeps its number
    assert dark[1].instances.max() == 300 and np.unique(dark[1].instances).size == 301


@pytest.mark.parametrize(
    ("prefix", "target"),
    [
        ("", "stage1_train.zip"),
        ("stage1_train/", "stage1_train.zip"),
        ("", "stage1_train"),
        ("", ""),
    ],
)
def test_bbbc038_packed_and_unpacked(raw, prefix, target):
    write({prefix + name: data for name, data in bbbc038_files().items()}, raw / "bbbc038" / target)
    check_bbbc038()


def check_monuseg():
    cells = load_dataset("monuseg")
    assert [c.id for c in cells] == TRAIN + TEST  # TCGA-X is left out
    assert [int(c.image[0, 0, 0]) for c in cells] == [0, 1, 7] and cells[0].image.shape == (
        40,
        50,
        3,
    )
    truth = cells[0].instances
    assert (
        truth[4:10, 2:8].min() == truth[4:10, 2:8].max() == 1
        and truth[5, 10] == 2
        and truth.max() == 2
    )
    assert [c.id for c in load_dataset("monuseg-test")] == TEST
    assert [c.id for c in load_dataset("monuseg", ids=["TCGA-C", "TCGA-A"])] == ["TCGA-C", "TCGA-A"]


@pytest.mark.parametrize(
    "targets",
    [
        ("MoNuSeg2018TrainingData.zip", "MoNuSegTestData.zip"),
        ("MoNuSeg 2018 Training Data.zip", "MoNuSegTestData"),
        ("MoNuSeg2018TrainingData", ""),
        ("", "MoNuSegTestData.zip"),
    ],
)
def test_monuseg_packed_and_unpacked(raw, targets):
    for files, target in zip(monuseg_files(), targets, strict=True):
        write(files, raw / "monuseg" / target)
    check_monuseg()


def test_an_unpacked_folder_wins_over_the_archive(bbbc038):
    files = bbbc038_files() | {"dark1/masks/a.png": png(box(0, 0, 20, 24))}
    write(files, bbbc038.parent / "stage1_train")
    assert (load_dataset("dsb-fluo", ids=["dark1"])[0].instances == 1).all()


def test_no_member_leaves_its_archive(bbbc038, tmp_path):
    with zipfile.ZipFile(bbbc038, "a") as archive:
        archive.writestr("../escaped/images/escaped.png", png(grey(3)))
        archive.writestr("../escaped/masks/a.png", png(box(1, 1, 2, 2)))
    prepared.COUNTS["dsb-fluo"] = 3  # read in memory, as any other image
    assert "escaped" in [c.id for c in load_dataset("dsb-fluo")]
    assert not list(tmp_path.rglob("escaped*"))


# --- outlines


def test_outlines_overlap_leave_the_image_and_cross_themselves():
    bow_tie = [(0, 0), (8, 8), (8, 0), (0, 8)]
    truth = rasterise(
        aperio(square(30, -5, 10), square(34, 0, 100), bow_tie, [], [(1e6, 1e6)]), (20, 60)
    )
    assert (truth[:6, 31:40] == 1).all() and (truth[7:, 35:] == 2).all() and truth[5, 41] == 2
    tie = truth[:9, :9] == 3
    assert (
        tie[4, 1] and tie[4, 7] and not tie[0, 4] and not tie[8, 4]
    )  # the two lobes, not what lies between
    assert truth.max() == 3  # an empty outline and one outside keep their numbers, without a pixel


def test_x_is_the_column_and_whole_numbers_are_pixel_centres():
    truth = rasterise(aperio([(9.5, 1.5), (12.5, 1.5), (12.5, 3.5), (9.5, 3.5)]), (10, 20))
    assert np.argwhere(truth).tolist() == [[r, c] for r in (2, 3) for c in (10, 11, 12)]


# --- prepared store


def forbid_reading(monkeypatch):
    monkeypatch.setattr(
        prepared, "read_bbbc038", lambda *_: pytest.fail("the source was read again")
    )


def store_of(array):
    """The file mapped to memory that an array is a view of; None for a copy."""
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array


def test_second_load_maps_the_store(bbbc038, monkeypatch, capsys):
    load_dataset("dsb-bf")
    assert "first use" in capsys.readouterr().out
    forbid_reading(monkeypatch)
    cells = load_dataset("dsb-bf", ids=["bright2"])
    assert [c.id for c in cells] == ["bright2"] and capsys.readouterr().out == ""
    assert store_of(cells[0].image).mode == "r"
    assert sorted(p.name for p in paths.prepared_data().iterdir()) == [
        "dsb-bf"
    ]  # no temporary folder is left


def test_training_reads_the_mapped_store_and_holds_no_copy(
    bbbc038, one_thread, tmp_path, monkeypatch
):
    """Pixels and masks of a run, after steps and averages, are still the store's own pages."""
    parts = [["bright2"], ["bright1"], [], []]
    monkeypatch.setattr(paths, "split_file", lambda name: tmp_path / "lists.json")
    (tmp_path / "lists.json").write_text(json.dumps({"parts": parts, "test": []}))
    run = new_trainer(RunConfig("dsb-bf", "s2l", profile="smoke"), progress=False)
    run.advance(2)
    held = run.data.images + run.validation
    assert [cell.id for cell in held] == ["bright1", "bright2"]
    for cell in held:
        for array, file in ((cell.image, "images.u8"), (cell.instances, "instances.i32")):
            store = store_of(array)
            assert Path(
                store.filename
            ) == paths.prepared_data() / "dsb-bf" / file and np.shares_memory(array, store)


def test_store_does_not_depend_on_where_the_archive_lies(bbbc038, tmp_path, monkeypatch):
    load_dataset("dsb-bf")
    forbid_reading(monkeypatch)
    shutil.copytree(bbbc038.parent, tmp_path / "elsewhere/bbbc038")
    assert len(load_dataset("dsb-bf", tmp_path / "elsewhere")) == 2


@pytest.mark.parametrize("packed", [True, False])
def test_stale_store_is_made_anew(raw, capsys, packed):
    target = raw / "bbbc038" / ("stage1_train.zip" if packed else "stage1_train")
    write(bbbc038_files(), target)
    load_dataset("dsb-bf")
    write(bbbc038_files() | {"bright1/masks/a.png": png(box(0, 0, 20, 24))}, target)
    assert (load_dataset("dsb-bf")[0].instances == 1).all()
    assert "its source has changed" in capsys.readouterr().out


def test_new_rules_make_stores_stale(bbbc038, monkeypatch, capsys):
    load_dataset("dsb-bf")
    monkeypatch.setattr(prepared, "STORE_VERSION", prepared.STORE_VERSION + 1)
    load_dataset("dsb-bf")
    assert "its source has changed" in capsys.readouterr().out


def flip(file: Path):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["images.u8", "instances.i32", "index.json"])
@pytest.mark.parametrize(
    "harm",
    [flip, Path.unlink, lambda f: f.write_bytes(f.read_bytes()[:-1]), lambda f: f.write_bytes(b"")],
)
def test_damaged_store_is_made_anew(bbbc038, capsys, name, harm):
    before = load_dataset("dsb-bf")
    wanted = [(c.id, c.image.copy(), c.instances.copy()) for c in before]
    file = paths.prepared_data() / "dsb-bf" / name
    file.write_bytes(file.read_bytes())
    harm(file)
    for cell, (i, image, instances) in zip(load_dataset("dsb-bf"), wanted, strict=True):
        assert cell.id == i and (cell.image == image).all() and (cell.instances == instances).all()
    assert "not usable" in capsys.readouterr().out
    load_dataset("dsb-bf")
    assert capsys.readouterr().out == ""


def test_a_store_whose_index_was_altered_is_made_anew(bbbc038, capsys):
    first, *_ = load_dataset("dsb-bf")
    index = paths.prepared_data() / "dsb-bf" / "index.json"
    content = json.loads(index.read_text())
    content["images"][0]["shape"].reverse()
    index.write_text(json.dumps(content))
    assert load_dataset("dsb-bf")[0].image.shape == first.image.shape
    assert "its index is damaged" in capsys.readouterr().out


def test_an_archive_of_a_later_kind_is_named(bbbc038):
    data = bytearray(bbbc038.read_bytes())
    data[data.rindex(b"PK\1\2") + 6] = 255  # the version that it needs
    bbbc038.write_bytes(data)
    fails("dsb-bf", str(bbbc038), "zip file version 25.5")


def test_nothing_half_written_is_left(bbbc038, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(S2LError, match=r"dsb-bf: .*\(disk full\).*S2L_HOME"):
        load_dataset("dsb-bf")
    assert list(paths.prepared_data().iterdir()) == []


def test_another_process_may_be_faster(bbbc038, monkeypatch, capsys):
    """Its store appears between our look and our rename: both are as good, nothing fails."""
    cells, folder = load_dataset("dsb-bf"), paths.prepared_data() / "dsb-bf"
    key = json.loads((folder / "index.json").read_text())["source"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda self: False)
        prepared._write_store(folder, "dsb-bf", cells, key)
    assert [p.name for p in folder.parent.iterdir()] == ["dsb-bf"]
    capsys.readouterr()
    assert len(load_dataset("dsb-bf")) == 2 and capsys.readouterr().out == ""


def listing(folder):
    """Every file and folder below: its times, rights and content.
    A folder's time tells what was there for a moment.
    """
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None,
        )
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.parametrize("packed", [True, False])
def test_the_data_folder_may_be_read_only(raw, packed):
    """Nothing in it is changed or added, not even for a moment: first and second use, `fetch`,
    a missing archive.
    """
    ending = ".zip" if packed else ""
    write(bbbc038_files(), raw / f"bbbc038/stage1_train{ending}")
    write(monuseg_files()[0], raw / f"monuseg/MoNuSeg2018TrainingData{ending}")
    before = listing(raw)
    for name in ("dsb-bf", "dsb-fluo", "monuseg-train") * 2:
        assert fetch(name) and load_dataset(name)
    with pytest.raises(S2LError, match="MoNuSegTestData.zip"):
        load_dataset("monuseg-test")
    assert listing(raw) == before
    (raw / "monuseg/lock").touch()
    (raw / "monuseg/lock").unlink()
    assert listing(raw) != before, "a file that was there for a moment"


# --- errors


def fails(name, *parts, **arguments):
    """The load fails, names all of `parts`, and leaves no prepared data behind."""
    with pytest.raises(S2LError) as caught:
        load_dataset(name, **arguments)
    assert not [part for part in parts if part not in str(caught.value)], str(caught.value)
    assert not paths.prepared_data().exists() or not list(paths.prepared_data().iterdir())


@pytest.mark.parametrize(
    ("name", "file", "address"),
    [
        (
            "dsb-bf",
            "bbbc038/stage1_train",
            "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
        ),
        (
            "monuseg-train",
            "monuseg/MoNuSeg2018TrainingData",
            "https://monuseg.grand-challenge.org/Data/",
        ),
        ("monuseg", "monuseg/MoNuSeg2018TrainingData", "1ZgqFJomqQGNnsx7w7QBzQQMVA16lbVCA"),
        ("monuseg-test", "monuseg/MoNuSegTestData", "1NKkSQ5T0ZNQ8aUhh0a8Dt2YKYCQXIViw"),
    ],
)
def test_missing_archive(raw, name, file, address):
    folder, file = file.split("/")
    fails(name, f"{file}.zip", str(raw / folder), address, "S2L_DATA", f"unpacked as {file}/")


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_truncated_archive(bbbc038, keep):
    data = bbbc038.read_bytes()
    bbbc038.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    fails("dsb-bf", str(bbbc038), "truncated", "get it again")


def test_damaged_member(bbbc038):
    with zipfile.ZipFile(bbbc038) as archive:
        start = (
            archive.getinfo("bright1/masks/a.png").header_offset + 30 + len("bright1/masks/a.png")
        )
    data = bytearray(bbbc038.read_bytes())
    data[start + 20 : start + 40] = bytes(20)
    bbbc038.write_bytes(data)
    fails("dsb-bf", str(bbbc038), "bright1/masks/a.png is damaged")


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", png(box(1, 1, 5, 5))[:50]])
@pytest.mark.parametrize("file", ["bright1/images/bright1.png", "bright1/masks/a.png"])
def test_file_that_is_no_image(raw, data, file):
    write(bbbc038_files() | {file: data}, raw / "bbbc038/stage1_train.zip")
    fails("dsb-bf", f"{file} is not a readable image")


def test_image_without_mask(raw):
    files = {
        name: data for name, data in bbbc038_files().items() if not name.startswith("dark1/masks")
    }
    write(files, raw / "bbbc038/stage1_train.zip")
    fails("dsb-fluo", "image dark1 has no mask", "dark1/masks/")


def test_mask_of_another_size(raw):
    write(
        bbbc038_files() | {"dark1/masks/b.png": png(box(1, 1, 5, 5, (20, 25)))},
        raw / "bbbc038/stage1_train.zip",
    )
    fails("dsb-fluo", "dark1/masks/b.png measures (25, 20) pixels", "(24, 20)")


def test_wrong_count(raw):
    files = {name: data for name, data in bbbc038_files().items() if not name.startswith("dark1")}
    write(files, raw / "bbbc038/stage1_train.zip")
    fails("dsb-fluo", "found 1 images, expected 2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Annotations/TCGA-A.xml": None}, "TCGA-A.tif has no outlines"),
        ({"Tissue Images/TCGA-B.tif": None}, "TCGA-B.tif is missing"),
        ({"Annotations/TCGA-A.xml": b"<Annotations><Region>"}, "TCGA-A.xml is not an Aperio XML"),
        ({"Annotations/TCGA-A.xml": aperio([("one", 2)])}, "TCGA-A.xml is not an Aperio XML"),
        (
            {"Annotations/TCGA-A.xml": b"<Region><Vertices><Vertex X='1'/></Vertices></Region>"},
            "is not an Aperio XML",
        ),
        (
            {"Annotations/TCGA-A.xml": b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>'},
            "EntitiesForbidden",
        ),
    ],
)
def test_damaged_monuseg(raw, change, message):
    files = monuseg_files()[0] | {
        f"MoNuSeg 2018 Training Data/{name}": data for name, data in change.items()
    }
    write(
        {k: v for k, v in files.items() if v is not None},
        raw / "monuseg/MoNuSeg2018TrainingData.zip",
    )
    fails("monuseg-train", message)


def test_unknown_names(bbbc038):
    fails(
        "dsb-flou",
        "'dsb-flou' is neither known nor a folder",
        "Did you mean 'dsb-fluo'",
        "monuseg-train",
    )
    load_dataset("dsb-bf")
    with pytest.raises(S2LError, match="dsb-bf .*'x' .*1 of 2"):
        load_dataset("dsb-bf", ids=["bright1", "x"])


# --- embedded data


@pytest.mark.parametrize("name", ["synthetic-bf", "synthetic-fluo", "synthetic-he"])
def test_embedded_data(name):
    cells = load_dataset(name, images=3, image_size=96)
    assert [c.id for c in cells] == synthetic_ids(name, 3)
    assert (
        cells[0].image.shape == (96, 96, 3)
        and cells[0].instances.dtype == np.int32
        and cells[0].instances.max()
    )
    again = load_dataset(name, ids=[cells[2].id], images=3, image_size=96)
    assert len(again) == 1 and (again[0].image == cells[2].image).all()


# --- splits

SIZES = {
    "dsb-bf": ([4, 3, 3, 3], 3),
    "dsb-fluo": ([110, 109, 109, 109], 109),
    "monuseg": ([6] * 5, 14),
}


def check_split(split: Split, total: int):
    ids = split.train + split.validation + split.test
    assert len(ids) == len(set(ids)) == total and split.train and split.validation and split.test


@pytest.mark.parametrize("name", SIZES)
def test_committed_splits_are_disjoint_and_complete(name):
    parts, test = SIZES[name]
    folds = [splits(name, fold) for fold in range(DATASETS[name][1])]
    for fold, split in enumerate(folds):
        check_split(split, sum(parts) + test)
        assert len(split.validation) == parts[fold] and len(split.test) == test
        assert split.test == folds[0].test
    validated = [i for split in folds for i in split.validation]
    assert sorted(validated) == sorted(
        folds[0].train + folds[0].validation
    )  # each image validates exactly once


@pytest.mark.parametrize("name", SIZES)
def test_subset(name):
    for fold in range(DATASETS[name][1]):
        whole, part = splits(name, fold), splits(name, fold, subset=True)
        if name != "dsb-fluo":
            assert part == whole
            continue
        assert (len(part.train), len(part.validation), len(part.test)) == (80, 20, 40)
        check_split(part, 140)
        for role in ("train", "validation", "test"):
            assert set(getattr(part, role)) < set(getattr(whole, role))
        assert part.test == splits(name, 0, subset=True).test


@pytest.mark.parametrize("images", [5, 8, 16, 32, 40])
def test_synthetic_splits(images):
    folds = [splits("synthetic-he", fold, images=images) for fold in range(4)]
    for split in folds:
        check_split(split, images)
        assert split.test == folds[0].test and set(
            split.train + split.validation + split.test
        ) == set(synthetic_ids("synthetic-he", images))
        assert abs(len(split.test) - images / 5) < 1 and abs(len(split.validation) - images / 5) < 1
    assert len({i for split in folds for i in split.validation}) == sum(
        len(split.validation) for split in folds
    )


@pytest.mark.parametrize("name", ["dsb-bf", "dsb-fluo", "synthetic-he"])
def test_each_image_is_tested_once_over_all_rotations(name):
    paper = splits(name, 0)
    everything = sorted(paper.train + paper.validation + paper.test)
    tested = []
    for rotation in range(5):
        folds = [splits(name, fold, rotation=rotation) for fold in range(4)]
        for split in folds:
            check_split(split, len(everything))
            assert split.test == folds[0].test
        validated = [i for split in folds for i in split.validation]
        assert sorted(validated) == sorted(folds[0].train + folds[0].validation)
        tested += folds[0].test
    assert sorted(tested) == everything
    assert splits(name, 0, rotation=1).test == paper.validation  # part r - 1 comes last
    assert splits(name, 3, rotation=1).validation == paper.test


def test_a_run_reads_the_images_of_its_rotation():
    run = RunConfig("dsb-bf", "s2l", fold=2, rotation=3, profile="scratch")
    assert datasets.split_of(run) == splits("dsb-bf", 2, rotation=3) != splits("dsb-bf", 2)


def test_rotations_that_do_not_exist():
    with pytest.raises(S2LError, match="rotation = 1: .*monuseg"):
        splits("monuseg", 0, rotation=1)
    with pytest.raises(S2LError, match="rotation = 2: .*subset .*dsb-fluo"):
        splits("dsb-fluo", 0, rotation=2, subset=True)
    with pytest.raises(S2LError, match="rotation = 5: .*0 to 4"):
        splits("dsb-bf", 0, rotation=5)


def test_splits_hand_out_copies():
    splits("dsb-bf", 0).test.clear()
    assert len(splits("dsb-bf", 0).test) == 3


def test_split_errors(tmp_path, monkeypatch):
    for name, fold, message in [
        ("dsb", 0, "'dsb'"),
        ("dsb-bf", 4, "fold = 4: dsb-bf .*0 to 3"),
        ("monuseg", -1, "fold = -1: monuseg .*0 to 4"),
        ("monuseg", "0", "fold = '0'"),
    ]:
        with pytest.raises(S2LError, match=message):
            splits(name, fold)
    with pytest.raises(S2LError, match="images = 4: synthetic-bf .*5"):
        splits("synthetic-bf", 0, images=4)
    monkeypatch.setattr(paths, "split_file", lambda name: tmp_path / f"{name}.json")
    with pytest.raises(S2LError, match="dsb-bf.json "):
        splits("dsb-bf", 0)


@pytest.fixture(scope="module")
def make_splits():
    return script("data/splits/make_splits.py")


@pytest.mark.parametrize("name", ["dsb-bf", "monuseg"])
def test_splits_are_regenerated(make_splits, name):
    committed = paths.split_file(name).read_text()
    lists = json.loads(committed)
    ids, test = sum(lists["parts"], []), lists["test"]
    sizes = dict.fromkeys(ids if name == "monuseg" else ids + test, (1000, 1000))
    assert (
        make_splits.text(make_splits.make(name, sizes, test if name == "monuseg" else ()))
        == committed
    )


@pytest.mark.real
def test_fluorescence_splits_are_regenerated(make_splits):
    sizes = {cell.id: cell.image.shape[:2] for cell in load_dataset("dsb-fluo")}
    made = make_splits.make("dsb-fluo", sizes)
    assert make_splits.text(made) == paths.split_file("dsb-fluo").read_text()
    parts = [*made["parts"], made["test"]]
    groups = [
        [sum(sizes[i] == size for i in part) for part in parts] for size in set(sizes.values())
    ]
    assert all(
        max(counts) - min(counts) <= 1 for counts in groups
    )  # the same mix of sizes in all parts


# --- download


@pytest.fixture
def server(tmp_path):
    """A local server of the folder `www`: its address."""
    (tmp_path / "www").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "www")
    handler.log_message = lambda *_: None
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def serve(monkeypatch, name, **change):
    archive = dataclasses.replace(sources.ARCHIVES[name], **change)
    monkeypatch.setitem(sources.ARCHIVES, name, archive)


def test_fetch(raw, server, tmp_path, monkeypatch):
    write(bbbc038_files(), tmp_path / "www/stage1_train.zip")
    serve(monkeypatch, "dsb-fluo", url=f"{server}/stage1_train.zip")
    assert fetch("dsb-fluo") == [raw / "bbbc038/stage1_train.zip"]
    assert len(load_dataset("dsb-fluo")) == 2
    (tmp_path / "www/stage1_train.zip").unlink()
    assert fetch("dsb-fluo") == [raw / "bbbc038/stage1_train.zip"]  # what is there is kept


@pytest.mark.parametrize(
    ("content", "checksum"),
    [(None, None), (b"<html>please log in</html>", None), (b"another file", "0" * 64)],
)
def test_failed_fetch(raw, server, tmp_path, monkeypatch, content, checksum):
    if content:
        (tmp_path / "www/file.zip").write_bytes(content)
    serve(monkeypatch, "monuseg-test", url=f"{server}/file.zip", sha256=checksum)
    with pytest.raises(S2LError) as caught:
        fetch("monuseg-test")
    for part in (
        f"{server}/file.zip",
        "grand-challenge",
        str(raw / "monuseg"),
        "MoNuSegTestData.zip",
        "S2L_DATA",
    ):
        assert part in str(caught.value)
    assert not list((raw / "monuseg").glob("*"))


def test_fetch_of_an_unknown_name(raw):
    with pytest.raises(S2LError, match="'dsb-bff' "):
        fetch("dsb-bff")


def test_loading_never_downloads(raw, monkeypatch):
    import pooch

    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("the network was asked"))
    fails("dsb-fluo", "found no stage1_train.zip")


def test_the_command_fetches_what_is_named(raw, server, tmp_path, monkeypatch, capsys):
    write(bbbc038_files(), tmp_path / "www/stage1_train.zip")
    serve(monkeypatch, "dsb-bf", url=f"{server}/stage1_train.zip")
    assert main(["data", "dsb-bf"]) == 0
    assert str(raw / "bbbc038/stage1_train.zip") in capsys.readouterr().out
    serve(monkeypatch, "monuseg-train", url=f"{server}/nothing.zip")
    assert main(["data", "monuseg"]) == 1
    assert "error: monuseg-train: the download failed" in capsys.readouterr().err


# --- the real data


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "images", "annotated", "visible"),
    [
        ("dsb-bf", 16, 1345, 1345),
        ("dsb-fluo", 546, 23541, 23541),
        (
            "monuseg-train",
            30,
            16958,
            16956,
        ),  # 16,961 regions: in three traced files the last is hidden, in two another
        ("monuseg-test", 14, 6697, 6697),
    ],
)
def test_real_counts(name, images, annotated, visible):
    cells = load_dataset(name)
    folds = splits(name.split("-t")[0], 0)
    listed = {"monuseg-train": folds.train + folds.validation, "monuseg-test": folds.test}
    assert [c.id for c in cells] == sorted(
        listed.get(name, folds.train + folds.validation + folds.test)
    )
    assert len(cells) == images
    assert sum(int(c.instances.max()) for c in cells) == annotated
    assert sum(np.unique(c.instances).size - 1 for c in cells) == visible
    for cell in cells:
        assert cell.image.shape == (*cell.instances.shape, 3) and cell.image.any()
        assert archives.group(cell.image) == (name if name.startswith("dsb") else "histology")


def test_fewer_training_images_are_drawn_evenly_and_the_whole_test_part_stays():
    """D26."""
    whole, fewer = (
        datasets.split_of(RunConfig("dsb-fluo", "s2l", profile="paper", train_images=most))
        for most in (0, 80)
    )
    assert len(fewer.train) == 80 and len(fewer.validation) == 20 and fewer.test == whole.test
    assert set(fewer.train) < set(whole.train) and set(fewer.validation) < set(whole.validation)
    places = [whole.train.index(i) for i in fewer.train]
    assert places == sorted(places) and max(np.diff(places)) - min(np.diff(places)) <= 1
    assert RunConfig("dsb-fluo", "s2l", profile="pretrained").train_images == 80
    assert len(datasets.split_of(RunConfig("dsb-bf", "s2l", train_images=80)).train) == 9
