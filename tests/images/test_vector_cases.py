"""Situations that users of QuPath, ImageJ, CVAT and others reported: read rightly, or refused by name."""

import csv
import io
import json
import re
import warnings
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ROI_TYPE, ImagejRoi

from conftest import raises_fault
from s2l_core.config import IGNORE, S2LError, seed_for
from s2l_images.annotation_files import items
from s2l_images.annotation_files.annotations import count_classes, read_instances, read_scribbles
from s2l_images.annotation_files.item_classes import understood
from s2l_images.exporting import export_labels, exports
from s2l_images.exporting.export_cells import write_cells
from s2l_images.exporting.export_imagej import write_rois
from s2l_images.exporting.export_qupath import write_geojson
from s2l_images.exporting.export_strokes import export_strokes
from s2l_images.folders.folder import read_folder
from s2l_images.folders.input_checks import check_folder
from s2l_images.nuclei.sizes import chosen_min_size, nuclei, suggested_min_size
from s2l_images.reading.measured import Measured
from s2l_images.strokes import Stroke, write_strokes

SHAPE = (60, 70)


def square(top, left, side=9):
    return [
        [left, top],
        [left + side, top],
        [left + side, top + side],
        [left, top + side],
        [left, top],
    ]


def feature(
    top, left, side=9, *, kind="annotation", of="Nucleus", plane=None, nucleus=None, **about
):
    geometry = {"type": "Polygon", "coordinates": [square(top, left, side)]}
    if plane:
        geometry["plane"] = plane
    about = {"objectType": kind} | ({"classification": {"name": of}} if of else {}) | about
    made = {"type": "Feature", "geometry": geometry, "properties": about}
    if nucleus:
        made["nucleusGeometry"] = {"type": "Polygon", "coordinates": [square(*nucleus)]}
    return made


def geojson(tmp_path, *features, name="a.geojson"):
    content = {"type": "FeatureCollection", "features": list(features)}
    (tmp_path / name).write_text(json.dumps(content))
    return tmp_path / name


def roi(top, left, side=9, name="nucleus", **fields):
    one = ImagejRoi.frompoints(np.array(square(top, left, side)[:4]), name=name)
    for field, value in fields.items():
        setattr(one, field, value)
    return one


def roi_set(tmp_path, *rois):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, one in enumerate(rois):
            archive.writestr(f"{number} {one.name}.roi", one.tobytes())
    return tmp_path / "a.zip"


def boxes(*places, side=9):
    """Instances (H, W) of squares at (row, column)."""
    instances = np.zeros(SHAPE, np.int32)
    for number, (top, left) in enumerate(places, 1):
        instances[top : top + side, left : left + side] = number
    return instances


def codes(found):
    return [one.code for one in found]


# --- unknown is not empty

