"""One decoder: the numbers as they were written, or a refusal that names the coding."""

import io
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import raises_fault
from s2l_images.faults import Fault
from s2l_images.reading.decoding import read_pixels
from s2l_images.reading.label_images import read_label_mask, read_values
from s2l_images.reading.pictures import raw_channels, read_image

SHAPE = (23, 31)
RAMP = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
TYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "?")
CODINGS = (None, "lzw", "packbits", "zlib", "zstd", "lzma")
LAYOUTS = {"strips": {"rowsperstrip": 7}, "tiles": {"tile": (16, 16)}, "one strip": {}}

NUCLEI = np.zeros(SHAPE, int)  # no symmetry, so that every turn shows
NUCLEI[2:8, 3:9], NUCLEI[12:20, 5:9], NUCLEI[12:20, 9:14], NUCLEI[3:6, 20:30] = 1, 2, 3, 5


def filled(kind):
    """Numbers (H, W) over the whole range of a type, smooth in places and rough in others."""
    kind = np.dtype(kind)
    if kind.kind == "b":
        return RAMP % 7 < 3
    if kind.kind == "f":
        return ((RAMP * 37 % 1999) / 7 - 90).astype(kind)
    most = np.iinfo(kind)
    steps = RAMP.astype(np.uint64) * np.uint64(2**64 // RAMP.size)
    whole = (steps >> np.uint64(64 - 8 * kind.itemsize)).astype(f"u{kind.itemsize}")
    return (whole ^ whole.dtype.type(most.max // 3)).view(kind)


def saved(path, array, **options):
    """Writes a TIFF; False where tifffile itself refuses such a one."""
    try:
        tifffile.imwrite(path, array, metadata=None, **options)
    except (ValueError, NotImplementedError, TypeError):
        path.unlink(missing_ok=True)
        return False
    return True


def shown(stored, kind, photometric):
    """What `read_image` should make of numbers, slowly, in 8 bits."""
    values = stored.astype(np.float64)
    if photometric == "miniswhite":
        values = (
            1 if kind == "?" else np.iinfo(kind).max if kind[0] == "u" else values.max()
        ) - values
    if kind == "?":
        return values * 255
    if kind == "u1":
        return values
    low, high = np.percentile(values, (0.1, 99.9))
    return np.clip((values - low) / (high - low), 0, 1) * 255


@pytest.mark.parametrize("kind", TYPES)
def test_grey_in_every_coding(tmp_path, kind):
    """Type x byte order x compression x photometric x predictor x layout: the numbers as written."""
    stored, path, tried = filled(kind), tmp_path / "a.tif", 0
    for order, coding, photometric, predictor, layout in product(
        "<>", CODINGS, ("minisblack", "miniswhite"), (None, 2, 3), LAYOUTS.values()
    ):
        options = {"compression": coding, "predictor": predictor} | layout
        if not saved(path, stored, byteorder=order, photometric=photometric, **options):
            continue
        where = (order, coding, photometric, predictor, layout)
        if kind == "?" and predictor:  # differences of bits: no two programs agree on them
            with raises_fault("image-coding"):
                read_pixels(path)
            continue
        pixels = read_pixels(path)
        assert pixels.values.dtype == stored.dtype and pixels.values.dtype.isnative, where
        np.testing.assert_array_equal(pixels.values[..., 0], stored, str(where))
        assert pixels.white_is_zero == (photometric == "miniswhite")

        image, _ = read_image(path)
        expected = shown(stored, kind, photometric)
        assert np.abs(image - expected[..., None]).max() <= 1, where
        np.testing.assert_array_equal(raw_channels(path).values[..., 0], stored)
        tried += 1
    assert tried >= 36, tried


@pytest.mark.parametrize("kind", TYPES)
def test_masks_in_every_coding(tmp_path, kind):
    """The same for labels: whatever they are shown as, they are the numbers."""
    truth = (NUCLEI > 0).astype(int) if kind == "?" else NUCLEI
    stored, path, tried = truth.astype(kind), tmp_path / "a.tif", 0
    for order, coding, photometric, predictor, layout in product(
        "<>", CODINGS, ("minisblack", "miniswhite"), (None, 2, 3), LAYOUTS.values()
    ):
        options = {"compression": coding, "predictor": predictor} | layout
        if not saved(path, stored, byteorder=order, photometric=photometric, **options):
            continue
        if kind == "?" and predictor:
            continue
        found, _ = read_label_mask(path, SHAPE)
        if kind == "?":  # one value is taken apart into its pieces
            found = found > 0
        where = (order, coding, photometric, predictor, layout)
        np.testing.assert_array_equal(found, truth, str(where))
        np.testing.assert_array_equal(read_values(path), truth, str(where))
        tried += 1
    assert tried >= 36, tried


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i2", "f4"])
def test_colour_in_every_coding(tmp_path, kind):
    """Interleaved or plane by plane, with and without alpha."""
    grey, path, tried = filled(kind), tmp_path / "a.tif", 0
    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=2)
    highest = 1 if kind[0] == "f" else np.iinfo(kind).max
    alpha = np.where(RAMP % 5, highest, 0).astype(kind)
    for order, coding, planes, predictor, layout, extra in product(
        "<>", CODINGS, ("contig", "separate"), (None, 2, 3), LAYOUTS.values(), (False, True)
    ):
        stored = np.dstack([colour, alpha]) if extra else colour
        stored = np.moveaxis(stored, 2, 0) if planes == "separate" else stored
        options = {"compression": coding, "predictor": predictor, "planarconfig": planes} | layout
        if extra:
            options["extrasamples"] = ["unassalpha"]
        if not saved(path, stored, byteorder=order, photometric="rgb", **options):
            continue
        where = (order, coding, planes, predictor, layout, extra)
        pixels = read_pixels(path)
        if extra and kind in ("i2", "f4"):
            assert pixels.colour and pixels.channels[:3] == ("red", "green", "blue")
        np.testing.assert_array_equal(pixels.values, colour, str(where))
        assert (pixels.opacity is not None) == extra, where
        if extra:
            np.testing.assert_array_equal(pixels.opacity == 0, alpha == 0, str(where))
        tried += 1
    assert tried >= 36, tried


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_palettes(tmp_path, kind):
    """Images are in the palette's colours, labels are its numbers."""
    colours = np.arange(3 * 256 ** np.dtype(kind).itemsize, dtype=np.uint64).reshape(3, -1) * 40503
    colours = (colours % 65536).astype(np.uint16)
    path, tried = tmp_path / "a.tif", 0
    for order, coding, layout in product("<>", CODINGS, LAYOUTS.values()):
        options = {"photometric": "palette", "colormap": colours, "compression": coding} | layout
        if not saved(path, NUCLEI.astype(kind), byteorder=order, **options):
            continue
        image, _ = read_image(path)
        np.testing.assert_array_equal(image, (colours.T >> 8)[NUCLEI])
        np.testing.assert_array_equal(read_label_mask(path, SHAPE)[0], NUCLEI)
        tried += 1
    assert tried >= 18, tried


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_turns_images_and_masks_alike(tmp_path, orientation):
    """8 and 16 bits, compressed or not, TIFF and PNG; the TIFF specification says where row 0 is."""
    path, turn = tmp_path / "a.tif", TURNS[orientation]
    for kind, coding in product(("u1", "u2", "f4"), CODINGS):
        stored = NUCLEI.astype(kind)
        saved(path, stored, compression=coding, extratags=[(274, "H", 1, orientation, True)])
        upright = turn(stored)
        np.testing.assert_array_equal(read_pixels(path).values[..., 0], upright)
        np.testing.assert_array_equal(read_label_mask(path, upright.shape)[0], upright)
        image, remarks = read_image(path)
        assert (
            image.shape[:2] == upright.shape
            and ((image[..., 0] > image.min()) == (upright > 0)).all()
        )
        assert ("image-turned" in {one.code for one in remarks}) == (orientation > 1)

    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(NUCLEI.astype(np.uint8)).save(tmp_path / "a.png", exif=exif)
    upright = turn(NUCLEI)
    np.testing.assert_array_equal(read_label_mask(tmp_path / "a.png", upright.shape)[0], upright)


def test_few_bits(tmp_path):
    """1, 2 and 4 bits: as numbers in labels, over the whole range in images; also of faxes."""
    for bits, coding in product((1, 2, 4), (None, "zlib", "lzw")):
        stored, path = (NUCLEI % 2**bits).astype(np.uint8), tmp_path / "a.tif"
        if not saved(path, stored, bitspersample=bits, compression=coding):
            packed = Image.fromarray(stored > 0)
            packed.save(path, compression="group4")
            stored = (stored > 0).astype(np.uint8)
            bits = 1
        np.testing.assert_array_equal(read_values(path), stored)
        np.testing.assert_allclose(
            read_image(path)[0][..., 0], stored * (255 / (2**bits - 1)), atol=1
        )
    for coding in ("group3", "group4", "tiff_ccitt"):
        Image.fromarray(NUCLEI > 0).save(tmp_path / "b.tif", compression=coding)
        np.testing.assert_array_equal(read_values(tmp_path / "b.tif"), NUCLEI > 0)
    for bits in (1, 2, 4, 8):
        picture = Image.fromarray((NUCLEI % 2**bits).astype(np.uint8)).convert("P")
        picture.putpalette(list(range(256)) * 3)
        picture.save(tmp_path / "c.png", bits=bits)
        found = read_label_mask(tmp_path / "c.png", SHAPE)[0]
        assert ((found > 0) == (NUCLEI % 2**bits > 0)).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(tmp_path, channels):
    """Grey and colour, with and without alpha: Pillow would drop eight bits of colours."""
    import imagecodecs

    grey = filled("u2")
    opaque = np.where(RAMP % 5, 65535, 0).astype(np.uint16)
    bands = {1: [grey], 2: [grey, opaque], 3: [grey, grey.T.reshape(SHAPE), grey[::-1]]}
    bands[4] = [*bands[3], opaque]
    stored = np.dstack(bands[channels])
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(stored[..., 0] if channels == 1 else stored))
    pixels = read_pixels(path)
    colours = 3 if channels > 2 else 1
    np.testing.assert_array_equal(pixels.values, stored[..., :colours])
    assert (pixels.opacity is not None) == (channels in (2, 4)) and pixels.bits == 16


def test_labels_saved_as_colour_of_16_bits(tmp_path):
    import imagecodecs

    large = NUCLEI.astype(np.uint16) * 300
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.dstack([large] * 3)))
    np.testing.assert_array_equal(read_label_mask(tmp_path / "a.png", SHAPE)[0], large)


