"""In and out of other programs' formats: round trips, files as those programs write them,
and hostile files.
"""

import csv
import io
import json
import os
import struct
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from conftest import ROOT, raises_fault
from s2l_core.config import IGNORE, S2LError, seed_for
from s2l_images import strokes as strokes_room
from s2l_images.annotation_files import items as limits
from s2l_images.annotation_files.annotations import WIDTH, read_instances, read_scribbles
from s2l_images.annotation_files.aperio import rasterise
from s2l_images.annotation_files.item_classes import class_of
from s2l_images.annotation_files.parsers import items
from s2l_images.exporting.export_cells import write_cells
from s2l_images.exporting.export_imagej import write_rois
from s2l_images.exporting.export_labels import write_label_tiff
from s2l_images.exporting.export_qupath import write_geojson
from s2l_images.exporting.export_strokes import STROKES
from s2l_images.filling import inside
from s2l_images.folders.folder import read_mask
from s2l_images.outlines import outlines
from s2l_images.reading.measured import Measured
from s2l_images.strokes import Stroke, render
from s2l_paper.data.archives import Source

SHAPE = (20, 24)
HANG = 60  # seconds of the processor: no measure of speed, but of coming to an end
WRITERS = {".zip": write_rois, ".geojson": write_geojson}


def saved(folder, name, content):
    path, content = Path(folder) / name, content() if callable(content) else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(path, width=WIDTH):
    """The lines and points of a file as strokes."""
    return [
        Stroke(class_of(item), item.width or width, tuple(map(tuple, line.tolist())))
        for item in items(path)
        for (line,) in item.parts
    ]


def drawn_here(strokes, folder, kind):
    """A file of strokes, as `export_strokes` writes it."""
    suffix, write = STROKES[kind]
    return saved(folder, f"strokes{suffix}", write(strokes))


def box(top, left, bottom, right, value=1, rest=IGNORE):
    """Labels (H, W) with one rectangle; bounds as of a slice."""
    labels = np.full(SHAPE, rest, np.uint8)
    labels[top:bottom, left:right] = value
    return labels


def imagej_roi(
    kind,
    points=(),
    *,
    bounds=(0, 0, 0, 0),
    name="",
    group=0,
    width=0.0,
    floats=False,
    header=b"",
    path=(),
    subtype=0,
):
    """A .roi as ImageJ's encoder lays it out: big-endian, header, coordinates, second header,
    name.
    """
    top, left, bottom, right = bounds
    body = b""
    if len(points):
        xy = np.array(points, float)
        grid = np.floor(np.nan_to_num(xy))
        left, top = (int(v) for v in grid.min(0))
        right, bottom = (int(v) + 1 for v in grid.max(0))
        body = (grid - (left, top)).astype(">i2").tobytes("F")
        if floats:
            body += xy.astype(">f4").tobytes("F")
    body += np.array(path, ">f4").tobytes()
    data = b"Iout" + struct.pack(">hBxhhhhH", 228, kind, top, left, bottom, right, len(points))
    data += header.ljust(16, b"\0") + struct.pack(
        ">hi8xhhBBhi", int(np.nan_to_num(width)), len(path), subtype, 128 * floats, 0, 0, 0, 0
    )
    data += struct.pack(">i", 64 + len(body)) + body
    second = struct.pack(
        ">iiiiii4shBBifiii",
        0,
        0,
        0,
        0,
        64 + len(body) + 64,
        len(name),
        b"",
        0,
        group,
        0,
        0,
        width,
        0,
        0,
        0,
    )
    return data + second.ljust(64, b"\0") + name.encode("utf-16be")


def roi_set(members, **options):
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def qupath(*features):
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


def feature(kind, coordinates, *, of="Nucleus", **about):
    about = (
        {"objectType": "annotation"}
        | ({"classification": {"name": of, "color": [200, 0, 0]}} if of else {})
        | about
    )
    geometry = {"type": kind, "coordinates": coordinates}
    return {
        "type": "Feature",
        "id": "5f4f1c0c-6f3e-4c57-8f0c-0ad2a5d3a1c4",
        "geometry": geometry,
        "properties": about,
    }


def aperio(*regions, name="nuclei"):
    head = (
        f'<Annotation Id="1" Name="{name}" ReadOnly="0" LineColor="65280" Visible="1"'
        ' Type="4"><Attributes>'
    )
    head += (
        '<Attribute Name="Description" Id="0"'
        ' Value=""/></Attributes><Regions><RegionAttributeHeaders>'
    )
    head += '<AttributeHeader Id="9999" Name="Region" ColumnWidth="-1"/></RegionAttributeHeaders>'
    return (
        "<Annotations"
        f' MicronsPerPixel="0.25">{head}{"".join(regions)}</Regions><Plots/></Annotation></Annotations>'
    )


def region(points, **about):
    about = {
        "Id": "1",
        "Type": "0",
        "Zoom": "0.5",
        "Text": "",
        "NegativeROA": "0",
        "InputRegionId": "0",
    } | about
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    listed = " ".join(f'{name}="{value}"' for name, value in about.items())
    return f"<Region {listed}><Attributes/><Vertices>{vertices}</Vertices></Region>"