POINTS = '<Coordinate Order="0" X="1" Y="1"/><Coordinate Order="1" X="9" Y="9"/>'
OTHERS = {
    "asap.xml": (f"<ASAP_Annotations><Annotation>{POINTS}</Annotation></ASAP_Annotations>", "ASAP"),
    "cvat.xml": ('<annotations><image><polygon points="1,1;9,1;9,9"/></image></annotations>', "CVAT"),
    "ndpa.xml": ("<annotations><ndpviewstate/></annotations>", "NDP.view"),
    "voc.xml": ("<annotation><object><bndbox/></object></annotation>", "Pascal VOC"),
    "track.xml": ('<TrackMate version="7"><Model/></TrackMate>', "TrackMate"),
    "count.xml": ("<CellCounter_Marker_File><Marker_Data/></CellCounter_Marker_File>", "Cell Counter"),
    "icy.xml": ("<root><roi/></root>", "<root>"),
    "html.xml": ("<html><body/></html>", "<html>"),
    "coco.json": ({"images": [], "annotations": [], "categories": []}, "COCO"),
    "results.json": ([{"image_id": 1, "category_id": 1, "segmentation": []}], "COCO"),
    "labelme.json": ({"shapes": [{"label": "nucleus"}]}, "LabelMe"),
    "via.json": ({"_via_img_metadata": {}}, "VGG Image Annotator"),
    "hover.json": ({"mag": 40, "nuc": {"1": {"contour": []}}}, "HoVer-Net"),
    "topo.json": ({"type": "Topology", "objects": {}, "arcs": []}, "TopoJSON"),
    "studio.json": ([{"annotations": [], "data": {}}], "Label Studio"),
    "strokes.json": ({"meta": {}, "unit": 1, "strokes": {}}, "our drawing widget"),
    "any.json": ({"cells": [], "date": 1}, "cells, date"),
    "number.json": (3, " 3"),
    "text.json": ("nucleus", "'nucleus'"),
    "null.json": (None, "None"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("read", [read_scribbles, read_instances])
def test_other_programs_are_named_and_never_taken_for_empty(tmp_path, name, read):
    content, said = OTHERS[name]
    path = tmp_path / name
    path.write_text(content if name.endswith(".xml") else json.dumps(content))
    with raises_fault("other-program", file=name, naming=said):
        read(path, SHAPE)


def test_an_empty_file_says_that_there_is_nothing(tmp_path):
    for path in (geojson(tmp_path), roi_set(tmp_path)):
        assert not read_instances(path, SHAPE).any()
    (tmp_path / "b.json").write_text("[]")
    assert not read_instances(tmp_path / "b.json", SHAPE).any()
    layer = '<Annotations><Annotation Name="nuclei"><Regions/></Annotation></Annotations>'
    (tmp_path / "b.xml").write_text(layer)
    assert not read_instances(tmp_path / "b.xml", SHAPE).any()
    (tmp_path / "c.xml").write_text("<Annotations/>")  # without what every Aperio XML has
    with pytest.raises(S2LError, match="c.xml: .*<Annotation>"):
        read_instances(tmp_path / "c.xml", SHAPE)


def test_all_valid_geojson_is_read(tmp_path):
    """A class or name that is a number or text, no properties, a geometry that is null, or bare."""
    first = feature(2, 3, name=7)
    second = feature(20, 30) | {"properties": {"classification": "Nucleus", "name": None}}
    third = {"type": "Feature", "geometry": feature(40, 50)["geometry"], "properties": None}
    nothing = feature(1, 1) | {"geometry": None}
    empty = feature(1, 1) | {"geometry": {"type": "Polygon", "coordinates": []}}
    found = []
    path = geojson(tmp_path, first, nothing, second, third, empty)
    instances = read_instances(path, SHAPE, found=found)
    np.testing.assert_array_equal(instances, boxes((2, 3), (20, 30), (40, 50)))
    assert [str(one.found) for one in found] == ["2 features without a geometry"]
    (tmp_path / "bare.json").write_text(json.dumps(first["geometry"]))
    np.testing.assert_array_equal(read_instances(tmp_path / "bare.json", SHAPE), boxes((2, 3)))
    with raises_fault("nothing-left", file="a.geojson", naming="1 features"):
        read_instances(geojson(tmp_path, nothing), SHAPE)


# --- items of other planes

HYPER = [dict(c_position=c, z_position=3, t_position=t) for c in (1, 2) for t in (1, 4)]


def test_rois_of_one_slice_are_taken_and_of_several_asked_about(tmp_path):
    third = [roi(2, 3, position=3), roi(20, 30, name="nucleus 2")]  # one of no slice in particular
    assert read_instances(roi_set(tmp_path, *third), SHAPE).max() == 2
    path = roi_set(tmp_path, *third, roi(40, 50, position=9))
    for read in (read_instances, read_scribbles):
        with raises_fault("several-planes", naming="slice 3 (1 items), slice 9 (1 items)") as asked:
            read(path, SHAPE)
        assert "`plane = 3`" in str(asked.value)
        with raises_fault("several-planes", file="a.zip", naming="slice 4"):
            read(path, SHAPE, plane=4)
    found = []
    instances = read_instances(path, SHAPE, plane=3, found=found)
    np.testing.assert_array_equal(instances, boxes((2, 3), (20, 30)))
    assert codes(found) == ["items-left-out"] and "1 of 3 items on other planes" in found[0].found
    np.testing.assert_array_equal(read_scribbles(path, SHAPE, plane=3) == 1, instances > 0)
    assert read_instances(roi_set(tmp_path, *third), SHAPE, plane=5).max() == 2, "of one plane"


def test_planes_of_hyperstacks_are_chosen_axis_by_axis(tmp_path):
    path = roi_set(tmp_path, *(roi(12 * k, 3, **axes) for k, axes in enumerate(HYPER)))
    with raises_fault("several-planes", naming="channel 1 z 3 frame 1") as asked:
        read_instances(path, SHAPE)
    assert "`plane = {c = 1, t = 1}`" in str(asked.value)
    with raises_fault("several-planes", naming="plane = 3 "):
        read_instances(path, SHAPE, plane=3)
    instances = read_instances(path, SHAPE, plane={"c": 2, "t": 1})
    np.testing.assert_array_equal(instances, boxes((24, 3)))
    assert read_instances(path, SHAPE, plane={"c": 2}).max() == 2


def test_points_may_lie_on_slices_of_their_own(tmp_path):
    points = ImagejRoi.frompoints(np.array([(5.0, 5.0), (30.0, 30.0)]), name="nucleus")
    points.roitype = ROI_TYPE.POINT
    points.counters = np.zeros(2, np.uint8)
    points.counter_positions = np.array([3, 9], np.uint32)
    path = roi_set(tmp_path, points)
    with raises_fault("several-planes", naming="slice 3 (1 items), slice 9 (1 items)"):
        read_scribbles(path, SHAPE)
    scribbles = read_scribbles(path, SHAPE, plane=9)
    assert scribbles[30, 30] == 1 and scribbles[5, 5] == IGNORE


def test_old_imagej_tells_the_slice_by_the_name(tmp_path):
    path = roi_set(tmp_path, roi(2, 3, name="0003-0006-0007"), roi(20, 30, name="0009-0024-0034"))
    with raises_fault("several-planes", naming="slice 3 (1 items), slice 9 (1 items)"):
        read_instances(path, SHAPE)
    np.testing.assert_array_equal(read_instances(path, SHAPE, plane=9), boxes((20, 30)))


def test_qupath_counts_planes_from_0_and_leaves_the_first_out(tmp_path):
    deep = feature(20, 30, plane={"c": -1, "z": 4, "t": 0})
    np.testing.assert_array_equal(read_instances(geojson(tmp_path, deep), SHAPE), boxes((20, 30)))
    path = geojson(tmp_path, feature(2, 3), deep)
    with raises_fault("several-planes", naming="z 1 frame 1 (1 items), z 5 frame 1"):
        read_instances(path, SHAPE)
    np.testing.assert_array_equal(read_instances(path, SHAPE, plane=5), boxes((20, 30)))
    np.testing.assert_array_equal(read_instances(path, SHAPE, plane=1), boxes((2, 3)))
    flat = geojson(tmp_path, feature(2, 3))  # drawn on the image itself
    np.testing.assert_array_equal(read_instances(flat, SHAPE, plane=5), boxes((2, 3)))


# --- regions, tiles and parents

NUCLEI = [(2, 3), (20, 30), (40, 50)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("around", "said"),
    [
        (feature(0, 0, 58, of="Region*"), "1 tiles, cores or regions"),
        (feature(0, 0, 58, of="Ignore*"), "1 tiles, cores or regions"),
        (feature(0, 0, 58, kind="tile", of=None), "1 tiles, cores or regions"),
        (feature(0, 0, 58, kind="tmaCore", of=None), "1 tiles, cores or regions"),
        (feature(0, 0, 59, of="Tumor"), "1 areas around several nuclei"),
        (feature(0, 0, 59, of=None, name="field"), "1 areas around several nuclei (field)"),
    ],
    ids=["region", "ignore", "tile", "core", "tumor", "unnamed"],
)
def test_what_lies_around_nuclei_is_none(tmp_path, around, said, first):
    """Drawn before them it would swallow them, drawn after them the rest of the image."""
    inner = [feature(*place) for place in NUCLEI]
    path = geojson(tmp_path, *([around, *inner] if first else [*inner, around]))
    found = []
    np.testing.assert_array_equal(read_instances(path, SHAPE, found=found), boxes(*NUCLEI))
    assert codes(found) == ["items-left-out"] and said in found[0].found


def test_regions_of_imagej_and_aperio_are_no_nuclei_either(tmp_path):
    rois = [roi(0, 0, 58, name="field"), *(roi(*place) for place in NUCLEI)]
    np.testing.assert_array_equal(read_instances(roi_set(tmp_path, *rois), SHAPE), boxes(*NUCLEI))
    regions = ""
    for top, left, side in [(0, 0, 58), *((*place, 9) for place in NUCLEI)]:
        corners = np.array(square(top, left, side)[:4]) - 0.5
        vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
        regions += f'<Region Type="0"><Vertices>{vertices}</Vertices></Region>'
    layer = f'<Annotations><Annotation Name="all"><Regions>{regions}</Regions></Annotation>'
    (tmp_path / "a.xml").write_text(f"{layer}</Annotations>")
    np.testing.assert_array_equal(read_instances(tmp_path / "a.xml", SHAPE), boxes(*NUCLEI))


def test_a_nucleus_within_another_and_specks_make_no_region(tmp_path):
    found = []
    twice = [feature(2, 3, 30), feature(8, 9, 9), feature(40, 50)]
    instances = read_instances(geojson(tmp_path, *twice), SHAPE, found=found)
    assert np.unique(instances).tolist() == [0, 1, 3]
    assert codes(found) == ["areas-nested", "nuclei-hidden"]
    found.clear()
    specks = [
        feature(2, 3, 20),
        feature(5, 5, 2),
        feature(9, 9, 2),
        *(feature(30, 20 * k, 19) for k in range(3)),
    ]
    instances = read_instances(geojson(tmp_path, *specks), SHAPE, found=found)
    assert (instances == 1).sum() == 400 and codes(found) == ["nuclei-hidden"]


def test_what_is_called_background_is_no_nucleus(tmp_path):
    ground = [roi(45, 3, name="background 1"), roi(45, 30, name="BG")]
    found = []
    path = roi_set(tmp_path, *(roi(*place) for place in NUCLEI[:2]), *ground)
    np.testing.assert_array_equal(read_instances(path, SHAPE, found=found), boxes(*NUCLEI[:2]))
    assert [one.found for one in found] == ["2 areas called background"]
    dim = geojson(tmp_path, feature(2, 3, of="Negative"), feature(20, 30, of="Positive"))
    assert read_instances(dim, SHAPE).max() == 2


def test_spots_within_cells_are_no_nuclei(tmp_path):
    cell = feature(2, 3, 20, kind="cell", of=None, nucleus=(8, 9))
    spot = feature(10, 11, 2, kind="detection", of="Subcellular spot: Channel 1 object")
    path = geojson(tmp_path, spot, cell)
    np.testing.assert_array_equal(read_instances(path, SHAPE), boxes((8, 9)))


# --- what QuPath found


def test_a_cell_is_its_nucleus(tmp_path):
    cell = feature(2, 3, 20, kind="cell", of="Tumor: Negative", nucleus=(8, 9))
    bare = feature(30, 30, 20, kind="cell", of="Tumor: Positive")
    found = []
    path = geojson(tmp_path, cell, bare, feature(0, 0, 59, of="Tumor"))
    np.testing.assert_array_equal(read_instances(path, SHAPE, found=found), boxes((8, 9)))
    assert [one.found for one in found] == [
        "1 annotations around what was detected",
        "1 cells without a nucleus",
    ]
    found.clear()
    path = geojson(tmp_path, bare)
    np.testing.assert_array_equal(
        read_instances(path, SHAPE, found=found), boxes((30, 30), side=20)
    )
    assert codes(found) == ["cells-whole"]


@pytest.mark.parametrize("kind", ["annotation", "detection", "cell"])
@pytest.mark.parametrize(
    ("of", "label"),
    [
        ("Tumor: Negative", 1),
        ("Tumor: Positive", 1),
        ("Stroma: 3+", 1),
        ("Nucleus: Negative", 1),
        ("Background: Negative", 0),
        ("Background", 0),
    ],
)
def test_a_stain_makes_no_background_of_a_nucleus(tmp_path, kind, of, label):
    """Ki67: a nucleus that is Negative is a nucleus."""
    path = geojson(tmp_path, feature(2, 3, of=of, kind=kind))
    scribbles = read_scribbles(path, SHAPE)
    assert np.unique(scribbles[boxes((2, 3)) > 0]).tolist() == [label]
    assert count_classes(path) == {(of, label): 1}


def test_what_was_understood_is_said(tmp_path):
    cells = [feature(2, 3 + 12 * k, kind="cell", of=f"Tumor: {side}")
             for k, side in enumerate(("Negative", "Positive", "Negative"))]  # fmt: skip
    stroke = {"type": "LineString", "coordinates": [[1, 50], [60, 50]]}
    line = feature(0, 0, of="Background", name="edge 4") | {"geometry": stroke}
    counts = count_classes(geojson(tmp_path, *cells, line))
    assert understood(counts) == (
        "'Tumor: Negative' = foreground (2), 'Tumor: Positive' = foreground (1), "
        "'edge, Background' = background (1)"
    )
    rois = [roi(2, 3 + 12 * k, name=f"nucleus {k}", group=0) for k in range(3)]
    assert understood(count_classes(roi_set(tmp_path, *rois))) == "'nucleus' = foreground (3)"


def test_the_name_of_an_image_tells_no_class(tmp_path):
    """`cell_12.roi` is named like its image, whatever was drawn there."""
    for name in ("", "cell_12"):
        (tmp_path / "cell_12.roi").write_bytes(roi(2, 3, name=name).tobytes())
        with pytest.raises(S2LError, match="cell_12 "):
            read_scribbles(tmp_path / "cell_12.roi", SHAPE)
    (tmp_path / "cell_12.roi").write_bytes(roi(2, 3, name="background").tobytes())
    assert read_scribbles(tmp_path / "cell_12.roi", SHAPE)[5, 5] == 0


# --- messages

SAMPLES = {
    "a.geojson": json.dumps({"type": "FeatureCollection", "features": [feature(2, 3), feature(9, 9, nucleus=(1, 1))]}),
    "a.json": json.dumps([feature(2, 3, plane={"c": -1, "z": 2, "t": 0})]),
    "a.xml": '<Annotations><Annotation Name="nuclei"><Regions><Region Type="0"><Vertices>'
             '<Vertex X="1" Y="1"/><Vertex X="9" Y="1"/><Vertex X="9" Y="9"/></Vertices></Region></Regions>'
             "</Annotation></Annotations>",
    "a.roi": roi(2, 3, position=3).tobytes(),
}  # fmt: skip
UNREADABLE = re.compile(r"object at 0x|BytesIO|KeyError|Error\(|Exception\(|NoneType|Traceback")


@pytest.mark.parametrize("name", SAMPLES)
def test_errors_end_as_sentences(tmp_path, name):
    whole = SAMPLES[name] if isinstance(SAMPLES[name], bytes) else SAMPLES[name].encode()
    rng, said = np.random.default_rng(seed_for(0, "sentences", name)), set()
    spoiled = [whole[:cut] for cut in range(0, len(whole), max(1, len(whole) // 40))]
    for _ in range(150):
        data = bytearray(whole)
        at = int(rng.integers(len(data)))
        data[at : at + int(rng.integers(1, 9))] = rng.choice(
            [b"null", b"[]", b'"x"', b"\xff", b"-1"]
        )
        spoiled.append(bytes(data))
    for data in spoiled:
        (tmp_path / name).write_bytes(data)
        for read in (read_scribbles, read_instances):
            try:
                read(tmp_path / name, SHAPE)
            except S2LError as error:
                said.add(str(error))
    assert len(said) > 5
    for text in said:
        assert not UNREADABLE.search(text), text
        assert text.endswith((".", "?")), text


# --- out


def test_qupath_finds_a_colour_with_every_class(tmp_path):
    write_geojson(tmp_path / "a.geojson", boxes(*NUCLEI))
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [one["properties"]["classification"]["color"] for one in features] == [[230, 159, 0]] * 3


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_dish_half_as_bright_has_half_the_mean(tmp_path):
    rng = np.random.default_rng(seed_for(0, "dish"))
    values = rng.integers(100, 4000, (*SHAPE, 2), np.uint16) // 2 * 2
    instances = boxes(*NUCLEI)
    control = Measured(values, ("DAPI", "Ki67"), 0.65, "um")
    treated = Measured(values // 2, ("DAPI", "Ki67"), 0.65, "um")
    for name, dish in (("control", control), ("treated", treated)):
        write_cells(tmp_path / f"{name}.csv", instances, dish)
    for bright, dim in zip(
        rows(tmp_path / "control.csv"), rows(tmp_path / "treated.csv"), strict=True
    ):
        own = values[instances == int(bright["label"])].astype(float)
        for channel, name in enumerate(("DAPI", "Ki67")):
            assert float(bright[f"mean_{name}"]) == pytest.approx(own[:, channel].mean())
            assert float(dim[f"mean_{name}"]) == pytest.approx(float(bright[f"mean_{name}"]) / 2)
        assert float(bright["area_um2"]) == pytest.approx(81 * 0.65**2)


@pytest.mark.parametrize(
    ("size", "unit", "side"),
    [(0.65, "um", 0.65), (0.65, "µm", 0.65), (650, "nm", 0.65), (65e-5, "mm", 0.65), (3, "pixel", 0),
     (None, "um", 0), (1, "", 0)],
)  # fmt: skip
def test_units_of_pixels_are_told_apart(tmp_path, size, unit, side):
    measured = Measured(np.ones((*SHAPE, 1)), ("",), size, unit)
    write_cells(tmp_path / "a.csv", boxes((2, 3)), measured)
    (row,) = rows(tmp_path / "a.csv")
    assert ("area_um2" in row) == bool(side) and row["mean"] == "1"
    assert not side or float(row["area_um2"]) == pytest.approx(81 * side**2)
    write_cells(tmp_path / "b.csv", boxes((2, 3)), measured, pixel_size=2)  # said by hand: counts
    assert float(rows(tmp_path / "b.csv")[0]["area_um2"]) == 81 * 4


@pytest.mark.parametrize(("suffix", "write"), [(".zip", write_rois), (".geojson", write_geojson)])
@pytest.mark.parametrize(
    ("limit", "most"), [("MAX_PARTS", 9), ("MAX_POINTS", 70), ("MAX_BYTES", 2000)]
)
def test_what_is_too_large_to_be_read_back_is_said_when_it_is_written(
    tmp_path, monkeypatch, suffix, write, limit, most
):
    instances = np.arange(1, 37).reshape(6, 6).repeat(2, 0).repeat(2, 1)
    path = tmp_path / f"cells{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(path, instances)
    assert read_instances(path, instances.shape).max() == 36
    monkeypatch.setattr(exports, limit, most)
    with pytest.warns(UserWarning, match=r"36 outlines of .*S2L_LIMITS"):
        write(path, instances)
    assert path.exists()


def test_strokes_leave_for_other_programs(tmp_path):
    lines = [Stroke(1, 3.0, ((5.0, 5.0), (5.0, 40.0))), Stroke(0, 3.0, ((30.0, 9.0),))]
    for kind in ("images", "scribbles"):
        (tmp_path / kind).mkdir()
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    write_strokes(tmp_path / "scribbles" / "strokes.json", {"a": lines, "b": []}, {})
    for kind, suffix in (("imagej", ".zip"), ("qupath", ".geojson")):
        (file,) = export_strokes(tmp_path, tmp_path / "out", kind)
        assert file == tmp_path / "out" / f"a{suffix}"
        scribbles = read_scribbles(file, SHAPE)
        assert scribbles[5, 20] == 1 and scribbles[30, 9] == 0
    with pytest.raises(S2LError, match="'napari'.*imagej, qupath"):
        export_strokes(tmp_path, tmp_path, "napari")
    with pytest.raises(S2LError, match="strokes.json: "):
        export_strokes(tmp_path / "out", tmp_path)


# --- sizes


def discs(radius, spacing=14, shape=(200, 200)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    instances = np.zeros(shape, np.int32)
    centres = np.arange(10, 195, spacing)
    for k, (y, x) in enumerate((y, x) for y in centres for x in centres):
        instances[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = k + 1
    return instances


def test_the_smallest_size_follows_what_was_drawn():
    truth = discs(3.9)
    assert suggested_min_size(truth) == round(np.bincount(truth.ravel())[1:].min() / 3) == 15
    cut = truth.copy()
    cut[0, 7:9] = 999  # cut off by the border, and no measure
    assert suggested_min_size(cut) == 15
    scribbles = np.full(SHAPE, IGNORE, np.uint8)
    scribbles[5, 5:35], scribbles[20, 5:17], scribbles[40] = 1, 1, 0
    assert suggested_min_size(scribbles) == 4
    assert suggested_min_size(np.zeros(SHAPE, np.int32)) is None
    assert suggested_min_size(np.full(SHAPE, IGNORE, np.uint8)) is None


def test_small_nuclei_are_kept_and_what_is_dropped_is_counted():
    truth = discs(3.9)
    probability = (truth > 0).astype(np.float32)
    probability[0, :3] = probability[199, 100] = 1
    kept = nuclei(probability, suggested_min_size(truth))
    assert (kept.instances.max(), kept.dropped, kept.holes) == (truth.max(), 2, 0)
    kept = nuclei(probability, 64)
    assert (kept.instances.max(), kept.dropped) == (0, truth.max() + 2)


def test_a_lumen_stays_open_and_its_nuclei_are_their_own():
    rows, columns = np.mgrid[:100, :100]
    far = np.hypot(rows - 50, columns - 50)
    gland = (abs(far - 36) <= 6) | (far <= 6)  # a ring of nuclei, and one in the lumen
    gland[50, 14] = False  # a hole of a pixel
    kept = nuclei(gland.astype(float), 30)
    assert (kept.instances.max(), kept.holes) == (2, 1)
    assert kept.instances[50, 14] and not kept.instances[50, 70]
    assert len({kept.instances[50, 50], kept.instances[50, 14]}) == 2


def test_a_size_nobody_chose_comes_from_the_folder_or_from_the_models(tmp_path):
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        (folder / "images").mkdir(parents=True)
        export_labels.write_label_tiff(folder / "images" / "a.tif", discs(3.9) + 5)
    model = own / "s2l" / "model.safetensors"
    assert chosen_min_size(other, model)[0] == 64
    (own / "masks").mkdir()
    export_labels.write_label_tiff(own / "masks" / "a.tif", discs(3.9))
    for folder in (own, other):
        assert chosen_min_size(folder, model) == (
            15,
            "a third of the smallest nucleus drawn in own",
        )


def test_limits_can_be_raised_by_hand():
    assert items.MAX_PARTS == 50_000, "docs/bad_inputs.md says so"


# --- in a folder of one's own


def own_folder(tmp_path, scribbles=None, masks=None, settings=""):
    """A folder with one image and these files: functions that write them."""
    for kind in ("images", "scribbles", "masks"):
        (tmp_path / kind).mkdir()
    rng = np.random.default_rng(seed_for(0, "own"))
    tifffile.imwrite(tmp_path / "images" / "a.tif", rng.integers(0, 255, SHAPE, np.uint8))
    for kind, write in (("scribbles", scribbles), ("masks", masks)):
        if write:
            write(tmp_path / kind)
    if settings:
        (tmp_path / "folder.toml").write_text(settings)
    return tmp_path


def stack(folder):
    """Nuclei and background of slice 3, and nuclei of slice 9."""
    roi_set(
        folder,
        roi(2, 3, position=3),
        roi(40, 3, name="background", position=3),
        roi(20, 30, position=9),
    )


def test_the_plane_of_a_folder_is_chosen_once(tmp_path):
    folder = own_folder(tmp_path, scribbles=stack)
    assert "several-planes" in codes(check_folder(folder))
    with raises_fault("several-planes", file="scribbles/a.zip"):
        read_folder(folder)
    (folder / "folder.toml").write_text("plane = 3")
    found = {one.code: one.found for one in check_folder(folder)}
    assert "1 of 3 items on other planes" in found["items-left-out"]
    assert found["scribble-encoding"] == "'background' = background (1), 'nucleus' = foreground (1)"
    (cell,) = read_folder(folder)
    assert ((cell.scribbles == 1) == (boxes((2, 3)) > 0)).all()


def test_what_was_understood_and_left_out_is_printed_when_a_folder_is_read(tmp_path, capsys):
    inner = [feature(*place, of="Tumor: Negative", kind="cell", nucleus=place) for place in NUCLEI]
    around = feature(0, 0, 59, of="Region*")
    line = feature(0, 0, of="Background")
    line["geometry"] = {"type": "LineString", "coordinates": [[1, 1], [1, 55]]}
    folder = own_folder(
        tmp_path,
        scribbles=lambda to: geojson(to, *inner, around, line),
        masks=lambda to: geojson(to, *inner, around),
    )
    (cell,) = read_folder(folder)
    np.testing.assert_array_equal(cell.instances, boxes(*NUCLEI))
    said = capsys.readouterr().out
    assert "'Tumor: Negative' = foreground (3), 'Background' = background (1)" in said
    assert "items-left-out" in said and "1 tiles, cores or regions" in said
