"""A bad folder for every kind of finding: the check names it,
reading and training stop where it says so.
"""

import dataclasses
import errno
import io
import re
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ImagejRoi
from test_folder import (
    ALPHA,
    GREY,
    INSTANCES,
    OURS,
    RAMP,
    RGB,
    SHAPE,
    folder_of,
    imagej,
    png,
    scribbled,
    tiff,
)

from conftest import ROOT
from s2l_core.batches import TrainingSet
from s2l_core.config import IGNORE, RunConfig, S2LError, seed_for
from s2l_images.faults import FAULT_KINDS, LEVELS, Finding
from s2l_images.folders import input_checks
from s2l_images.folders.input_checks import check_folder, report
from s2l_images.places import own_splits
from s2l_images.strokes import Stroke, write_strokes
from s2l_paper.data.datasets import images_of, load_dataset, split_of
from s2l_paper.scribbles.annotators import scribbles_of

LABELS = INSTANCES.astype(np.uint16)
BINARY = np.where(OURS == 1, 255, 0).astype(np.uint8)
FOREGROUND = np.where(OURS == 1, 1, IGNORE).astype(np.uint8)
SMOOTH = np.where(INSTANCES > 0, 255, 0).astype(np.uint8)
SMOOTH[1, :5], SMOOTH[19, 5:9] = (10, 60, 120, 180, 230), (33, 66, 99, 132)
SMALL = np.zeros((100, 100), np.uint8)
SMALL[::4, ::4] = 1 + np.arange(625).reshape(25, 25) % 255


def header(height, width, depth=8, colour=2):
    """A PNG that promises pixels and holds none."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"")
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c))
        for c in (chunk, body, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 3
    return png(RGB, format="JPEG", exif=exif)


def link(file):
    outside = file.parents[2] / "elsewhere.png"
    outside.write_bytes(png(RGB // 2))
    file.symlink_to(outside)


def geojson(*features):
    """Features of (kind of object, class, top, left, side, more about it); the class may be None."""
    found = []
    for kind, name, top, left, side, more in features:
        ring = [
            [left, top],
            [left + side, top],
            [left + side, top + side],
            [left, top + side],
            [left, top],
        ]
        about = {"objectType": kind, "classification": name and {"name": name}}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        found.append({"type": "Feature", "geometry": geometry, "properties": about} | more)
    return {"type": "FeatureCollection", "features": found}


def on_slices(*slices):
    """An ImageJ ROI set: a square nucleus and a background for each slice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for k, number in enumerate(slices):
            for name, left in (("nucleus", 2), ("background", 20)):
                square = np.array([(left, 4 * k), (left + 3, 4 * k), (left + 3, 4 * k + 3)])
                roi = ImagejRoi.frompoints(square, name=f"{name} {k}", position=number - 1)
                archive.writestr(f"{name} {k}.roi", roi.tobytes())
    return file.getvalue()


def strokes(**images):
    return lambda file: write_strokes(file, images, {})


