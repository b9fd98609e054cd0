"""What folder.toml decides, what is said wherever a folder is used, and where the package runs."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from conftest import ROOT, raises_fault
from s2l_images.exporting.export_qupath import write_geojson
from s2l_images.faults import Fault, plain, printable
from s2l_images.folders import folder as folder_room
from s2l_images.folders.folder import read_folder
from s2l_images.folders.input_checks import check_folder, report
from s2l_images.folders.listing import fingerprint
from s2l_images.folders.settings import Settings, read_settings
from s2l_images.nuclei import prediction

SHAPE = (48, 64)
NUCLEI = np.zeros(SHAPE, np.uint16)
NUCLEI[4:14, 5:15], NUCLEI[20:34, 8:20], NUCLEI[22:40, 30:46] = 1, 2, 3
LIGHT = (300 + 2000 * (NUCLEI > 0) + np.arange(SHAPE[1]) % 7).astype(np.uint16)
STROKES = np.full(SHAPE, 255, np.uint8)
STROKES[27, 9:44], STROKES[44, 2:60] = 1, 0


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes files into a folder of one's own: arrays by suffix, texts as they are."""
    folder_room.say.cache_clear()

    def write(**files):
        for name, content in files.items():
            kind, _, rest = name.partition("__")
            path = (
                tmp_path / "own" / kind / rest.replace("_", ".")
                if rest
                else tmp_path / "own" / kind
            )
            path = path.with_name("folder.toml") if kind == "settings" else path
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            elif path.suffix == ".png":
                Image.fromarray(content).save(path)
            else:
                tifffile.imwrite(path, content)
        return tmp_path / "own"

    return write


def stack(*stains, names=("DAPI", "GFP")):
    file = io.BytesIO()
    about = {"axes": "CYX", "Labels": list(names)}
    tifffile.imwrite(file, np.stack(stains), imagej=True, metadata=about)
    return file.getvalue()


# folder.toml


def test_a_channel_is_chosen_for_training_and_check(own):
    folder = own(images__a_tif=stack(LIGHT, LIGHT[::-1]), scribbles__a_png=STROKES)
    with raises_fault("image-channels", file="images/a.tif", naming="1 = 'DAPI', 2 = 'GFP'"):
        read_folder(folder)
    before = fingerprint(folder)
    seen = {}
    for choice in ('"DAPI"', '"gfp"', "1", "2"):
        own(settings=f"channel = {choice}\n")
        (cell,) = read_folder(folder)
        seen[choice] = cell.image
        assert not [one for one in check_folder(folder) if one.level == "error"]
    assert fingerprint(folder) != before  # what was learned from belongs to a run
    assert (seen['"DAPI"'] == seen["1"]).all() and (seen['"gfp"'] == seen["2"]).all()
    assert (seen["1"] == seen["2"][::-1]).all()


def test_the_background_of_ilastik_is_asked_for_and_followed(own):
    two = (1 + (NUCLEI > 0)).astype(np.uint8)
    folder = own(images__a_tif=LIGHT, masks__a_tif=two)
    assert "mask-background" in {one.code for one in check_folder(folder)}
    with raises_fault("mask-background", file="masks/a.tif"):
        read_folder(folder)
    own(settings="mask_background = 1\n")
    (cell,) = read_folder(folder)
    assert (cell.instances > 0).tolist() == (NUCLEI > 0).tolist() and cell.instances.max() == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Settings()),
        ('channel = "DAPI"', Settings(channel="DAPI")),
        ("\ufeffchannel = 2\nmask_background = 0", Settings(channel=2, mask_background=0)),
        ("plane = 3", Settings(plane=3)),
        ("plane = {c = 1, z = 3}", Settings(plane={"c": 1, "z": 3})),
        ("channel = 1.5", "channel = 1.5"),
        ("channel = true", "channel = True"),
        ("mask_background = -1", "mask_background = -1"),
        ("plane = {}", "plane = {}"),
        ("plane = 0", "plane = 0"),
        ("kanal = 1", "'kanal'"),
        ("channel = ", ""),
    ],
)
def test_settings(own, text, expected):
    folder = own(settings=text)
    if isinstance(expected, Settings):
        assert read_settings(folder) == expected
    else:
        with raises_fault("bad-settings", file="folder.toml", naming=expected):
            read_settings(folder)


def test_large_numbers_in_names_of_outlines_are_numbered_anew(own):
    """Our own exports call nucleus k "cell k", whatever k is."""
    large = NUCLEI.astype(np.int64) * 700_000_000
    folder = own(images__a_tif=LIGHT, masks__a_geojson="")
    write_geojson(folder / "masks" / "a.geojson", large.astype(np.int32))
    (cell,) = read_folder(folder)
    assert (cell.instances == NUCLEI).all()
    assert "mask-renumbered" in {one.code for one in check_folder(folder)}


# What is said