label_maps = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.sampled_from([0, 0, 1, 2, 70000]))
)


@settings(max_examples=60)
@given(label_maps)
@pytest.mark.parametrize("suffix", WRITERS)
def test_instances_come_back_exactly(suffix, instances):
    """Any pieces, holes and corners that touch, and labels over 65,535."""
    with TemporaryDirectory() as folder:
        WRITERS[suffix](path := Path(folder) / f"cells{suffix}", instances)
        found = read_instances(path, instances.shape)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, instances)


@settings(max_examples=60)
@given(label_maps)
def test_outlines_are_valid_polygons(instances):
    """One simple outer ring for each 4-connected piece, holes turn the other way,
    and areas add up.
    """
    found = outlines(instances)
    assert [k for k, _ in found] == np.unique(instances[instances > 0]).tolist()
    for k, polygons in found:
        assert len(polygons) == ndimage.label(instances == k)[1]
        area = 0
        for rings in polygons:
            for number, ring in enumerate(rings):
                y, x = ring.T
                signed = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
                assert len({tuple(p) for p in ring.tolist()}) == len(ring)  # never touches itself
                assert (np.diff(ring, axis=0, append=ring[:1]) != 0).sum(1).tolist() == [1] * len(
                    ring
                )
                assert (signed > 0) == (number == 0)
                area += signed
        assert area == (instances == k).sum()


quarters = st.integers(-40, 120).map(lambda n: n / 4)
strokes_lists = st.lists(
    st.builds(
        Stroke,
        st.sampled_from([0, 1]),
        st.integers(1, 40).map(lambda n: n / 4),
        st.tuples(
            st.tuples(
                st.integers(0, 76).map(lambda n: n / 4), st.integers(0, 92).map(lambda n: n / 4)
            ),
            st.lists(st.tuples(quarters, quarters), max_size=4),
        ).map(lambda pair: (pair[0], *pair[1])),
    ),
    max_size=5,
)


@settings(max_examples=60)
@given(strokes_lists)
@pytest.mark.parametrize("kind", STROKES)
def test_strokes_come_back_exactly(kind, strokes):
    """The lines to the digit; the pixels up to those whose centre lies right on the edge of the brush."""
    with TemporaryDirectory() as folder:
        path = drawn_here(strokes, folder, kind)
        assert lines(path) == strokes
        found = read_scribbles(path, SHAPE)
    if len(strokes) == 1:
        wider, thinner = (
            render([replace(strokes[0], width=strokes[0].width + d)], SHAPE) for d in (1e-4, -1e-4)
        )
        assert ((found != IGNORE) <= (wider != IGNORE)).all()
        assert ((thinner != IGNORE) <= (found != IGNORE)).all()


@pytest.mark.parametrize(("kind", "tolerance"), [("imagej", 1e-3), ("qupath", 1e-9)])
def test_strokes_off_the_grid_come_back_within_the_tolerance(tmp_path, kind, tolerance):
    rng = np.random.default_rng(seed_for(0, "off the grid"))
    strokes = [Stroke(k % 2, float(w), tuple(map(tuple, rng.uniform(0, 9000, (5, 2)).tolist())))
               for k, w in enumerate(rng.uniform(0.1, 30, 20))]  # fmt: skip
    found = lines(drawn_here(strokes, tmp_path, kind))
    assert [s.label for s in found] == [s.label for s in strokes]
    for ours, theirs in zip(strokes, found, strict=True):
        assert abs(ours.width - theirs.width) <= tolerance
        assert np.abs(np.subtract(ours.points, theirs.points)).max() <= tolerance


POLYGON, RECT, OVAL, LINE, FREELINE, POLYLINE, FREEHAND, TRACED, POINT = 0, 1, 2, 3, 4, 5, 7, 8, 10
SQUARE = [(3, 2), (8, 2), (8, 6), (3, 6)]  # (x, y) corners: columns 3 to 7, rows 2 to 5


@pytest.mark.parametrize("kind", [POLYGON, FREEHAND, TRACED])
def test_imagej_areas_count_from_corners(tmp_path, kind):
    path = saved(tmp_path, "a.roi", imagej_roi(kind, SQUARE, name="Nucleus-12"))
    np.testing.assert_array_equal(read_scribbles(path, SHAPE), box(2, 3, 6, 8))
    np.testing.assert_array_equal(read_instances(path, SHAPE), box(2, 3, 6, 8, rest=0))


