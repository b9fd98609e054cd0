"""What ImageJ itself makes of our files, and we of its: the same pixels.

Runs where Debian's `imagej` and `xvfb` are installed; elsewhere it says that it was not run.
"""

import csv
import io
import zipfile

import imagej
import numpy as np
import pytest
import tifffile
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from s2l_core.config import IGNORE, seed_for
from s2l_images.annotation_files.annotations import read_instances, read_scribbles
from s2l_images.exporting.export_cells import write_cells
from s2l_images.exporting.export_imagej import write_rois
from s2l_images.exporting.export_labels import write_label_tiff

pytestmark = pytest.mark.skipif(not imagej.found(), reason=imagej.MISSING)
SHAPE = (50, 60)
POLYGON = "makePolygon(5,5,30,8,33,30,12,40);"
SPLINE = ' run("Fit Spline");'

AREAS = {
    "rectangle": "makeRectangle(3,4,20,10);",
    "rectangle_of_broken_numbers": "makeRectangle(3.4,4.6,20.2,10.3);",
    "rounded": "makeRectangle(3,4,20,14,9);",
    "rounded_more": "makeRectangle(3,4,30,24,20);",
    "rounded_less": "makeRectangle(10,10,11,7,5);",
    "rounded_to_an_oval": "makeRectangle(10,10,21,17,60);",
    "oval": "makeOval(3,4,21,13);",
    "oval_of_broken_numbers": "makeOval(3.4,4.6,20.2,10.3);",
    "ellipse": "makeEllipse(10.3,30.2,40.7,12.9,0.8);",
    "rotated_rectangle": "makeRotatedRectangle(10,10,40,30,12);",
    "polygon": POLYGON,
    "spline": POLYGON + SPLINE,
    "spline_of_three": "makePolygon(5,5,40,20,12,40);" + SPLINE,
    "spline_of_nine": "makePolygon(20,2,34,8,45,20,40,36,28,44,15,40,6,30,3,18,9,8);" + SPLINE,
    "freehand": 'makeSelection("freehand",newArray(5,30,33,12),newArray(5,8,30,40));',
    "through_centres": 'makeSelection("freehand",newArray(5.5,30.5,33.5),newArray(5.5,5.5,40.5));',
    "traced": 'makeOval(5,5,20,20); run("Set...","value=100"); doWand(12,12);',
    "enlarged": POLYGON + ' run("Enlarge...","enlarge=3");',
    "hole": 'makeOval(5,5,30,30); setKeyDown("alt"); makeOval(12,12,10,10); setKeyDown("none");',
    "pieces": 'makeOval(5,5,9,9); setKeyDown("shift"); makeRectangle(25,9,9,9); setKeyDown("none");',
    "inverse": 'makeOval(5,5,30,30); run("Make Inverse");',
    "rotated": 'makeRectangle(10,10,20,15); run("Rotate...","rotate angle=30");',
    "line_to_area": 'makeLine(5,5,40,30,6); run("Line to Area");',
}


def test_areas_of_imagej_are_read_to_the_pixel(tmp_path):
    for path, expected in imagej.made(AREAS, SHAPE, tmp_path).items():
        assert expected.any()
        np.testing.assert_array_equal(read_instances(path, SHAPE) > 0, expected, path.stem)


def polygon(points, kind=ROI_TYPE.POLYGON, **fields):
    roi = ImagejRoi.frompoints(np.array(points), name="fg")
    roi.roitype = kind
    broken = roi.subpixel_coordinates is not None
    roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION if broken else ROI_OPTIONS.NONE
    for name, value in fields.items():
        setattr(roi, name, value)
    return roi.tobytes()