def test_whoever_trains_is_warned_as_by_the_check(own, capsys):
    grey = (LIGHT // 16).astype(np.uint8)
    few = np.where(np.arange(SHAPE[1]) < 20, STROKES, 255).astype(np.uint8)
    files = {"images__a_tif": LIGHT, "images__b_tif": grey[::-1].copy(), "scribbles__a_png": few}
    folder = own(
        **files, masks__a_tif=np.roll(NUCLEI, 34, 0), masks__b_tif=(NUCLEI > 0) * np.uint8(255)
    )
    warned = {one.code for one in check_folder(folder) if one.level == "warning"}
    assert warned >= {"mixed-depth", "scribble-few", "scribble-contradicts-mask", "mask-binary"}
    read_folder(folder)
    said = capsys.readouterr().out
    assert {code for code in warned if f"warning: {code}: own/" in said} == warned
    read_folder(folder)
    assert capsys.readouterr().out == ""  # once is enough


def test_what_is_left_out_is_said_where_a_folder_is_used(own, capsys):
    folder = own(
        images__a_tif=stack(LIGHT, LIGHT[::-1]), scribbles__a_png=STROKES, settings="channel = 1"
    )
    read_folder(folder)
    assert "own/images/a.tif: 1 is read, 'GFP' is not" in capsys.readouterr().out


def test_mixed_depth_is_of_images_not_of_masks(own):
    names = {
        "images__a_tif": LIGHT,
        "images__b_tif": LIGHT[::-1].copy(),
        "images__c_tif": LIGHT.T.copy(),
    }
    folder = own(**names, masks__a_tif=NUCLEI, scribbles__c_png=STROKES.T.copy())
    assert "mixed-depth" not in {one.code for one in check_folder(folder)}
    own(images__c_tif=(LIGHT.T // 16).astype(np.uint8), masks__c_tif=NUCLEI.T.copy())
    (found,) = [one for one in check_folder(folder) if one.code == "mixed-depth"]
    assert "1 are of 8 bits, 2 of more (c.tif)" in found.found


# Measured on what was measured


def test_predicted_tables_hold_the_raw_numbers(own, monkeypatch, capsys):
    """A dish half as bright has half the mean, in the size of pixel that its file tells."""
    for name, light in (("a", LIGHT), ("b", LIGHT // 2)):
        file = io.BytesIO()
        tifffile.imwrite(file, light, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
        folder = own(**{f"images__{name}_tif": file.getvalue()})
    model, config = torch.nn.Identity(), None
    monkeypatch.setattr(prediction, "load_model", lambda file: (model, config))
    monkeypatch.setattr(prediction, "predict", lambda model, image: (NUCLEI > 0).astype(np.float32))
    (folder / "model").write_bytes(b"x")
    target = prediction.predict_folder(folder / "model", folder, min_size=5)
    rows = {}
    for name in "ab":
        with (target / f"{name}.csv").open(newline="") as stream:
            rows[name] = list(csv.DictReader(stream))
    assert len(rows["a"]) == len(rows["b"]) == 3
    for bright, dim in zip(rows["a"], rows["b"], strict=True):
        assert float(bright["mean"]) > 2300 and float(dim["mean"]) == pytest.approx(
            float(bright["mean"]) / 2, rel=1e-3
        )
        assert float(bright["area_um2"]) == float(bright["area"]) / 4
    with tifffile.TiffFile(target / "a.tif") as tiff:
        assert tiff.imagej_metadata["unit"] == "um"


# Where it runs


def test_a_name_that_is_no_utf8_can_be_printed(own, capsys, monkeypatch):
    if sys.platform == "darwin":
        pytest.skip("this file system knows UTF-8 only: names that are none were not tried")
    folder = own(images__a_png=(LIGHT // 16).astype(np.uint8))
    with open(bytes(folder) + b"/images/Pr\xe4parat.tif", "wb") as stream:
        stream.write(b"")
    os.rename(folder / "images" / "a.png", folder / "images" / "画像.png")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = report(folder, check_folder(folder))
    print(text)
    assert r"Pr\xe4parat.tif is not UTF-8" in text and r"\u753b\u50cf" in text
    with pytest.raises(Fault) as caught:
        read_folder(folder)
    assert str(caught.value).encode() and json.dumps(str(caught.value))


def test_printable_leaves_what_can_be_printed():
    assert plain("Präparat 画像") == "Präparat 画像" and printable("a µm") in ("a µm", r"a \xb5m")


def test_the_check_writes_nothing(own):
    folder = own(images__a_tif=LIGHT, scribbles__a_png=STROKES)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert not [one for one in check_folder(folder) if one.level == "error"]
        assert len(read_folder(folder)) == 1
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_without_fcntl_all_of_it_imports():
    """Windows has no such module; there WSL2 is what is supported."""
    code = """
import pathlib, sys
sys.modules["fcntl"] = None
for package in ("s2l_core", "s2l_images"):
    for file in sorted(pathlib.Path(package).glob("*.py")):
        if file.stem != "__main__":
            __import__(f"{package}.{file.stem}")
print("all")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().endswith("all"), done.stderr[-2000:]