def test_imagej_rectangles_and_ovals(tmp_path):
    path = saved(tmp_path, "a.roi", imagej_roi(RECT, bounds=(2, 3, 6, 8), name="bg"))
    np.testing.assert_array_equal(read_scribbles(path, SHAPE), box(2, 3, 6, 8, 0))
    subpixel = imagej_roi(
        RECT,
        name="fg",
        floats=True,
        header=struct.pack(">ffff", 3.4, 2.4, 5, 4),
        bounds=(2, 3, 7, 9),
    )
    np.testing.assert_array_equal(
        read_scribbles(saved(tmp_path, "a.roi", subpixel), SHAPE), box(2, 3, 7, 9)
    )  # as ImageJ, which fills every pixel that it touches
    rows, columns = np.indices(SHAPE)
    disc = ((rows + 0.5 - 9) / 7) ** 2 + ((columns + 0.5 - 11) / 9) ** 2 < 1
    path = saved(tmp_path, "a.roi", imagej_roi(OVAL, bounds=(2, 2, 16, 20), name="fg"))
    np.testing.assert_array_equal(read_scribbles(path, SHAPE) == 1, disc)


def test_imagej_lines_count_from_centres(tmp_path):
    line = imagej_roi(LINE, header=struct.pack(">ffff", 2, 3.5, 9, 3.5), width=2.0, name="fg")
    (stroke,) = lines(saved(tmp_path, "l.roi", line))
    assert stroke == Stroke(1, 2.0, ((3.5, 2.0), (3.5, 9.0)))
    free = imagej_roi(
        FREELINE, [(2.25, 3.5), (9, 3.75), (9.5, 8)], floats=True, name="background", width=1.5
    )
    (stroke,) = lines(saved(tmp_path, "f.roi", free))
    assert stroke == Stroke(0, 1.5, ((3.5, 2.25), (3.75, 9.0), (8.0, 9.5)))
    poly = imagej_roi(
        POLYLINE, [(2, 3), (9, 3)], group=2
    )  # whole numbers, no width, class by group
    (stroke,) = lines(saved(tmp_path, "0003-0005.roi", poly))
    assert stroke == Stroke(0, WIDTH, ((3, 2), (3, 9)))
    assert lines(tmp_path / "0003-0005.roi", width=7.0)[0].width == 7.0


def test_imagej_points_are_discs(tmp_path):
    points = imagej_roi(POINT, [(5, 4), (15, 10)], group=1, floats=True)
    strokes = [Stroke(1, WIDTH, ((4, 5),)), Stroke(1, WIDTH, ((10, 15),))]
    path = saved(tmp_path, "p.roi", points)
    assert lines(path) == strokes
    assert (read_scribbles(path, SHAPE) == 1).sum() == 2 * 9


def test_imagej_composites_have_holes_and_pieces(tmp_path):
    rings = [
        [(0, 0), (9, 0), (9, 9), (0, 9)],
        [(3, 3), (3, 6), (6, 6), (6, 3)],
        [(12, 1), (14, 1), (14, 3), (12, 3)],
    ]
    path = [n for ring in rings for k, (x, y) in enumerate(ring) for n in (min(k, 1), x, y)]
    path = [*path[:12], 4, *path[12:24], 4, *path[24:], 4]
    expected = box(0, 0, 9, 9) & box(1, 12, 3, 14)
    expected[3:6, 3:6] = IGNORE
    file = saved(
        tmp_path, "c.roi", imagej_roi(RECT, bounds=(0, 0, 9, 14), path=path, name="cell 40000")
    )
    np.testing.assert_array_equal(read_scribbles(file, SHAPE), expected)
    assert np.unique(read_instances(file, SHAPE)).tolist() == [0, 40000]


def test_imagej_sets_keep_their_order(tmp_path):
    lower, upper = (
        imagej_roi(RECT, bounds=(0, 0, 9, 9), group=2),
        imagej_roi(RECT, bounds=(3, 3, 6, 6), group=1),
    )
    data = roi_set(
        {"0004-0004.roi": lower, "__MACOSX/._0004-0004.roi": b"junk", "0005-0005.roi": upper}
    )
    expected = box(0, 0, 9, 9, 0)
    expected[3:6, 3:6] = 1  # the later one wins
    np.testing.assert_array_equal(
        read_scribbles(saved(tmp_path, "RoiSet.zip", data), SHAPE), expected
    )
    instances = read_instances(tmp_path / "RoiSet.zip", SHAPE)
    np.testing.assert_array_equal(
        instances, box(0, 0, 9, 9, rest=0)
    )  # the first one wins, the other has no pixel


@pytest.mark.parametrize(
    ("kind", "coordinates", "strokes"),
    [
        ("Point", [5.5, 4.5], [[(4, 5)]]),
        ("MultiPoint", [[5.5, 4.5], [9, 9]], [[(4, 5)], [(8.5, 8.5)]]),
        ("LineString", [[1.5, 2.5], [7.5, 2.75]], [[(2, 1), (2.25, 7)]]),
        (
            "MultiLineString",
            [[[1.5, 2.5], [7.5, 2.5]], [[3, 9], [4, 9]]],
            [[(2, 1), (2, 7)], [(8.5, 2.5), (8.5, 3.5)]],
        ),
    ],
)
def test_qupath_lines_and_points(tmp_path, kind, coordinates, strokes):
    path = saved(tmp_path, "q.geojson", qupath(feature(kind, coordinates, of="Background*")))
    assert lines(path) == [Stroke(0, WIDTH, tuple(points)) for points in strokes]