def test_polygons_at_random_are_filled_as_imagej_does(tmp_path):
    """On whole, half and any coordinates: half ones run through the centres of pixels."""
    rng = np.random.default_rng(seed_for(0, "imagej polygons"))
    rois = {}
    for k in range(120):
        points = rng.uniform(0, 49, (rng.integers(3, 9), 2))
        points = (np.rint(points), np.rint(points) + 0.5, points)[k % 3]
        kind = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)[k // 3 % 3]
        rois[f"r{k:03d}"] = polygon(points, kind)
    wrong = 0
    for name, expected in imagej.drawn(rois, SHAPE, tmp_path).items():
        found = read_instances(tmp_path / f"{name}.roi", SHAPE) > 0
        wrong += np.count_nonzero(found != expected)
    assert wrong == 0


def test_lines_are_as_wide_as_in_imagej(tmp_path):
    """Compared by rows and columns away from the ends, which are round here and blunt there."""
    for width in (1, 2, 3, 4, 5, 6):
        rois = {
            "level": polygon([(5, 20), (50, 20)], ROI_TYPE.POLYLINE, stroke_width=width),
            "upright": polygon([(20, 5), (20, 45)], ROI_TYPE.POLYLINE, stroke_width=width),
        }
        (folder := tmp_path / str(width)).mkdir()
        for name, expected in imagej.drawn(rois, SHAPE, folder, imagej.LINE).items():
            found = read_scribbles(folder / f"{name}.roi", SHAPE) != IGNORE
            middle = np.s_[15:30, 15:30]
            np.testing.assert_array_equal(found[middle], expected[middle], f"{name} {width}")
            assert found[middle].sum() == 15 * width


def nuclei():
    """Instances (H, W) with holes, pieces, corners that touch and neighbours."""
    rng = np.random.default_rng(seed_for(0, "imagej nuclei"))
    instances = rng.integers(0, 7, (SHAPE[0] // 5, SHAPE[1] // 5)).repeat(5, 0).repeat(5, 1)
    instances[rng.random(SHAPE) < 0.05] = 0
    return instances.astype(np.int32)


def test_our_rois_hold_the_same_pixels_in_imagej(tmp_path):
    instances = nuclei()
    write_rois(tmp_path / "cells.zip", instances)
    with zipfile.ZipFile(tmp_path / "cells.zip") as archive:
        rois = {name.split(".")[0]: archive.read(name) for name in archive.namelist()}
    assert len(rois) == 6
    for name, pixels in imagej.drawn(rois, SHAPE, tmp_path).items():
        np.testing.assert_array_equal(pixels, instances == int(name.split()[1]), name)


@pytest.mark.parametrize("most", [6, 65535, 65536, 2**24])
def test_our_labels_are_the_same_in_imagej(tmp_path, most):
    instances = nuclei()
    instances[instances == 6] = most
    write_label_tiff(tmp_path / "cells.tif", instances, pixel_size=0.65)
    np.testing.assert_array_equal(imagej.labels(tmp_path / "cells.tif", tmp_path), instances)
    asked = "getPixelSize(unit, width, height); print(unit, width, height);"
    said = imagej.run(f'open("{tmp_path}/cells.tif"); {asked}', tmp_path)
    assert "m 0.65 0.65" in said  # its micro sign depends on the system


def test_measurements_agree_with_imagej_but_for_half_a_pixel(tmp_path):
    instances = nuclei()
    one = (instances == 3).astype(np.int32)
    write_cells(tmp_path / "cells.csv", one)
    (ours,) = csv.DictReader(io.StringIO((tmp_path / "cells.csv").read_text()))
    write_rois(tmp_path / "cells.zip", one)
    asked = 'run("Set Measurements...", "area centroid"); run("Measure"); '
    asked += 'print("=", getResult("Area"), getResult("X"), getResult("Y"));'
    with zipfile.ZipFile(tmp_path / "cells.zip") as archive:
        (tmp_path / "one.roi").write_bytes(archive.read(archive.namelist()[0]))
    blank = f'newImage("m", "8-bit black", {SHAPE[1]}, {SHAPE[0]}, 1);'
    said = imagej.run(f'{blank} open("{tmp_path}/one.roi"); {asked}', tmp_path)
    area, x, y = map(float, said.split("=")[1].split()[:3])
    assert area == float(ours["area"])
    assert x == pytest.approx(float(ours["centroid_column"]) + 0.5, abs=1e-3)
    assert y == pytest.approx(float(ours["centroid_row"]) + 0.5, abs=1e-3)


POSITIONS = """
newImage("s", "8-bit black", {width}, {height}, 10);
setSlice(3); makeRectangle(3, 3, 9, 9); roiManager("add");
setSlice(9); makeOval(20, 20, 9, 9); roiManager("add");
roiManager("save", "{folder}/stack.zip");
"""


def test_slices_of_the_roi_manager_are_known(tmp_path):
    macro = POSITIONS.format(folder=tmp_path, height=SHAPE[0], width=SHAPE[1])
    said = imagej.run(macro, tmp_path)
    assert (tmp_path / "stack.zip").exists(), said
    found = []
    instances = read_instances(tmp_path / "stack.zip", SHAPE, plane=3, found=found)
    assert (instances > 0).sum() == 81
    assert "slice 3 (1 items), slice 9 (1 items)" in found[0].found
    tifffile.imwrite(tmp_path / "plane.tif", instances.astype(np.uint16))
