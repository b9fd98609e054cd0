"""A folder of one's own: every pixel format and every meaning of scribbles, exactly; pairs,
splits and training.
"""

import dataclasses
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from roifile import ROI_TYPE, ImagejRoi

from conftest import raises_fault
from s2l_core import trainer
from s2l_core.config import IGNORE, RunConfig, S2LError
from s2l_images.folders import folder, roles
from s2l_images.folders.folder import read_folder, read_mask
from s2l_images.folders.listing import fingerprint
from s2l_images.folders.roles import split_folder
from s2l_images.places import own_strokes
from s2l_images.reading.label_images import read_values
from s2l_images.reading.pictures import read_image
from s2l_images.strokes import Stroke, render, write_strokes
from s2l_paper.data.datasets import Split, load_dataset, split_of
from s2l_paper.running import results, runs

SHAPE = (40, 48)
RAMP = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
GREY = (RAMP % 251).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
OURS = np.full(SHAPE, IGNORE, np.uint8)
OURS[5, 4:44], OURS[20, 4:44] = 0, 1
DRAWN = {"background": (5, slice(4, 44)), "foreground": (20, slice(4, 44))}


def scribbled(ground, background, foreground):
    """The strokes of OURS in other values or colours."""
    first = np.asarray(ground)
    paint = np.zeros((*SHAPE, *first.shape), np.uint8) + first.astype(np.uint8)
    paint[DRAWN["background"]], paint[DRAWN["foreground"]] = background, foreground
    return paint


def png(array, **options):
    buffer = io.BytesIO()
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def with_thumbnail(array):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(array)
        writer.write(array[::4, ::4], subfiletype=1)
    return buffer.getvalue()