def ring(top, left, bottom, right):
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def test_qupath_areas(tmp_path):
    holed = feature("Polygon", [ring(0, 0, 9, 9), ring(3, 3, 6, 6)], name="A")
    pieces = feature("MultiPolygon", [[ring(10, 10, 12, 12)], [ring(15, 15, 17, 20)]], name="B")
    path = saved(tmp_path, "q.json", qupath(holed, pieces))
    expected = box(0, 0, 9, 9, rest=0)
    expected[3:6, 3:6] = 0
    expected[10:12, 10:12] = expected[15:17, 15:20] = 2
    np.testing.assert_array_equal(read_instances(path, SHAPE), expected)
    np.testing.assert_array_equal(read_scribbles(path, SHAPE) == 1, expected > 0)


def test_qupath_annotations_around_detections_are_no_instances(tmp_path):
    around, cell = (
        feature("Polygon", [ring(0, 0, 20, 20)]),
        feature("Polygon", [ring(2, 3, 6, 8)], objectType="detection"),
    )
    path = saved(tmp_path, "q.geojson", qupath(around, cell))
    np.testing.assert_array_equal(read_instances(path, SHAPE), box(2, 3, 6, 8, rest=0))


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"of": None, "classification": {"names": ["Nucleus", "Positive"], "color": [1, 2, 3]}}, 1),
        ({"of": "Nucleus: Positive"}, 1),
        ({"of": "NEGATIVE"}, 0),
        ({"of": "1"}, 1),
        ({"of": "2"}, 0),
        ({"of": None, "name": "fg_3"}, 1),
        (
            {"of": None, "name": "Foreground", "measurements": [{"name": "Area", "value": 3.0}]},
            1,
        ),  # before 0.4
        ({"of": None, "name": "1"}, "''"),  # a running number is no class
        ({"of": None}, "''"),
        ({"of": "Tumor"}, "'Tumor'"),
        ({"of": "not nucleus"}, "'not nucleus'"),
        ({"of": "Nucleus: Negative"}, 1),  # graded by its stain: a nucleus either way
        ({"of": "Tumor: Negative"}, 1),
        ({"of": "Tumor: Negative", "objectType": "detection"}, 1),
        ({"of": "Negative", "objectType": "cell"}, 1),
        ({"of": "Background: Negative"}, 0),
        ({"of": None, "classification": "Nucleus"}, 1),  # valid GeoJSON
        ({"of": None, "classification": "Nucleus", "name": 7}, 1),
        ({"of": None, "classification": {"names": ["Tumor", "Positive"]}}, 1),
        ({"of": "Background", "name": "cell 7"}, "'cell 7, Background'"),
    ],
)
def test_class_is_told_and_never_guessed(tmp_path, about, expected):
    for content in (
        qupath(it := feature("Polygon", [ring(2, 3, 6, 8)], **about)),
        json.dumps([it]),
        json.dumps(it),
    ):
        path = saved(tmp_path, "q.geojson", content)
        if isinstance(expected, int):
            np.testing.assert_array_equal(read_scribbles(path, SHAPE), box(2, 3, 6, 8, expected))
        else:
            with pytest.raises(S2LError, match=f"q.geojson: .*{expected}.*foreground, fg, nucleus"):
                read_scribbles(path, SHAPE)


def test_classes_of_ones_own(tmp_path):
    path = saved(tmp_path, "q.geojson", qupath(feature("Polygon", [ring(2, 3, 6, 8)], of="Tumor")))
    np.testing.assert_array_equal(read_scribbles(path, SHAPE, words={"tumor": 1}), box(2, 3, 6, 8))


def test_aperio_layers(tmp_path):
    corners = [
        (2.5, 1.5),
        (7.5, 1.5),
        (7.5, 5.5),
        (2.5, 5.5),
    ]  # centres of columns 3 to 7, rows 2 to 5 lie inside
    for content in (
        aperio(region(corners)),
        aperio(region(corners, Text="Nucleus"), name=""),
        aperio(region(corners, Type="1"), name="Layer 1").replace('Value=""', 'Value="nuclei"'),
        aperio(
            region(corners).replace(
                "<Attributes/>", '<Attributes><Attribute Name="x" Value="fg"/></Attributes>'
            ),
            name="",
        ),
    ):
        path = saved(tmp_path, "a.xml", content)
        np.testing.assert_array_equal(read_scribbles(path, SHAPE), box(2, 3, 6, 8))
        np.testing.assert_array_equal(
            read_instances(path, SHAPE), rasterise(content.encode(), SHAPE)
        )
    path = saved(tmp_path, "a.xml", aperio(region([(2, 3), (9, 3.5)], Type="4"), name="0"))
    assert lines(path) == [Stroke(0, WIDTH, ((3, 2), (3.5, 9)))]