# What loses pixels, or is not read

LOSSY = ("jpeg", "jpeg2000", "jpegxl", "webp", "png", "jpegxr", "lerc")


@pytest.mark.parametrize("coding", LOSSY)
def test_codings_that_are_refused_are_named(tmp_path, coding):
    path = tmp_path / "a.tif"
    colour = np.dstack([NUCLEI.astype(np.uint8)] * 3)
    assert saved(path, colour, photometric="rgb", compression=coding)
    with raises_fault("label-jpeg", "image-coding", file="a.tif") as refused:
        read_label_mask(path, SHAPE)
    assert coding in str(refused.value).lower()
    if coding == "jpeg":
        smooth = np.repeat(np.linspace(0, 250, 32).astype(np.uint8)[None], 32, axis=0)
        colour = np.dstack([smooth, smooth.T, smooth[:, ::-1]])
        tifffile.imwrite(path, colour, photometric="rgb", compression="jpeg")
        assert np.abs(read_image(path)[0].astype(int) - colour).max() < 12
        Image.fromarray(colour).save(path, compression="jpeg", quality=95)  # in YCbCr
        assert np.abs(read_image(path)[0].astype(int) - colour).max() < 12
    else:
        with raises_fault("image-coding"):
            read_image(path)


def test_strips_that_are_missing_are_no_noughts(tmp_path):
    """Cut short anywhere, compressed or not, a file is refused: decoders would fill the rest."""
    stored, path = filled("u2"), tmp_path / "a.tif"
    for coding, layout in product(CODINGS, LAYOUTS.values()):
        saved(path, stored, compression=coding, **layout)
        whole = path.read_bytes()
        for share in (0.5, 0.9, 0.99):
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(Fault):
                read_image(path)
        with tifffile.TiffFile(io.BytesIO(whole)) as tiff:
            tag = tiff.pages[0].tags["TileByteCounts" if "tile" in layout else "StripByteCounts"]
            place = tag.valueoffset
        holed = bytearray(whole)
        holed[place : place + tag.dtype.value // 2 + 1] = bytes(tag.dtype.value // 2 + 1)
        path.write_bytes(holed)
        with pytest.raises(Fault):
            read_image(path)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_a_stack_that_was_cut_short_is_no_image(tmp_path, big, order):
    """Its first page is whole, and the pages after it are gone."""
    path = tmp_path / "a.tif"
    stacked = np.stack([filled("u2")] * 3)
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=order) as writer:
        for plane in stacked:
            writer.write(plane, photometric="minisblack", metadata=None, contiguous=False)
    whole = path.read_bytes()
    with raises_fault("stack"):
        read_image(path)
    path.write_bytes(whole[: len(whole) // 3 - 40])
    with raises_fault("unreadable-file"):
        read_image(path)


# Channels

STAINS = [np.roll(filled("u2"), k, 0) for k in range(3)]


def hyperstack(path, **options):
    tifffile.imwrite(path, np.stack(STAINS), imagej=True, **options)


@pytest.mark.parametrize("form", ["imagej", "imagej-one-page", "ome", "interleaved", "separate"])
def test_channels_are_listed_and_chosen(tmp_path, form):
    path, names = tmp_path / "a.tif", ("DAPI", "GFP", "red dye")
    if form.startswith("imagej"):
        hyperstack(path, metadata={"axes": "CYX", "Labels": list(names)})
        if form == "imagej-one-page":  # as ImageJ saves stacks: the other planes have no pages
            with tifffile.TiffFile(path) as tiff:
                first = tiff.pages[0]
                end = first.offset + 2 + 12 * len(first.tags)
            data = bytearray(path.read_bytes())
            data[end : end + 4] = bytes(4)
            path.write_bytes(data)
    elif form == "ome":
        about = {"axes": "CYX", "Channel": {"Name": list(names)}}
        tifffile.imwrite(path, np.stack(STAINS), ome=True, photometric="minisblack", metadata=about)
    else:
        names = ("channel 1", "channel 2", "channel 3")
        contig = form == "interleaved"
        options = {"planarconfig": "contig" if contig else "separate", "photometric": "minisblack"}
        stored = np.dstack(STAINS) if contig else np.stack(STAINS)
        tifffile.imwrite(path, stored, metadata=None, **options)

    measured = raw_channels(path)
    assert tuple(measured.channels) == names
    np.testing.assert_array_equal(measured.values, np.dstack(STAINS))
    listing = ", ".join(f"{k} = {name!r}" for k, name in enumerate(names, 1))
    with raises_fault("image-channels", file=path.name, naming=listing):
        read_image(path)
    for k, name in enumerate(names):
        for choice in (name, name.upper(), k + 1):
            image, remarks = read_image(path, choice)
            assert np.abs(image - shown(STAINS[k], "u2", "")[..., None]).max() <= 1
            assert "channels-left-out" in {one.code for one in remarks}
    for choice in ("DAPI 2", 4):
        with raises_fault("no-such-channel"):
            read_image(path, choice)
    with raises_fault("label-values"):
        read_label_mask(path, SHAPE)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", "unspecified"])
def test_a_stain_is_not_taken_for_alpha(tmp_path, kind, extra):
    path = tmp_path / "a.tif"
    stain = filled(kind) * (RAMP % 4 > 2)  # dark almost everywhere, as DAPI is
    stored = np.dstack([filled(kind)] * 3 + [stain])
    saved(path, stored, photometric="rgb", extrasamples=[extra])
    with raises_fault("image-channels", naming="4 = 'channel 4'"):
        read_image(path)
    image, remarks = read_image(path, 4)
    assert ((image[..., 0] > image.min()) <= (stain > stain.min())).all()
    image, remarks = read_image(path, "RGB")
    assert {one.code for one in remarks} >= {"channels-left-out"}
    np.testing.assert_array_equal(raw_channels(path).values, stored)


def test_a_stain_in_the_alpha_of_a_png(tmp_path):
    stored = np.dstack([filled("u1")] * 3 + [filled("u1") // 2])
    Image.fromarray(stored).save(tmp_path / "a.png")
    with raises_fault("image-channels"):
        read_image(tmp_path / "a.png")


# What ImageJ and OME say beside the pixels


def test_signed_labels_that_imagej_saved_again(tmp_path):
    """ImageJ adds 32768 to signed numbers and says so in its description."""
    path = tmp_path / "a.tif"
    said = "ImageJ=1.53t\ncf=0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\n"
    stored = (NUCLEI + 32768).astype(np.uint16)
    tifffile.imwrite(path, stored, description=said, metadata=None, byteorder=">")
    np.testing.assert_array_equal(read_label_mask(path, SHAPE)[0], NUCLEI)
    np.testing.assert_array_equal(read_values(path), NUCLEI)
    np.testing.assert_array_equal(raw_channels(path).values[..., 0], NUCLEI)


def test_a_calibration_of_imagej_gives_its_values(tmp_path):
    said = "ImageJ=1.53t\ncf=0\nc0=-1.0\nc1=0.5\nvunit=OD\n"
    tifffile.imwrite(tmp_path / "a.tif", filled("u2"), description=said, metadata=None)
    values = raw_channels(tmp_path / "a.tif").values[..., 0]
    np.testing.assert_allclose(values, filled("u2") * 0.5 - 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imagej": True, "resolution": (1 / 0.65, 1 / 0.65), "metadata": {"unit": "um"}}, 0.65),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "micron"}}, 0.5),
        ({"imagej": True, "resolution": (0.004, 0.004), "metadata": {"unit": "nm"}}, 0.25),
        ({"imagej": True, "resolution": (2000, 2000), "metadata": {"unit": "mm"}}, 0.5),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True}, None),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3}}, 0.3),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 300, "PhysicalSizeXUnit": "nm",
                                    "PhysicalSizeY": 300, "PhysicalSizeYUnit": "nm"}}, 0.3),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.9}}, None),
        ({"resolution": (20000, 20000), "resolutionunit": "centimeter", "metadata": None}, 0.5),
        ({"resolution": (50800, 50800), "resolutionunit": "inch", "metadata": None}, 0.5),
        ({"resolution": (72, 72), "resolutionunit": "inch", "metadata": None}, None),
        ({"resolution": (300, 300), "resolutionunit": "inch", "metadata": None}, None),
        ({"resolution": (2, 2), "resolutionunit": "none", "metadata": None}, None),
        ({"metadata": None}, None),
    ],
)  # fmt: skip
def test_the_size_of_a_pixel(tmp_path, options, expected):
    tifffile.imwrite(tmp_path / "a.tif", filled("u2"), **options)
    measured = raw_channels(tmp_path / "a.tif")
    assert measured.pixel_size == (expected and pytest.approx(expected, rel=1e-4))
    assert measured.unit == ("um" if expected else "")