def folder_of(root, files):
    """A folder with these files; arrays are written as PNG, dicts as JSON."""
    Path(root).mkdir(exist_ok=True)
    for name, content in files.items():
        file = Path(root, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps(content)
        content = png(content) if isinstance(content, np.ndarray | Image.Image) else content
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def repeated(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def mapped(values):
    """The stated rule, slowly: 0.1 and 99.9 percentiles of the image's own values become 0 and
    255.
    """
    low, high = np.percentile(values, 0.1), np.percentile(values, 99.9)
    return np.array(
        [round(min(max((v - low) / (high - low), 0), 1) * 255) for v in values.ravel()]
    ).reshape(values.shape)


# --- images

DEEP = (RAMP + 300).astype(np.uint16)
PALETTE = Image.fromarray(GREY % 3)
PALETTE.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 255])
PAINTED = np.array([(10, 20, 30), (200, 100, 50), (0, 0, 255)], np.uint8)[GREY % 3]
BITS = GREY > 99
ALPHA = np.dstack([RGB, np.full(SHAPE, 255, np.uint8)])
OPAQUE = np.where(RAMP % 4, 65535, 0).astype(np.uint16)
DEEP_RGB = np.stack([DEEP, DEEP[::-1], DEEP // 2], axis=2)

IMAGES = {
    "grey.png": (png(GREY), repeated(GREY)),
    "rgb.png": (png(RGB), RGB),
    "rgba.png": (png(ALPHA), RGB),
    "grey-alpha.png": (
        png(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", SHAPE[::-1], 255)])),
        repeated(GREY),
    ),
    "palette.png": (png(PALETTE), PAINTED),
    "bits.png": (png(Image.fromarray(BITS)), repeated(BITS * 255)),
    "deep.png": (png(DEEP), repeated(mapped(DEEP))),
    "grey.tif": (tiff(GREY), repeated(GREY)),
    "rgb.tiff": (tiff(RGB), RGB),
    "rgba.tif": (tiff(ALPHA, extrasamples=["unassalpha"]), RGB),
    "deep-rgba.tif": (
        tiff(np.dstack([DEEP_RGB, OPAQUE]), photometric="rgb", extrasamples=["unassalpha"]),
        mapped(DEEP_RGB),
    ),
    "deep-grey-alpha.tif": (
        tiff(
            np.dstack([DEEP, OPAQUE]),
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        ),
        repeated(mapped(DEEP)),
    ),
    "channels-first.tif": (
        tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"),
        RGB,
    ),
    "palette.tif": (png(PALETTE, format="TIFF"), PAINTED),
    "bits.tif": (png(Image.fromarray(BITS), format="TIFF"), repeated(BITS * 255)),
    "lzw.tif": (png(RGB, format="TIFF", compression="tiff_lzw"), RGB),
    "white-is-zero.tif": (tiff(255 - GREY, photometric="miniswhite"), repeated(GREY)),
    "deep.tif": (tiff(DEEP), repeated(mapped(DEEP))),
    "deep-big-endian.tif": (tiff(DEEP, byteorder=">", bigtiff=True), repeated(mapped(DEEP))),
    "deep-lzw.tif": (png(DEEP, format="TIFF", compression="tiff_lzw"), repeated(mapped(DEEP))),
    "deep-deflate.tif": (
        png(DEEP, format="TIFF", compression="tiff_deflate"),
        repeated(mapped(DEEP)),
    ),
    "deep-imagej.tif": (tiff(DEEP, imagej=True), repeated(mapped(DEEP))),
    "deep-white-is-zero.tif": (
        tiff(DEEP.max() - DEEP, photometric="miniswhite"),
        repeated(mapped(DEEP - DEEP.min())),
    ),
    "deep-rgb.tif": (tiff(DEEP_RGB, photometric="rgb"), mapped(DEEP_RGB)),
    "deep-first.tif": (
        tiff(np.moveaxis(DEEP_RGB, 2, 0), photometric="rgb", planarconfig="separate"),
        mapped(DEEP_RGB),
    ),
    "float.tif": (tiff(RAMP.astype(np.float32) / 7 - 50), repeated(mapped(RAMP / 7 - 50))),
    "negative.tif": (tiff((RAMP - 900).astype(np.int16)), repeated(mapped(RAMP - 900))),
    "thumbnail.tif": (with_thumbnail(GREY), repeated(GREY)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_image_of_every_kind(tmp_path, name):
    data, expected = IMAGES[name]
    (tmp_path / name).write_bytes(data)
    image, remarks = read_image(tmp_path / name)
    assert image.dtype == np.uint8 and image.shape == (*SHAPE, 3)
    assert np.abs(image.astype(int) - expected).max() <= (
        "deep" in name or "float" in name or "negative" in name
    )
    deep = name.startswith(("deep", "float", "negative"))
    assert ("image-deep" in {remark.code for remark in remarks}) == deep
    assert {remark.code for remark in remarks} <= {
        "image-deep",
        "image-transparent",
        "pages-left-out",
    }


def test_jpeg(tmp_path):
    smooth = np.repeat(np.linspace(0, 250, SHAPE[1]).astype(np.uint8)[None], SHAPE[0], axis=0)
    (tmp_path / "a.JPG").write_bytes(png(repeated(smooth), format="JPEG", quality=95))
    assert np.abs(read_image(tmp_path / "a.JPG")[0].astype(int) - repeated(smooth)).max() < 8


def test_one_hot_pixel_does_not_decide(tmp_path):
    hot = DEEP.copy()
    hot[3, 3] = 65535
    (tmp_path / "a.tif").write_bytes(tiff(hot))
    image, (remark,) = read_image(tmp_path / "a.tif")
    assert (
        image[3, 3, 0] == 255
        and np.median(image) > 120
        and "are mapped to 0 to 255" in remark.found
    )
    spots = np.full((100, 100), 7, np.uint16)
    spots[5, 5] = 1000  # fewer than the percentiles leave
    (tmp_path / "b.tif").write_bytes(tiff(spots))
    assert read_image(tmp_path / "b.tif")[0][5, 5, 0] == 255
    (tmp_path / "c.tif").write_bytes(tiff(np.full((9, 9), 7, np.uint16)))
    assert not read_image(tmp_path / "c.tif")[0].any()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_orientation(tmp_path, form):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.tif").write_bytes(png(RGB // 8 * 8, format=form, exif=exif))
    image, remarks = read_image(tmp_path / "a.tif")
    assert image.shape == (48, 40, 3) and [remark.code for remark in remarks] == ["image-turned"]
    if form != "JPEG":
        assert (image == np.rot90(RGB // 8 * 8, -1)).all()


def test_the_suffix_does_not_decide(tmp_path):
    (tmp_path / "a.tif").write_bytes(png(RGB))
    assert (read_image(tmp_path / "a.tif")[0] == RGB).all()


# --- what scribbles mean

WHITE, BLACK, RED, GREEN, BLUE = (255,) * 3, (0,) * 3, (255, 0, 0), (0, 255, 0), (0, 0, 255)
MEANT = {
    "ours": scribbled(255, 0, 1),
    "grey ground": scribbled(127, 0, 255),
    "grey ground 128": scribbled(128, 0, 255),
    "red and green on white": scribbled(WHITE, GREEN, RED),
    "red and blue on black": scribbled(BLACK, BLUE, RED),
    "paint's own red and green": scribbled(WHITE, (34, 177, 76), (237, 28, 36)),
    "on transparent ground": scribbled((0, 0, 0, 0), (*BLUE, 255), (*RED, 200)),
    "grey saved as RGB": scribbled(WHITE, BLACK, (1, 1, 1)),
    "palette": Image.fromarray(scribbled(WHITE, GREEN, RED)).quantize(3),
}
TOLD = {
    "napari": (scribbled(0, 2, 1), {"foreground": 1, "background": 2}),
    "the other way round": (scribbled(0, 1, 2), {"foreground": 2, "background": 1}),
    "several": (
        np.where(RAMP == 0, 3, scribbled(0, 1, 2)).astype(np.uint8),
        {"foreground": [2, 3], "background": [1]},
    ),
    "colours by name": (
        scribbled(WHITE, (255, 165, 0), (128, 0, 128)),
        {"foreground": "purple", "background": "orange"},
    ),
    "colours by code": (
        scribbled(BLACK, GREEN, (1, 2, 3)),
        {"foreground": "#010203", "background": "#0f0"},
    ),
    "smeared": (
        scribbled(WHITE, BLUE, RED) - (RAMP == 0)[..., None],
        {"foreground": "red", "background": "blue"},
    ),
    "a mask after all": (scribbled(0, 0, 1), {"foreground": 1, "background": 0}),
}
ASKED = ("scribble-ambiguous", "scribble-binary", "scribble-colours")


@pytest.mark.parametrize("name", MEANT)
def test_scribbles_that_can_be_told(tmp_path, capsys, name):
    folder = folder_of(
        tmp_path / name.replace(" ", "-"), {"images/a.png": RGB, "scribbles/a.png": MEANT[name]}
    )
    (cell,) = load_dataset(str(folder))
    assert (
        (cell.scribbles == OURS).all()
        and cell.scribbles.dtype == np.uint8
        and cell.instances is None
    )
    said = capsys.readouterr().out
    assert (
        "= foreground (40 px)" in said
        and "= background (40 px)" in said
        and "= not drawn (1,840 px)" in said
    )
    load_dataset(str(folder))
    assert capsys.readouterr().out == ""  # once is enough


@pytest.mark.parametrize("name", TOLD)
def test_scribbles_that_have_to_be_explained(tmp_path, name):
    pixels, chosen = TOLD[name]
    folder = folder_of(tmp_path / "own", {"images/a.png": RGB, "scribbles/a.png": pixels})
    if name != "smeared":
        with raises_fault(*ASKED, file="scribbles/a.png"):
            read_folder(folder)
    folder_of(
        folder, {"scribbles.json": "\ufeff" + json.dumps(chosen)}
    )  # with the mark of Windows' Notepad
    (cell,) = read_folder(folder)
    expected = OURS.copy()
    if name == "several":
        expected[0, 0] = 1
    if name == "a mask after all":
        expected = (OURS == 1).astype(np.uint8)
    assert (cell.scribbles == expected).all()


def test_all_files_together_decide(tmp_path):
    background = np.where(OURS == 1, IGNORE, OURS)
    files = {"images/a.png": RGB, "images/b.png": RGB, "scribbles/a.png": background}
    with raises_fault("scribble-binary", "scribble-ambiguous"):
        read_folder(folder_of(tmp_path / "own", files))
    _, b = read_folder(folder_of(tmp_path / "own", {"scribbles/b.png": OURS}), ids=["a", "b"])
    assert (b.scribbles == OURS).all()
    (a,) = read_folder(tmp_path / "own", ids=["a"])
    assert (a.scribbles == background).all()


def test_a_changed_file_is_read_anew(tmp_path):
    folder = folder_of(
        tmp_path / "own", {"images/a.png": RGB, "scribbles/a.png": scribbled(127, 0, 255)}
    )
    read_folder(folder)
    folder_of(folder, {"scribbles/a.png": OURS})
    assert (read_folder(folder)[0].scribbles == OURS).all()


# --- drawn elsewhere


def imagej():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, row in (("background 1", 5), ("nuclei 1", 20)):
            roi = ImagejRoi.frompoints(np.array([(4.0, row), (43.0, row)]), name=name)
            roi.roitype, roi.stroke_width = ROI_TYPE.POLYLINE, 1
            archive.writestr(f"{name}.roi", roi.tobytes())
    return buffer.getvalue()


def geojson(*classes):
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "LineString",
                "coordinates": [[4.5, row + 0.5], [43.5, row + 0.5]],
            },
            "properties": {"classification": {"name": name}, "measurements": {"stroke_width": 1}},
        }
        for name, row in zip(classes, (5, 20), strict=True)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


@pytest.mark.parametrize(
    "files",
    [
        {"scribbles/a.zip": imagej()},
        {"scribbles/a.json": geojson("Background", "Foreground")},
        {
            "scribbles/a.geojson": geojson("Stroma", "Tumour"),
            "scribbles.json": {"foreground": "tumour", "background": ["stroma", "glass"]},
        },
    ],
    ids=["ImageJ", "QuPath", "QuPath, own classes"],
)
def test_scribbles_of_other_programs(tmp_path, files):
    (cell,) = read_folder(folder_of(tmp_path / "own", {"images/a.png": RGB} | files))
    assert (cell.scribbles == OURS).all()


def test_strokes_of_the_widget(tmp_path):
    folder = folder_of(
        tmp_path / "own", {"images/a.png": RGB, "images/b.png": GREY, "scribbles/b.png": OURS}
    )
    strokes = [Stroke(0, 3.0, ((5, 4), (5, 30))), Stroke(1, 5.0, ((20, 20),))]
    write_strokes(own_strokes(folder), {"a": strokes, "gone": strokes, "b": []}, {})
    a, b = read_folder(folder)
    assert (a.scribbles == render(strokes, SHAPE)).all() and (b.scribbles == OURS).all()
    assert split_folder(folder)["train"] == ["a", "b"]


def test_instances_of_other_programs(tmp_path):
    square = {"type": "Polygon", "coordinates": [[[2, 3], [9, 3], [9, 8], [2, 8], [2, 3]]]}
    files = {
        "images/a.png": RGB,
        "masks/a.geojson": {"type": "Feature", "geometry": square, "properties": {}},
    }
    (cell,) = read_folder(folder_of(tmp_path / "own", files))
    expected = np.zeros(SHAPE, np.int32)
    expected[3:8, 2:9] = 1
    assert (cell.instances == expected).all() and cell.scribbles is None


# --- masks

INSTANCES = np.zeros(SHAPE, np.int32)
INSTANCES[2:8, 2:8], INSTANCES[20:30, 5:15], INSTANCES[20:30, 15:25] = 1, 2, 300
INDEXED = Image.fromarray((INSTANCES % 256).astype(np.uint8))
INDEXED.putpalette(list(range(255, -1, -1)) * 3)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", png(INSTANCES.astype(np.uint16))),
        ("a.tif", tiff(INSTANCES.astype(np.uint16), imagej=True)),
        ("a.tif", tiff(INSTANCES.astype(np.uint32), compression="zlib")),
        ("a.tif", tiff(INSTANCES.astype(np.float32))),
        ("a.tif", png(INSTANCES.astype(np.uint16), format="TIFF", compression="tiff_lzw")),
        ("a.npy", (lambda b: (np.save(b, INSTANCES), b.getvalue())[1])(io.BytesIO())),
    ],
)
def test_label_images(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    instances, remarks = read_mask(tmp_path / name, SHAPE)
    assert (instances == INSTANCES).all() and instances.dtype == np.int32 and remarks == []


def test_a_palette_of_a_mask_means_numbers(tmp_path):
    (tmp_path / "a.png").write_bytes(png(INDEXED))
    assert (read_mask(tmp_path / "a.png", SHAPE)[0] == INSTANCES % 256).all()
    (tmp_path / "b.png").write_bytes(png(repeated((INSTANCES % 256).astype(np.uint8))))
    assert (read_mask(tmp_path / "b.png", SHAPE)[0] == INSTANCES % 256).all()


@pytest.mark.parametrize("value", [1, 255])
def test_a_binary_mask_is_taken_apart(tmp_path, value):
    (tmp_path / "a.png").write_bytes(png(((INSTANCES > 0) * value).astype(np.uint8)))
    instances, (remark,) = read_mask(tmp_path / "a.png", SHAPE)
    assert (
        np.unique(instances).tolist() == [0, 1, 2] and remark.code == "mask-binary"
    )  # two of the three touch
    assert ((instances > 0) == (INSTANCES > 0)).all()
    (tmp_path / "b.png").write_bytes(png(((INSTANCES == 2) * value).astype(np.uint8)))
    assert read_mask(tmp_path / "b.png", SHAPE)[1] == []  # one piece needs no counting


def test_bits_of_a_label_image(tmp_path):
    for name, options in {"a.png": {}, "a.tif": {"format": "TIFF"}}.items():
        (tmp_path / name).write_bytes(png(Image.fromarray(INSTANCES > 0), **options))
        assert (read_values(tmp_path / name) == (INSTANCES > 0)).all()


# --- pairs and ids


def test_names_are_paired_whatever_the_keyboard(tmp_path):
    folder = folder_of(
        tmp_path / "own", {"images/zell\u00e9.tif": tiff(GREY), "scribbles/zelle\u0301.png": OURS}
    )
    (cell,) = read_folder(folder)
    assert cell.id == "zell\u00e9" and (cell.scribbles == OURS).all()


def test_hidden_files_and_folders_are_skipped(tmp_path):
    files = {
        "images/a.png": RGB,
        "images/._a.png": b"x",
        "images/.DS_Store": b"x",
        "images/old/b.png": GREY,
    }
    assert [cell.id for cell in read_folder(folder_of(tmp_path / "own", files))] == ["a"]


def test_ids_choose_and_order(tmp_path):
    folder = folder_of(
        tmp_path / "own", {"images/a.png": RGB, "images/b.png": GREY, "images/c.png": RGB}
    )
    assert [cell.id for cell in load_dataset(str(folder), ids=["c", "a"])] == ["c", "a"]
    (folder / "images/b.png").write_bytes(b"broken")
    assert len(load_dataset(str(folder), ids=["a"])) == 1  # nothing else is decoded
    with pytest.raises(S2LError, match=f"{folder} .*'x'"):
        load_dataset(str(folder), ids=["a", "x"])


def test_a_missing_partner_is_named(tmp_path):
    folder = folder_of(
        tmp_path / "own", {"images/a.png": RGB, "images/b.png": RGB, "masks/b_cp_masks.png": GREY}
    )
    with raises_fault("no-image-for-it", file="masks/b_cp_masks.png", naming="a, b"):
        read_folder(folder)


# --- splits and runs


def own(folder, count=3, masks=()):
    rng = np.random.default_rng(0)
    for k in range(count):
        image = (rng.integers(0, 60, SHAPE) + 120 * (INSTANCES > 0)).astype(np.uint8)
        folder_of(folder, {f"images/{k}.png": image, f"scribbles/{k}.png": OURS})
        if k in masks:
            folder_of(folder, {f"masks/{k}.png": INSTANCES.astype(np.uint16)})
    return folder


def test_all_train_unless_splits_say_otherwise(tmp_path, capsys):
    folder = own(tmp_path / "own", 4, masks=(2, 3))
    config = RunConfig(str(folder), "s2l", profile="smoke")
    assert split_of(config) == Split(["0", "1", "2", "3"], [], [])
    assert "the last step are taken; none for a test" in capsys.readouterr().out
    folder_of(folder, {"splits.json": {"validation": ["2"], "test": ["3"]}})
    assert split_of(config) == Split(["0", "1"], ["2"], ["3"])
    folder_of(folder, {"splits.json": {"train": ["1"], "validation": ["2"]}})
    assert split_of(config) == Split(["1"], ["2"], [])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", ""),
        ("[1]", "[1]"),
        ({"training": ["0"]}, "'training'"),
        ({"train": "0"}, "'train' holds '0'"),
        ({"train": ["0.png"]}, "'0.png'"),
        ({"train": ["0"], "test": ["0"]}, "'0'"),
        ({"validation": ["1"]}, "'1'"),
        ({"test": ["1"]}, "'1'"),
        ({"train": []}, ""),
    ],
)
def test_splits_with_faults(tmp_path, content, named):
    with raises_fault("bad-splits", file="splits.json", naming=named):
        split_folder(folder_of(own(tmp_path / "own", masks=(2,)), {"splits.json": content}))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    monkeypatch.setenv("S2L_PLAIN", "1")
    folder.say.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def train(folder, method="s2l-r1-r4", **fields):
    return runs.train(RunConfig(str(folder), method, profile="smoke", **fields), progress=False)


def test_scribbles_alone_train_to_the_last_step(home, capsys):
    result = train(own(home / "own"))
    assert len(result.per_image) == 0 and list(result.per_image.columns) == results.COLUMNS
    assert "validation_iou" not in result.steps and len(result.steps) == 8
    assert (result.folder / "model.safetensors").exists() and results.is_done(result.config)
    said = capsys.readouterr().out
    assert "3 images are used for training, none for validation, so the weights of the" in said
    assert "none for a test, so per_image.csv stays empty" in said
    train(home / "own")
    assert "finished before" in capsys.readouterr().out


def test_named_masks_validate_and_score(home):
    folder = folder_of(
        own(home / "own", 4, masks=(2, 3)), {"splits.json": {"validation": ["2"], "test": ["3"]}}
    )
    result = train(folder, "s2l")
    assert result.steps.validation_iou.notna().sum() == 2
    assert set(result.per_image.image) == {"3"} and set(result.per_image.checkpoint) == {
        "best",
        "last",
    }
    assert (result.per_image.n_nuclei == 3).all()


def test_supervised_needs_masks(home):
    folder = own(home / "own", 2, masks=(1,))
    with pytest.raises(S2LError, match="'0' .*splits.json"):
        train(folder, "supervised")
    folder_of(folder, {"splits.json": {"train": ["1"]}})
    assert len(train(folder, "supervised").steps) == 8


def test_a_run_is_of_the_files_it_saw(home, monkeypatch):
    folder = own(home / "own", 2)
    config = RunConfig(str(folder), "s2l", profile="smoke")
    first = results.run_id(config)
    shutil.copytree(folder, home / "copy")
    assert fingerprint(folder) == fingerprint(home / "copy")  # file times do not count
    folder_of(folder, {"scribbles/0.png": np.where(RAMP == 99, 1, OURS).astype(np.uint8)})
    assert results.run_id(config) != first
    folder_of(folder, {"scribbles/0.png": OURS})
    assert results.run_id(config) == first
    folder_of(folder, {"s2l/model.safetensors": b"x", "images/.hidden": b"x"})
    assert results.run_id(config) == first

    def draw(self, until, advance=trainer.Trainer.advance):
        advance(self, until)
        folder_of(
            folder, {"scribbles/1.png": np.where(RAMP == self.step, 1, OURS).astype(np.uint8)}
        )

    monkeypatch.setattr(trainer.Trainer, "advance", draw)
    with pytest.raises(S2LError, match=f"{folder}: "):
        train(folder, "s2l")


def test_one_class_alone_does_not_train(home):
    folder = folder_of(own(home / "own", 1), {"scribbles/0.png": np.where(OURS == 0, IGNORE, OURS)})
    with pytest.raises(S2LError, match=f"{folder}: .*background"):
        train(folder)


def test_roles_are_the_fields_of_a_split():
    assert [field.name for field in dataclasses.fields(Split)] == list(roles.ROLES)


def test_lab_colours_are_refused(tmp_path):
    lab = ImageCms.applyTransform(
        Image.fromarray(RGB),
        ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        ),
    )
    (tmp_path / "a.tif").write_bytes(png(lab, format="TIFF"))
    with raises_fault("image-colours"):
        read_image(tmp_path / "a.tif")