@pytest.mark.real
def test_aperio_of_monuseg(tmp_path):
    source = Source(next(Path(os.environ["S2L_DATA"]).glob("monuseg/*Test*.zip")))
    content = source.read(next(name for name in source.names if name.endswith(".xml")))
    found = read_instances(saved(tmp_path, "m.xml", content), (1000, 1000))
    np.testing.assert_array_equal(found, rasterise(content, (1000, 1000)))
    assert len(np.unique(found)) > 100


LABELS = np.random.default_rng(0).integers(0, 3, SHAPE)


def image_bytes(plane, kind, **options):
    Image.fromarray(plane).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def tiff_bytes(plane, **options):
    tifffile.imwrite(file := io.BytesIO(), plane, **options)
    return file.getvalue()


def numpy_bytes(plane, save=np.save):
    save(file := io.BytesIO(), plane)
    return file.getvalue()


IMAGES = {
    "8.png": image_bytes(LABELS.astype(np.uint8), "PNG"),
    "16.png": image_bytes(LABELS.astype(np.uint16), "PNG"),
    "napari.tif": tiff_bytes(
        LABELS.astype(np.int64), compression="zlib"
    ),  # how napari saves a labels layer
    "32.tiff": tiff_bytes(LABELS.astype(np.uint32), tile=(16, 16), compression="zlib"),
    "float.tif": tiff_bytes(LABELS.astype(np.float32), imagej=True),
    "lzw.tif": image_bytes(LABELS.astype(np.uint8), "TIFF", compression="tiff_lzw"),
    "a.npy": numpy_bytes(LABELS),
    "fortran.npy": numpy_bytes(np.asfortranarray(LABELS)),
    "a.npz": numpy_bytes(LABELS, np.savez_compressed),
}


@pytest.mark.parametrize("name", IMAGES)
def test_label_images(tmp_path, name):
    path = saved(tmp_path, name, IMAGES[name])
    found, remarks = read_mask(path, SHAPE)
    assert found.dtype == np.int32 and not remarks
    np.testing.assert_array_equal(found, LABELS)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        (
            "a.png",
            image_bytes(np.dstack([LABELS, LABELS, 0 * LABELS]).astype(np.uint8), "PNG"),
            "mask-colours",
        ),
        (
            "a.png",
            image_bytes(np.zeros((5, 5), np.uint8), "PNG"),
            "label-size",
        ),
        (
            "a.tif",
            tiff_bytes(np.zeros((3, *SHAPE), np.uint16), photometric="minisblack"),
            "stack",
        ),
        ("a.tif", tiff_bytes(np.zeros((3, *SHAPE), np.uint16), imagej=True), "label-values"),
        ("a.tif", tiff_bytes(np.full(SHAPE, 0.5, np.float32)), "label-values"),
        ("a.tif", tiff_bytes(np.full(SHAPE, np.nan, np.float32)), "label-values"),
        ("a.tif", tiff_bytes(np.full(SHAPE, -1, np.int32)), "label-values"),
        ("a.npy", numpy_bytes(np.array([{}], object)), "other-program"),
        ("a.npy", numpy_bytes(np.full(SHAPE, None)), "other-program"),
        ("a.npy", numpy_bytes(np.full(SHAPE, 1j)), "label-values"),
        ("a.npz", roi_set({"a.npy": IMAGES["a.npy"], "b.npy": IMAGES["a.npy"]}), "unreadable-file"),
        ("a.npz", roi_set({"a.npy": bytes(10**7)}), "unreadable-file"),
        ("a.npy", bytes(10**7), "unreadable-file"),
        ("a.png", bytes(10**7), "unreadable-file"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "content",
)
def test_no_label_image(tmp_path, name, content, code):
    with raises_fault(code, file=name):
        read_mask(saved(tmp_path, name, content), SHAPE)