def test_half_as_bright_is_half_the_number(tmp_path):
    for name, values in (("a", filled("u2")), ("b", filled("u2") // 2)):
        tifffile.imwrite(tmp_path / f"{name}.tif", values)
    a, b = (raw_channels(tmp_path / f"{name}.tif").values for name in "ab")
    assert b.mean() == pytest.approx(a.mean() / 2, rel=1e-3)


# Labels without an end


@pytest.mark.parametrize("kind", ["u4", "i4", "i8", "u8", "f8"])
def test_large_labels_are_numbered_anew(tmp_path, kind):
    """Order is kept, and memory follows the pixels."""
    ids = np.array([0, 2**31 - 5, 2**31 - 1, 0, 0, 2**24 + 1])
    if kind in ("i8", "u8", "f8"):
        ids = ids * 1000
    tifffile.imwrite(tmp_path / "a.tif", ids[NUCLEI].astype(kind))
    order = np.array([0, 2, 3, 0, 0, 1])
    found, remarks = read_label_mask(tmp_path / "a.tif", SHAPE)
    np.testing.assert_array_equal(found, order[NUCLEI])
    assert [one.code for one in remarks] == ["mask-renumbered"]
    np.save(tmp_path / "a.npy", ids[NUCLEI].astype(kind))
    np.testing.assert_array_equal(read_label_mask(tmp_path / "a.npy", SHAPE)[0], order[NUCLEI])


def test_images_of_large_numbers_keep_their_differences(tmp_path):
    """Single precision would round numbers near 2**31 to multiples of 128."""
    tifffile.imwrite(tmp_path / "a.tif", (filled("u1").astype(np.uint32) + 2**31))
    expected = shown(filled("u1"), "u2", "")
    assert np.abs(read_image(tmp_path / "a.tif")[0][..., 0] - expected).max() <= 1


def test_ilastik_counts_from_one(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, (1 + (NUCLEI == 1)).astype(np.uint8))
    with raises_fault("mask-background", file="a.tif"):
        read_label_mask(path, SHAPE)
    np.testing.assert_array_equal(read_label_mask(path, SHAPE, 1)[0] > 0, NUCLEI == 1)
    assert (read_label_mask(path, SHAPE, 0)[0] > 0).all()