def not_utf8(file):
    """A name as a memory stick of an old PC holds it; a Mac's file system has no such names."""
    if sys.platform == "darwin":
        pytest.skip("this file system knows UTF-8 only: names that are none were not tried")
    with open(bytes(file.parent) + b"/Pr\xe4parat.png", "wb") as stream:
        stream.write(png(RGB // 2))


def paged(*pages, reduced=False):
    """A TIFF of several pages; `reduced`: all but those of the size of the first are marked as copies."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number, page in enumerate(pages):
            writer.write(
                page, photometric="rgb", subfiletype=int(reduced and number > 0), metadata=None
            )
    return file.getvalue()


FOUR = np.dstack([RGB, GREY])
OLD = {"images/a.png": None, "scribbles/a.png": None}
BOTH = {"scribbles/a.png": None, "scribbles/b.png": None}
LINE = [Stroke(1, 3.0, ((5, 5), (5, 30)))]

# code -> for each example: files on top of a good folder (None: without it; a list:
# nothing else), part of what is said
CASES = {
    "not-a-folder": [([], "there is nothing of that name")],
    "empty-folder": [([{}], "holds nothing; expected images/ in it")],
    "no-images-folder": [([{"cells.csv": b"x"}], "holds cells.csv; expected images/")],
    "images-in-root": [([{"a.png": RGB, "b.tif": RGB, "notes.txt": b"x"}], "holds a.png, b.tif; expected them in")],
    "no-images": [([{"images/a.czi": b"x"}], "images: holds a.czi; expected PNG"), ([{"images/.x": b"x"}], "nothing")],
    "same-stem": [
        ({"images/a.tif": tiff(GREY)}, "a.png, a.tif belong to one image"),
        ({"scribbles/strokes.json": strokes(a=LINE)}, "a.png, strokes.json belong to one image"),
    ],
    "no-image-for-it": [
        ({"masks/a_mask.png": LABELS}, "masks/a_mask.png: no image is called 'a_mask'; images/ has a"),
        ({"scribbles/z.png": OURS}, "scribbles/z.png: no image is called 'z'; images/ has a, b"),
    ],
    "name-encoding": [
        ({"images/x.png": not_utf8}, r"the name Pr\xe4parat.png is not UTF-8; expected"),
    ],
    "link-outside": [
        ({"images/c.png": link}, "images/c.png: a link to "),
        ({"scribbles/b.png": None, "scribbles/strokes.json": lambda file: file.symlink_to("/etc/hosts")}, "/etc/hosts"),
        ({"s2l": lambda file: file.symlink_to("/tmp")}, "s2l: a link to "),
    ],
    "nothing-labelled": [([{"images/a.png": RGB}], "none of 1 images has scribbles or a mask")],
    "bad-splits": [
        ({"splits.json": {"train": ["x"]}}, "splits.json: 'x' is no image; images/ has a, b; expected {"),
        ({"splits.json": "{"}, "splits.json: cannot be read"),
    ],
    "bad-encoding": [
        ({"scribbles.json": {"foreground": 1}}, "scribbles.json: holds foreground; expected"),
        ({"scribbles.json": {"foreground": 1, "background": [2, 1]}}, "1 is both foreground and background"),
        ({"scribbles.json": {"foreground": 1.5, "background": 2}}, "foreground holds 1.5"),
        ({"scribbles.json": "foreground = 1"}, "cannot be read"),
        ({"scribbles.json": '"fg"'}, "holds 'fg'"),
    ],
    "bad-settings": [
        ({"folder.toml": "chanel = 1"}, "folder.toml: holds 'chanel'; expected channel ="),
        ({"folder.toml": "channel = 0"}, "folder.toml: channel = 0; expected"),
        ({"folder.toml": "channel = DAPI"}, "folder.toml: cannot be read"),
    ],
    "no-access": [],
    "git-lfs-pointer": [
        ({"images/a.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"}, "Git LFS"),
    ],
    "web-page": [({"masks/a.png": b"\n<!DOCTYPE html><html><head>"}, "masks/a.png: a web page")],
    "other-format": [
        ({"images/a.png": b"ZISRAWFILE" + bytes(99)}, "images/a.png: a Zeiss CZI file; expected PNG"),
        ({"scribbles/a.png": png(GREY, format="GIF")}, "scribbles/a.png: a GIF picture"),
        ({"masks/a.tif": b"area,mean\n1,2\n"}, "masks/a.tif: text ('area,mean"),
    ],
    "empty-file": [
        ({"images/a.png": b""}, "images/a.png: holds 0 bytes"),
        ({"masks/a.tif": b""}, "masks/a.tif: holds 0 bytes"),
    ],
    "unreadable-file": [
        ({"images/a.png": png(RGB)[:200]}, "images/a.png: cannot be read"),
        ({"images/a.png": bytes(900)}, "images/a.png: 900 bytes, all of them 0"),
        ({"images/a.png": b"\1\2\3\4 this is no image"}, "images/a.png: cannot be read (it begins with"),
        ({"images/a.png": None, "images/a.tif": tiff(RGB)[:-400]}, "images/a.tif: "),
        ({"images/a.png": lambda file: file.symlink_to("gone.png")}, "images/a.png: cannot be read"),
        ({"scribbles/a.png": png(OURS)[:60]}, "scribbles/a.png: cannot be read"),
        ({**BOTH, "scribbles/a.zip": imagej(), "scribbles.json": {"foreground": "x", "background": "nuclei"},
          "scribbles/b.roi": b"x"}, "scribbles/b.roi: "),
        ({**BOTH, "scribbles/strokes.json": "{"}, "strokes.json: expected a file of strokes"),
        ({"masks/a.npy": b"x"}, "masks/a.npy: cannot be read"),
    ],
    "other-program": [
        ({"masks/a.xml": b"<ASAP_Annotations><Annotations/></ASAP_Annotations>"}, "masks/a.xml: an XML of ASAP"),
        ({**BOTH, "scribbles/a.json": {"shapes": []}}, "scribbles/a.json: a JSON of LabelMe"),
    ],
    "nothing-left": [
        ({"masks/a.geojson": geojson(("annotation", "Region*", 1, 1, 9, {}))},
         "holds nothing but 1 tiles, cores or regions"),
        ({"masks/a.geojson": geojson(("annotation", "Nucleus", 1, 1, 9, {"geometry": None}))},
         "holds nothing but 1 features without a geometry"),
    ],
    "several-planes": [
        ({**BOTH, "scribbles/a.zip": on_slices(3, 9)}, "items on slice 3 (2 items), slice 9 (2 items); such as `plane"),
        ({"masks/a.geojson": geojson(("annotation", "Nucleus", 1, 1, 9, {}), ("annotation", "Nucleus", 20, 20, 9, {
            "geometry": {"type": "Polygon", "coordinates": [[[20, 20], [29, 20], [29, 29]]], "plane": {
                "c": -1, "z": 4, "t": 0}}}))}, "items on z 1 frame 1 (1 items), z 5 frame 1 (1 items)"),
    ],
    "stack": [
        ({"images/a.png": None, "images/a.tif": tiff(np.stack([GREY] * 4), photometric="minisblack")}, "4 planes"),
        ({"images/a.png": None, "images/a.tif": tiff(np.stack([LABELS] * 2), imagej=True,
                                                     metadata={"axes": "ZYX"})}, "2 planes"),
        ({"images/a.png": png(Image.fromarray(RGB), save_all=True, append_images=[Image.fromarray(RGB[::-1])])},
         "a.png: holds 2 planes"),
        ({"masks/a.tif": tiff(np.stack([LABELS] * 3), photometric="minisblack")}, "masks/a.tif: holds 3 planes"),
        ({"images/a.png": None, "images/a.tif": paged(RGB[::2, ::2], RGB)}, "2 pages of 20 x 24 and 40 x 48"),
        ({"images/a.png": None, "images/a.tif": paged(RGB[::2, ::2], RGB, reduced=True)}, "40 x 48 pixels is larger"),
    ],
    "image-channels": [
        ({"images/a.png": None, "images/a.tif": tiff(np.dstack([GREY] * 5), photometric="minisblack",
                                                     planarconfig="contig")}, "holds 5 channels: 1 = 'channel 1'"),
        ({"images/a.png": None, "images/a.tif": tiff(np.stack([LABELS, RAMP.astype(np.uint16)]), imagej=True,
                                                     metadata={"axes": "CYX", "Labels": ["DAPI", "GFP"]})},
         "holds 2 channels: 1 = 'DAPI', 2 = 'GFP'"),
    ],
    "no-such-channel": [
        ({"folder.toml": 'channel = "DAPI"'}, "has no channel 'DAPI' but 1 = 'red', 2 = 'green', 3 = 'blue'"),
    ],
    "image-colours": [
        ({"images/a.png": None, "images/a.jpg": png(Image.new("CMYK", SHAPE[::-1]), format="JPEG")}, "CMYK colours"),
        ({"images/a.png": None, "images/a.tif": tiff(ALPHA, photometric="separated", planarconfig="contig")},
         "CMYK colours"),
    ],
    "image-coding": [
        ({"images/a.png": None, "images/a.tif": tiff(GREY, compression="jpegxl")}, "compressed by jpegxl"),
        ({"images/a.png": None, "images/a.tif": tiff((RAMP * 1j).astype(np.complex64))}, "numbers of complex64"),
    ],
    "image-not-finite": [
        ({"images/a.png": None, "images/a.tif": tiff(np.where(RAMP < 5, np.nan, RAMP).astype(np.float32))}, "5 pixels"),
    ],
    "image-hidden": [({"images/a.png": ALPHA * np.uint8([1, 1, 1, 0])}, "every pixel is transparent")],
    "image-huge": [
        ({"images/a.png": header(9000, 10100)}, "9000 x 10100 pixels, of 33,554,432 at most"),
        ({"images/a.png": header(30000, 30000)}, "900000000 pixels"),
    ],
    "label-jpeg": [
        ({"scribbles/a.png": None, "scribbles/a.jpg": png(OURS, format="JPEG")}, "scribbles/a.jpg: a JPEG"),
        ({"masks/a.png": png(BINARY, format="JPEG")}, "masks/a.png: a JPEG"),
    ],
    "label-size": [
        ({"scribbles/a.png": OURS.T}, "scribbles/a.png: 48 x 40 pixels, but its image has 40 x 48"),
        ({"masks/a.png": LABELS[::2, ::2]}, "masks/a.png: 20 x 24 pixels"),
    ],
    "label-values": [
        ({"masks/a.tif": tiff(np.where(INSTANCES, np.nan, 0).astype(np.float32))}, "236 pixels of float32"),
        ({"masks/a.tif": tiff(np.where(INSTANCES, 0.7, 0))}, "236 pixels of float64 are negative or not whole numbers"),
        ({"masks/a.tif": tiff((INSTANCES - 1).astype(np.int16))}, "1684 pixels of int16"),
        ({"scribbles/a.png": None, "scribbles/a.tif": tiff(OURS.astype(np.int64) << 40)}, "numbers up to 2803"),
        ({"masks/a.tif": tiff(np.dstack([LABELS] * 2), photometric="minisblack", planarconfig="contig")}, "2 channels"),
    ],
    "scribble-binary": [
        ({"scribbles/a.png": BINARY, "scribbles/b.png": BINARY}, "a.png: holds 0 (1,880 px), 255 (40 px); expected"),
        ({"scribbles/a.png": BINARY // 255, "scribbles/b.png": None}, "numbers so small look black in most viewers"),
    ],
    "scribble-ambiguous": [
        ({"scribbles/a.png": scribbled(0, 2, 1), "scribbles/b.png": None},
         "0 (1,840 px), 1 (40 px), 2 (40 px); numbers so small look black in most viewers; expected a file"),
        ({"scribbles/a.png": scribbled(0, 127, 255), "scribbles/b.png": None}, 'scribbles.json of this folder: {"fore'),
    ],
    "scribble-values": [({"scribbles/a.png": GREY}, "(8 px) and 243 more; expected three values")],
    "scribble-colours": [
        ({"scribbles/a.png": RGB}, "scribbles/a.png: holds #"),
        ({"scribbles/b.png": None, "scribbles/a.png": scribbled((255, 255, 255), (0, 255, 0), (255, 165, 0))},
         "holds 255 (1,840 px), #00ff00 (40 px), #ffa500 (40 px)"),
        ({"scribbles/a.png": np.where(RAMP[..., None] == 0, 0, scribbled((255,) * 3, (0, 255, 0), (255, 0, 0)))
          .astype(np.uint8)}, "expected red for foreground"),
    ],
    "scribble-mixed": [({"scribbles/b.png": scribbled(127, 0, 255)}, "b.png: holds 127 (1,840 px), 0 (40 px), 255")],
    "scribble-empty": [({"scribbles/a.png": OURS * 0 + 255}, "nothing is drawn; expected strokes")],
    "scribble-one-sided": [({"scribbles/a.png": FOREGROUND, "scribbles/b.png": FOREGROUND}, "no background in any")],
    "mask-colours": [({"masks/a.png": RGB * (INSTANCES > 0)[..., None].astype(np.uint8)}, "masks/a.png: 236 colours")],
    "mask-smooth": [({"masks/a.png": SMOOTH}, "0, 255 and 9 values between")],
    "mask-background": [
        ({"masks/a.tif": tiff(np.uint8(1 + (INSTANCES > 0)))}, "no pixel is 0, 1 on 88%, 2 on 12%; expected 0"),
        ({"masks/a.tif": tiff(np.where(RAMP < 9, 0, 1 + INSTANCES).astype(np.uint16))}, "only 0% of the pixels are 0"),
    ],
    "wrong-folder-name": [({"Mask/a.png": LABELS}, "Mask: a folder Mask/"), ({"labels/a.png": LABELS}, "labels/")],
    "wrong-place": [({"images/old/c.png": RGB}, "images/old: a folder"), ({"c.png": RGB}, "an image beside images/")],
    "unsupported-suffix": [
        ({"images/c.czi": b"x"}, "images/c.czi: a file of type .czi; expected PNG"),
        ({"images/c": b"x"}, "a file of type unknown"),
    ],
    "case-twins": [({"images/C.png": RGB // 2, "images/c.tif": tiff(GREY // 2 + 99)}, "images: C, c")],
    "odd-name": [({"images/c .png": RGB // 2}, "the name 'c '"), ({"images/-c.png": RGB // 2}, "the name '-c'")],
    "channels-left-out": [
        ({"images/a.png": None, "images/a.tif": tiff(FOUR, photometric="rgb", extrasamples=["unspecified"]),
          "folder.toml": "channel = 'RGB'"}, "'RGB' is read, 'channel 4' is not"),
        ({"images/a.png": None, "images/a.tif": tiff(ALPHA, photometric="rgb", extrasamples=["unspecified"])},
         "those after blue are empty and left out"),
    ],
    "planes-missing": [
        ({"images/a.png": None, "images/a.tif": tiff(GREY, description="ImageJ=1.54f\nimages=5\nslices=5\n",
                                                     metadata=None)}, "ImageJ description promises 5 planes, but"),
    ],
    "image-turned": [({"images/c.jpg": turned()}, "orientation 3; expected")],
    "image-tiny": [({"images/c.png": RGB[:16]}, "images/c.png: 16 x 48 pixels; expected at")],
    "image-constant": [({"images/c.png": RGB * 0 + 90}, "every pixel is 90")],
    "image-dark": [({"images/c.png": RGB // 12}, "99.9 % of the values are at most 20")],
    "image-much-larger": [({"images/c.png": np.tile(RGB, (5, 5, 1))}, "48,000 pixels, half of the images 1,920")],
    "mixed-colour": [({"images/c.png": GREY}, "1 are grey, 2 in colour (c.png)")],
    "mixed-depth": [({"images/a.png": GREY, "images/b.png": GREY // 2, "images/c.tif": tiff(RAMP.astype(np.uint16))},
                     "2 are of 8 bits, 1 of more (c.tif)")],
    "duplicate-images": [({"images/c.tif": tiff(RGB)}, "images/c.tif: the same pixels as a.png")],
    "scribble-one-class": [({"scribbles/a.png": FOREGROUND}, "scribbles/a.png: only foreground is drawn")],
    "scribble-few": [({"scribbles/a.png": np.where(RAMP % 48 > 30, IGNORE, OURS).astype(np.uint8)}, "27 pixels of")],
    "scribble-dense": [({"scribbles/a.png": np.where(OURS == IGNORE, RAMP % 3 // 2, OURS).astype(np.uint8)},
                        "100% of the image is drawn on")],
    "scribble-contradicts-mask": [
        ({"masks/a.png": LABELS * 0 + (OURS == 0)}, "100% of background strokes lie on nuclei and 100% of foreground"),
    ],
    "strokes-astray": [
        ({"scribbles/strokes.json": strokes(gone=LINE)}, "strokes on 'gone', which is not an image of this folder"),
        ({"images/c.png": RGB // 2, "scribbles/strokes.json": strokes(
            c=[Stroke(0, 9.0, ((9, 2), (9, 40))), Stroke(1, 9.0, ((9, 9), (30, 9))), Stroke(1, 3.0, ((99, 5), (99, 9)))]
        )}, "c: 1 of 3 strokes outside the image"),
    ],
    "items-left-out": [
        ({"masks/a.geojson": geojson(("tile", None, 0, 0, 30, {}), ("annotation", "Nucleus", 2, 2, 9, {}))},
         "masks/a.geojson: 1 tiles, cores or regions (a class with *)"),
        ({"masks/a.geojson": geojson(("annotation", None, 0, 0, 39, {}), *(
            ("annotation", None, 2, 2 + 9 * k, 8, {}) for k in range(3)))}, "1 areas around several nuclei (feature 1)"),
    ],
    "cells-whole": [({"masks/a.geojson": geojson(("cell", None, 2, 2, 9, {}))}, "1 cells of QuPath without their nuc")],
    "areas-nested": [
        ({"masks/a.geojson": geojson(("annotation", "Nucleus", 4, 4, 9, {}), ("annotation", "Nucleus", 2, 2, 20, {}))},
         "1 areas around another one that is much smaller (feature 2)"),
    ],
    "nuclei-hidden": [
        ({"masks/a.geojson": geojson(("annotation", "Nucleus", 2, 2, 9, {}), ("annotation", "Nucleus", 4, 4, 5, {}))},
         "1 of 2 nuclei have no pixel of their own (feature 2)"),
    ],
    "mask-binary": [({"masks/a.png": (LABELS > 0).astype(np.uint8) * 255}, "0 and 255 only, in 2 pieces")],
    "mask-empty": [({"masks/a.png": LABELS * 0}, "masks/a.png: no nucleus")],
    "mask-no-background": [
        ({"masks/a.png": np.where(RAMP > 20, 1 + RAMP % 48 // 12, 0).astype(np.uint16)}, "99% of it is labelled"),
    ],
    "mask-pieces": [({"masks/a.png": np.where(LABELS == 300, 1, LABELS).astype(np.uint16)},
                     "1 of 2 labels lie in pieces (1)")],
    "mask-merged": [
        ({"masks/a.png": np.where(RAMP < 480, (RAMP % 8 < 2) * (40 + RAMP % 48 // 8), 99 * (RAMP > 900))
          .astype(np.uint16)}, "label 99 has 1019 pixels, half of the labels 20 or fewer"),
    ],
    "mask-specks": [({"images/c.png": np.resize(RGB, (100, 100, 3)), "masks/c.png": SMALL[:100, :100] * (SMALL < 90)},
                     "labels, half of them with")],
    "hidden-file": [({"images/._a.png": b"x", "masks/Thumbs.db": b"x"}, "images/._a.png: a file of the operating system")],
    "image-deep": [({**OLD, "images/b.png": None, "images/b.tif": tiff(RAMP.astype(np.uint16))}, "1.919 to 1917.08")],
    "image-transparent": [({"images/a.png": np.dstack([RGB, np.uint8(255 * (RAMP % 4 > 0))])}, "25% of the pixels")],
    "pages-left-out": [
        ({"images/a.png": None, "images/a.tif": paged(RGB, RGB[::2, ::2], reduced=True)}, "1 smaller copies or masks"),
    ],
    "mask-renumbered": [
        ({"masks/a.tif": tiff(INSTANCES.astype(np.uint32) * 9_000_000)}, "3 labels up to 2700000000 are numbered 1 to 3"),
    ],
    "unlabelled-image": [({"images/c.png": RGB // 2}, "images/c.png: no label")],
    "mask-only": [({"images/c.png": RGB // 2, "masks/c.png": LABELS}, "images/c.png: a mask, no scribbles")],
    "scribble-encoding": [
        ({}, "scribbles: 255 = not drawn (3,680 px), 0 = background (80 px), 1 = foreground (80 px)"),
        ({"scribbles/a.png": scribbled(0, 2, 1), "scribbles/b.png": scribbled(0, 2, 1), "scribbles.json": {
            "foreground": 1, "background": 2}}, "0 = not drawn (3,680 px), 1 = foreground (80 px), 2 = background"),
    ],
    "label-rgb": [({"scribbles/a.png": np.dstack([OURS] * 3)}, "scribbles/a.png: RGB without colours")],
    "label-looks-black": [({"masks/a.png": np.minimum(LABELS, 3)}, "masks/a.png: numbers up to 3. Small")],
    "nothing-held-out": [
        ({}, "no image is named for validation or test"),
        ({"masks/a.png": LABELS, "splits.json": {"test": ["a"]}}, "no image is named for validation;"),
    ],
}  # fmt: skip
EXAMPLES = [(code, k) for code, examples in CASES.items() for k in range(len(examples))]
GOOD = {
    "images/a.png": RGB,
    "images/b.png": RGB[::-1],
    "scribbles/a.png": OURS,
    "scribbles/b.png": OURS,
}


def bad_folder(root, files):
    """A good folder with these files, or a folder of nothing but these."""
    if files == []:
        return root / "nothing"
    files = files[0] if isinstance(files, list) else GOOD | files
    written = {
        name: content
        for name, content in files.items()
        if content is not None and not callable(content)
    }
    root.mkdir(exist_ok=True)
    folder = folder_of(root / "own", written)
    for name, write in files.items():
        if callable(write):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write(folder / name)
    return folder


def prepare(folder):
    """All that training does before its first step, and the reading of every image."""
    config = RunConfig(str(folder), "s2l", profile="smoke")
    images = images_of(config, split_of(config).train)
    TrainingSet(images, scribbles_of(config, images), config)
    return load_dataset(str(folder))


def codes(found, level):
    return {finding.code for finding in found if finding.level == level}


# what such folders cannot help but be as well
BESIDE = {
    "image-constant": {"mixed-colour"},
    "planes-missing": {"mixed-colour"},
    "mask-renumbered": {"scribble-contradicts-mask"},
    "case-twins": {"mixed-colour"},
    "mask-specks": {"mask-pieces"},
    "mask-no-background": {"scribble-contradicts-mask", "mask-pieces"},
    "mask-empty": {"scribble-contradicts-mask"},
    "items-left-out": {"scribble-contradicts-mask"},
    "cells-whole": {"scribble-contradicts-mask"},
    "nuclei-hidden": {"scribble-contradicts-mask"},
    "areas-nested": {"scribble-contradicts-mask"},
    "mask-binary": {"scribble-contradicts-mask"},
    "mask-pieces": {"scribble-contradicts-mask"},
    "mask-merged": {"scribble-contradicts-mask"},
    "label-looks-black": {"scribble-contradicts-mask"},
    "nothing-held-out": {"scribble-contradicts-mask"},
}


@pytest.mark.parametrize(("code", "example"), EXAMPLES, ids=[f"{code}-{k}" for code, k in EXAMPLES])
def test_every_kind_is_found_and_explained(tmp_path, code, example):
    files, message = CASES[code][example]
    folder = bad_folder(tmp_path, files)
    found = check_folder(folder)
    said = [str(finding) for finding in found if finding.code == code]
    assert any(message in text for text in said), "\n".join(map(str, found))
    assert all(str(folder) in text for text in said)
    if FAULT_KINDS[code].level == "error":
        assert codes(found, "error") == {code}
        with pytest.raises(S2LError) as caught:
            prepare(folder)
        assert caught.type is not S2LError or code in (
            "not-a-folder",
            "scribble-empty",
            "scribble-one-sided",
        )
    else:
        assert codes(found, "error") == set() and codes(found, "warning") - {code} <= BESIDE.get(
            code, set()
        )
        assert prepare(folder)


def test_a_good_folder_has_nothing_but_notes(tmp_path):
    folder = bad_folder(tmp_path, {})
    assert [finding.code for finding in check_folder(folder)] == [
        "nothing-held-out",
        "scribble-encoding",
    ]
    assert len(prepare(folder)) == 2


def test_every_kind_has_its_example_and_its_row():
    """Codes, levels and order of the table are those of the code."""
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (\w+) \|(.*)\|$", (ROOT / "docs/bad_inputs.md").read_text(), re.M
    )
    assert [(code, level) for code, level, _ in rows] == [
        (code, kind[0]) for code, kind in FAULT_KINDS.items()
    ]
    assert all(
        len(cells.split(" | ")) == 3 and all(map(str.strip, cells.split(" | ")))
        for _, _, cells in rows
    )
    assert (
        set(CASES) == set(FAULT_KINDS)
        and len(FAULT_KINDS) >= 30
        and list(LEVELS) == ["error", "warning", "note"]
    )


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """Root may read all, so the system's answer is made up."""
    folder = bad_folder(tmp_path, {})

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    found = [finding for finding in check_folder(folder) if finding.code == "no-access"]
    assert {finding.file.name for finding in found} == {"a.png", "b.png"}
    assert "may not be read (Permission denied)" in str(found[0])


def test_all_faults_are_told_at_once(tmp_path):
    files = {
        "images/a.png": b"x",
        "images/c.png": b"",
        "scribbles/b.png": OURS[1:],
        "masks/b.png": LABELS.T,
    }
    found = check_folder(bad_folder(tmp_path, files))
    wrong = [(finding.code, finding.file.name) for finding in found if finding.level == "error"]
    assert wrong == [("empty-file", "c.png"), ("label-size", "b.png"), ("label-size", "b.png"),
                     ("unreadable-file", "a.png")]  # fmt: skip
    assert found == sorted(found, key=lambda finding: list(LEVELS).index(finding.level))


def test_the_report_is_short_and_says_what_to_do(tmp_path):
    folder = tmp_path / "own"
    found = [Finding("image-dark", folder / f"images/{k}.png", f"dark {k}") for k in range(9)]
    text = report(
        folder,
        [*found, Finding("hidden-file", folder / "images/.x", "a file of the operating system")],
    )
    assert (
        "warning: image-dark\n  images/0.png: dark 0\n" in text
        and "... and 6 more" in text
        and "dark 3" not in text
    )
    assert (
        "note: hidden-file\n  images/.x: a file of the operating system\n  It is skipped." in text
    )
    assert text.endswith("0 errors, 9 warnings, 1 note. Each is explained in docs/bad_inputs.md.")


def test_the_check_holds_one_image_at_a_time(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "own", {f"images/{k}.png": np.roll(RGB, k, 0) for k in range(9)})
    alive, most = [], []

    class Tracked(np.ndarray):
        def __del__(self):
            if getattr(self, "own", False):  # a view of it has no such mark
                alive.pop()

    read = input_checks.read_image

    def tracked(path, channel):
        image, remarks = read(path, channel)
        image = image.view(Tracked)
        image.own = True
        alive.append(1)
        most.append(len(alive))
        return image, remarks

    monkeypatch.setattr(input_checks, "read_image", tracked)
    check_folder(folder)
    assert len(most) == 9 and max(most) <= 2


DAMAGED = {
    "images/a.png": png(RGB), "images/c.tif": tiff(RGB), "images/d.tif": tiff(LABELS, compression="zlib"),
    "scribbles/a.png": png(OURS), "scribbles/b.zip": imagej(), "masks/a.tif": tiff(LABELS), "masks/b.png": png(LABELS),
    "scribbles.json": b'{"foreground": 1, "background": [0, "red"]}', "splits.json": b'{"train": ["b"], "test": []}',
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_never_raises_and_is_never_read_unseen(tmp_path, name):
    rng = np.random.default_rng(seed_for(0, "damage", name))
    for k in range(12):
        data = bytearray(DAMAGED[name])
        for place in rng.integers(len(data), size=3):
            data[place] = rng.integers(256)
        if k % 2:
            del data[rng.integers(len(data)) :]
        files = {"scribbles/b.png": None} if name == "scribbles/b.zip" else {}
        found = check_folder(bad_folder(tmp_path / str(k), files | {name: bytes(data)}))
        try:
            load_dataset(str(tmp_path / str(k) / "own"))
        except S2LError:
            assert codes(found, "error")


def test_every_finding_has_somewhere_to_go():
    for code, kind in FAULT_KINDS.items():
        assert kind.level in LEVELS and kind.remedy.endswith((".", "?")), code
        assert kind.expected or kind.level == "note", code
    assert dataclasses.fields(Finding)[0].name == "code" and own_splits(ROOT).parent == ROOT