def test_label_tiffs_hold_any_label(tmp_path):
    for highest, dtype in ((65535, np.uint16), (65536, np.uint32), (2**31 - 1, np.uint32)):
        instances = np.array([[0, highest]], np.int32)
        write_label_tiff(tmp_path / "a.tif", instances, pixel_size=0.65)
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            assert tiff.is_imagej and tiff.imagej_metadata["unit"] == "um"
            assert tiff.pages[0].dtype == dtype
            pixels, length = tiff.pages[0].tags["XResolution"].value
        assert length / pixels == pytest.approx(0.65)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), instances)
    with pytest.raises(S2LError, match="label 2147483648"):
        write_label_tiff(tmp_path / "b.tif", np.array([[2**31]]))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_cells_are_measured(tmp_path):
    instances = np.zeros(SHAPE, np.int32)
    instances[2:6, 3:8], instances[10, 10] = 70000, 2
    image = np.random.default_rng(1).integers(0, 255, (*SHAPE, 2), dtype=np.uint8)
    write_cells(tmp_path / "a.csv", instances, Measured(image, ("0", "1")), pixel_size=0.5)
    dot, square = table(tmp_path / "a.csv")
    assert (dot["label"], dot["area"], dot["area_um2"]) == ("2", "1", "0.25")
    expected = {
        "label": 70000,
        "area": 20,
        "centroid_row": 3.5,
        "centroid_column": 5,
        "min_row": 2,
        "min_column": 3,
    }
    expected |= {
        "max_row": 6,
        "max_column": 8,
        "perimeter": 14,
        "solidity": 1,
        "area_um2": 5,
        "perimeter_um": 7,
    }
    expected |= {
        "major_axis": 4 * 2**0.5,
        "minor_axis": 4 * 1.25**0.5,
        "eccentricity": (1 - 1.25 / 2) ** 0.5,
    }
    expected |= {
        "major_axis_um": 2 * 2**0.5,
        "minor_axis_um": 2 * 1.25**0.5,
        "centroid_row_um": 1.75,
    }
    inside = image[2:6, 3:8].reshape(-1, 2)
    for kind in ("mean", "min", "max"):
        expected |= {f"{kind}_{c}": getattr(inside[:, c], kind)() for c in (0, 1)}
    expected["centroid_column_um"] = 2.5
    assert set(square) == set(expected)
    for name, value in expected.items():
        assert float(square[name]) == pytest.approx(value, rel=1e-8), name
    write_cells(tmp_path / "b.csv", instances, Measured(image[..., :1], ("",)))
    assert float(table(tmp_path / "b.csv")[1]["mean"]) == pytest.approx(inside[:, 0].mean())
    assert not [name for name in table(tmp_path / "b.csv")[0] if name.endswith(("_um", "_um2"))]
    write_cells(tmp_path / "c.csv", np.zeros(SHAPE, np.int32), Measured(image, ("0", "1")))
    assert table(tmp_path / "c.csv") == []
    assert "mean_1" in (tmp_path / "c.csv").read_text()


def test_what_cannot_be_written(tmp_path):
    instances = np.zeros(SHAPE, np.int32)
    for writer in (*WRITERS.values(), write_cells):
        for wrong in (instances[0], instances - 1, instances * 0.5):
            with pytest.raises(S2LError, match=f"{tmp_path / 'a'}: .*{wrong.dtype}"):
                writer(tmp_path / "a", wrong)
    with pytest.raises(S2LError, match=r"\(5, 5, 1\) .*\(20, 24\)"):
        write_cells(tmp_path / "a", instances, Measured(np.zeros((5, 5, 1)), ("",)))
    with pytest.raises(S2LError, match="pixel_size nan"):
        write_cells(tmp_path / "a", instances, pixel_size=float("nan"))
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.tif", tmp_path / "folder.tif"):
        with pytest.raises(S2LError, match=path.name):
            write_label_tiff(path, instances)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.tif", "file"}


def test_geojson_carries_the_probability(tmp_path):
    instances = box(2, 3, 6, 8, rest=0).astype(np.int32)
    write_geojson(tmp_path / "a.geojson", instances, np.where(instances, 0.75, 0))
    (cell,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert cell["properties"]["measurements"] == {"Probability": 0.75}
    assert cell["geometry"]["coordinates"][0][0] == cell["geometry"]["coordinates"][0][-1]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 30)), min_size=3, max_size=9), st.booleans()
)
def test_areas_are_filled_by_the_even_odd_rule(points, lattice):
    """Against a plain loop: right and bottom edges belong to an area, left and top ones do not."""
    line = np.rint(points) if lattice else np.array(points)
    expected = np.zeros(SHAPE, bool)
    for r, c in np.ndindex(SHAPE):
        for (y0, x0), (y1, x1) in zip(line, np.roll(line, -1, axis=0), strict=True):
            if (
                min(y0, y1) < r <= max(y0, y1)
                and x0 + (r - y0) * ((x1 - x0) / (y1 - y0)) + 1e-8 < c
            ):
                expected[r, c] ^= True
    found = np.zeros(SHAPE, bool)
    for run in inside([line], SHAPE, lambda work: None):
        found.reshape(-1)[slice(*run)] = True
    np.testing.assert_array_equal(found, expected)


def test_long_lines_are_drawn_in_pieces(tmp_path, monkeypatch):
    rng = np.random.default_rng(seed_for(0, "long"))
    strokes = [Stroke(1, 5.25, tuple(map(tuple, (rng.integers(0, 76, (200, 2)) / 4).tolist())))]
    path, whole = drawn_here(strokes, tmp_path, "qupath"), render(strokes, SHAPE)
    read = read_scribbles(path, SHAPE)
    monkeypatch.setattr(strokes_room, "WORK_AT_ONCE", 300)
    assert len(list(strokes_room.pieces(strokes[0], SHAPE))) > 10
    np.testing.assert_array_equal(read_scribbles(path, SHAPE), read)
    np.testing.assert_array_equal(render(strokes, SHAPE), whole)


def test_what_leaves_the_image_is_cut(tmp_path):
    path = saved(tmp_path, "q.geojson", qupath(feature("Polygon", [ring(-9e8, -50, 6, 8)])))
    np.testing.assert_array_equal(read_scribbles(path, SHAPE), box(0, 0, 6, 8))
    path = saved(tmp_path, "q.geojson", qupath(feature("LineString", [[-9e8, 4.5], [9e8, 4.5]])))
    np.testing.assert_array_equal(read_scribbles(path, SHAPE), box(3, 0, 6, 24))


SQUARE_ROI = imagej_roi(POLYGON, SQUARE, name="fg")
BILLION = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><Annotations>&b;</Annotations>'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", ".roi, .zip, .geojson, .json, .xml"),
        ("a.roi", b"", "ROI a: .*0 < 64"),
        ("a.roi", SQUARE_ROI[:70], "ROI a: "),
        ("a.roi", imagej_roi(RECT, bounds=(5, 5, 2, 2), name="fg"), "width -3 and height -3"),
        (
            "a.roi",
            imagej_roi(POLYGON, [(np.nan, 1), (5, 5), (1, 5)], floats=True),
            "ROI a: ",
        ),
        ("a.roi", imagej_roi(POLYLINE, SQUARE, name="fg", width=300.0), "width 300.0"),
        ("a.roi", imagej_roi(POLYLINE, SQUARE, name="fg", width=float("nan")), "width nan"),
        (
            "a.roi",
            imagej_roi(RECT, bounds=(2, 2, 5, 5), name="fg", subtype=1)[:64]
            + struct.pack(">iiii", 9, 0, 0, 0),
            "ROI a: ",
        ),
        ("a.roi", imagej_roi(6, name="fg"), r"ROI a: .*\(0, 2\)"),
        (
            "a.roi",
            imagej_roi(RECT, bounds=(2, 2, 5, 5), path=[2.0] * 5, name="fg"),
            "ROI a: ",
        ),
        (
            "a.roi",
            imagej_roi(POLYGON, [(x + 50, y) for x, y in SQUARE], name="fg"),
            r"fg .*\(20, 24\)",
        ),
        ("a.zip", b"PK\3\4", "ZIP"),
        (
            "a.zip",
            roi_set({"a.zip": roi_set({"a.roi": SQUARE_ROI})}),
            "'a.zip'.*.roi",
        ),
        ("a.zip", roi_set({"a.roi": roi_set({"a.roi": SQUARE_ROI})}), "ROI a: "),
        ("a.zip", lambda: roi_set({"a.roi": bytes(40 * 2**20)}), ""),
        ("a.geojson", "", "JSON .*line 1, column 1"),
        ("a.geojson", lambda: "[" * 100_000, ""),
        ("a.geojson", "3", "JSON .* 3"),
        (
            "a.geojson",
            '{"type": "FeatureCollection", "features": [3]}',
            "feature 1: ",
        ),
        ("a.geojson", lambda: "," * (6 * limits.MAX_POINTS + 1), " 6000000 "),
        (
            "a.geojson",
            lambda: qupath(feature("LineString", [[1, 5]] * limits.MAX_POINTS)),
            "1000000 .*S2L_LIMITS",
        ),
        ("a.geojson", lambda: " " * (limits.MAX_BYTES + 1), "33554433 .*33554432 .*S2L_LIMITS"),
        (
            "a.geojson",
            qupath(feature("Polygon", [[[1, 1], [2, float("nan")], [5, 5]]])),
            "feature 1: .*1e.09",
        ),
        (
            "a.geojson",
            qupath(feature("Polygon", [[[1, 1], [2, 1e300], [5, 5]]])),
            "feature 1: .*1e.09",
        ),
        ("a.geojson", qupath(feature("Polygon", [[1, 2], [3, 4]])), r"feature 1: .*\(2,\)"),
        ("a.geojson", qupath(feature("Polygon", "abc")), "feature 1: .*'a'"),
        (
            "a.geojson",
            qupath(feature("Circle", [1, 2])),
            "feature 1: .*'Circle'.*Point, MultiPoint",
        ),
        (
            "a.geojson",
            qupath(feature("LineString", [[1, 1], [5, 5]], measurements={"stroke_width": -1})),
            "width -1",
        ),
        (
            "a.geojson",
            lambda: qupath(feature("MultiPoint", [[1, 1]] * 60_000)),
            "feature 1: .* 50000 ",
        ),
        (
            "a.geojson",
            qupath(feature("Polygon", [ring(30, 0, 40, 9)], name="far")),
            r"far .*\(20, 24\)",
        ),
        ("a.xml", "", "XML .*line 1"),
        ("a.xml", "<Annotations><Annotation>", "XML .*line 1"),
        ("a.xml", BILLION, "XML"),
        ("a.xml", lambda: "<Annotations>" * 500_000, " 400000 "),
        ("a.xml", aperio(region([("x", 1)])), "'x'"),
        ("a.xml", aperio(region([("nan", 1)])), "region 1: .*1e.09"),
        ("a.xml", aperio(region([])), r"region 1: .*\(0,\)"),
        ("a.xml", aperio(region([(1, 1), (5, 5)], Type="2")), "region 1: .*'2'"),
        ("a.xml", aperio(region([(1, 1), (5, 5), (1, 5)], NegativeROA="1")), "region 1: "),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "content",
)
def test_damaged_and_hostile_files_are_refused(tmp_path, name, content, message):
    started = time.process_time()
    with pytest.raises(S2LError, match=f"{name}: .*{message}"):
        read_scribbles(saved(tmp_path, name, content), SHAPE)
    assert time.process_time() - started < HANG


def spikes(*, width=None, points=150_000):
    """A line up and down the whole image."""
    zigzag = [[x % 20, 0 if x % 2 else 999] for x in range(points)]
    return (
        feature("LineString", zigzag, measurements={"stroke_width": width})
        if width
        else feature("Polygon", [zigzag])
    )


HEAVY = {
    "covers.geojson": lambda: qupath(*[feature("Polygon", [ring(0, 0, 999, 999)])] * 9_000),
    "zigzags.geojson": lambda: qupath(*[spikes(points=5000)] * 20),
    "many.geojson": lambda: qupath(*[spikes(width=20, points=1000)] * 100),
    "points.geojson": lambda: qupath(
        feature("LineString", [[1 + x % 7, 5] for x in range(999_999)])
    ),
    "objects.geojson": lambda: (
        '{"type":"FeatureCollection","features":[' + '{"":0},' * 2_900_000 + "{}]}"
    ),
    "elements.xml": lambda: aperio(region([(x % 7, 5) for x in range(390_000)], Type="4")),
}


@pytest.mark.long
def test_heavy_files_come_to_an_end_within_a_gigabyte(tmp_path):
    """Read or refused, in a process of their own; seconds of the processor, whatever else runs."""
    for name, content in HEAVY.items():
        saved(tmp_path, name, content().replace(", ", ","))
    code = """
import resource, sys, time
from s2l_core.config import S2LError
from s2l_images.annotation_files.annotations import read_instances, read_scribbles
for path in sys.argv[1:]:
    started = time.process_time()
    try:
        (read_instances if "covers" in path else read_scribbles)(path, (1000, 1000))
        print("read")
    except S2LError as error:
        print(str(error)[-200:])
    if sys.platform == "linux":  # ru_maxrss would be that of the process which started this one, if larger
        peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    print(time.process_time() - started, peak)
"""
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in HEAVY)]
    said = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    results = dict(zip(HEAVY, zip(said[::2], said[1::2], strict=True), strict=True))
    for name, (outcome, figures) in results.items():
        seconds, gigabytes = map(float, figures.split())
        assert seconds < HANG, (name, outcome, seconds)
        assert gigabytes < 1, (name, outcome, gigabytes)
    assert "too many times over" in results["covers.geojson"][0]
    assert results["points.geojson"][0] == results["elements.xml"][0] == "read"


def damaged(data, rng):
    """The file as a bad disk, a bad program or a bad neighbour would leave it."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, kind = (
            int(rng.integers(max(len(data), 1))),
            rng.choice(5, p=(0.04, 0.4, 0.2, 0.16, 0.2)),
        )
        if kind == 0:
            del data[at:]
        elif kind == 1 and data:
            data[at % len(data)] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            data[at : at + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(9)))
        elif kind == 3:
            data[at:at] = data[int(rng.integers(len(data) + 1)) :][: int(rng.integers(200))]
        else:
            words = (
                b"NaN",
                b"1e300",
                b"-1",
                b"null",
                b"[[",
                b"{}",
                b"\xff\xff\xff\x7f",
                b"\0" * 4,
                b"9" * 5000,
            )
            data[at : at + 2] = words[rng.integers(len(words))]
    return bytes(data)


FUZZED = {
    "f.roi": SQUARE_ROI,
    "c.roi": imagej_roi(RECT, bounds=(0, 0, 9, 9), path=[0, 0, 0, 1, 9, 0, 1, 9, 9, 4], name="fg"),
    "p.roi": imagej_roi(FREELINE, SQUARE, floats=True, name="fg", width=2.0),
    "f.zip": roi_set(
        {"1.roi": SQUARE_ROI, "2.roi": imagej_roi(OVAL, bounds=(2, 2, 9, 9), group=2)}
    ),
    "f.geojson": qupath(
        feature("MultiPolygon", [[ring(0, 0, 9, 9)]]), feature("LineString", [[1, 2], [3, 4]])
    ),
    "f.xml": aperio(region(SQUARE), region(SQUARE, Type="4")).encode(),
} | {name: data for name, data in IMAGES.items() if name not in ("fortran.npy", "8.png")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUZZED)
def test_damaged_files_raise_nothing_else(tmp_path, name):
    rng = np.random.default_rng(seed_for(0, "fuzz", name))
    original = FUZZED[name] if isinstance(FUZZED[name], bytes) else FUZZED[name].encode()
    outcomes = set()
    for _ in range(200):
        path = saved(tmp_path, name, damaged(original, rng))
        for read in (read_mask,) if name in IMAGES else (read_scribbles, read_instances):
            started = time.process_time()
            try:
                read(path, SHAPE)
                outcomes.add("read")
            except S2LError:
                outcomes.add("refused")
            assert time.process_time() - started < HANG
    assert outcomes == {"read", "refused"}
