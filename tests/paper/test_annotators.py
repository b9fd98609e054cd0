"""Scribbles: rendering against brute force, what the annotator promises, the skeleton rule,
checks and files.
"""

import bz2
import itertools
import json
from dataclasses import replace
from fractions import Fraction

import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from conftest import ROOT, script
from s2l_core.config import IGNORE, S2LError, digest, seed_for
from s2l_core.profiles import REAL
from s2l_images.strokes import Stroke, covered, read_strokes, render, write_strokes
from s2l_paper import paths
from s2l_paper.scribbles.annotators import SimulatedAnnotator, strokes_of
from s2l_paper.scribbles.look_alikes import LONGEST, lines_through, look_alikes
from s2l_paper.scribbles.shipped import joined, read_table, shipped_strokes, within, write_table
from s2l_paper.scribbles.skeletons import skeleton_scribbles, skeleton_strokes

maker = script("data/make_scribbles.py")
ATTENTIVE = ("attentive-0", "attentive-1", "attentive-2")
ANNOTATORS = (0, 1, 2, "skeleton")


def nuclei(shape, count, seed, largest=12):
    """Random ellipses, some touching, some at the border, labels with gaps;
    the later one gives way.
    """
    rng = np.random.default_rng(seed)
    instances = np.zeros(shape, np.int32)
    for k in range(count):
        (y, x), (a, b), angle = (
            rng.uniform(0, shape),
            rng.uniform(0.6, largest, 2),
            rng.uniform(0, np.pi),
        )
        top, left = int(max(y - largest, 0)), int(max(x - largest, 0))
        crop = instances[top : int(y + largest) + 2, left : int(x + largest) + 2]
        rows, columns = np.indices(crop.shape)
        rows, columns = rows + top - y, columns + left - x
        u = rows * np.cos(angle) + columns * np.sin(angle)
        v = columns * np.cos(angle) - rows * np.sin(angle)
        crop[((u / a) ** 2 + (v / b) ** 2 <= 1) & (crop == 0)] = 3 * k + 1
    return instances


def assert_annotator_keeps_promises(instances, strokes, budget):
    labels = np.unique(instances[instances > 0])
    clear = (
        ndimage.distance_transform_edt(instances == 0)
        if len(labels)
        else np.full(instances.shape, np.inf)
    )
    touched = []
    for stroke in strokes:
        pixels = covered(stroke, instances.shape)
        assert len(pixels[0]), "a stroke without a pixel"
        assert 1 <= stroke.width <= 3
        if stroke.label == 1:
            (label,) = np.unique(instances[pixels])
            touched.append(label)
        else:
            assert clear[pixels].min() >= 2
    assert 0 not in touched
    assert len(touched) == len(set(touched)) == int(np.ceil(Fraction(str(budget)) * len(labels)))
    assert len(strokes) - len(touched) <= max(len(touched), 1)


def border(labels):
    return np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])


# rendering


def covered_by_definition(stroke, shape):
    """The docstring's rule in exact arithmetic, pixel by pixel."""
    points = [tuple(map(Fraction, point)) for point in stroke.points]
    found = np.zeros(shape, bool)
    for row, column in np.ndindex(*shape):
        for (y0, x0), (y1, x1) in zip(points, points[1:] or points, strict=False):
            dy, dx, y, x = y1 - y0, x1 - x0, row - y0, column - x0
            t = min(max((y * dy + x * dx) / ((dy * dy + dx * dx) or 1), 0), 1)
            found[row, column] |= (y - t * dy) ** 2 + (x - t * dx) ** 2 <= (
                Fraction(stroke.width) / 2
            ) ** 2
    return found


quarters = st.integers(-12, 40).map(lambda n: n / 4)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(quarters, quarters), min_size=1, max_size=4),
    st.integers(1, 16).map(lambda n: n / 4),
)
def test_render_is_exact(points, width):
    stroke = Stroke(1, width, tuple(points))
    assert np.array_equal(render([stroke], (7, 8)) == 1, covered_by_definition(stroke, (7, 8)))


@pytest.mark.parametrize(
    ("stroke", "expected"),
    [
        (Stroke(1, 1.0, ((2.0, 2.0),)), {(2, 2)}),
        (Stroke(1, 2.0, ((2.0, 2.0),)), {(2, 2), (1, 2), (3, 2), (2, 1), (2, 3)}),
        (Stroke(1, 1.0, ((1.0, 1.0), (3.0, 3.0))), {(1, 1), (2, 2), (3, 3)}),
        (Stroke(1, 1.0, ((1.5, 1.0), (1.5, 2.0))), {(1, 1), (1, 2), (2, 1), (2, 2)}),
        (Stroke(1, 1.0, ((0.5, 0.5),)), set()),
        (Stroke(1, 1.0, ((-9.0, 2.0), (-9.0, 4.0))), set()),
    ],
    ids=["dot", "plus", "diagonal", "between-rows", "between-pixels", "outside"],
)
def test_render_known_pixels(stroke, expected):
    assert set(zip(*np.nonzero(render([stroke], (5, 5)) == 1), strict=True)) == expected


def test_later_stroke_wins_and_nothing_is_ignore():
    across, down = Stroke(0, 1.0, ((2, 0), (2, 4))), Stroke(1, 1.0, ((0, 2), (4, 2)))
    assert render([across, down], (5, 5))[2, 2] == 1
    assert render([down, across], (5, 5))[2, 2] == 0
    assert (render([], (3, 4)) == IGNORE).all() and render([], (3, 4)).dtype == np.uint8


# the simulated annotator


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0]))
def test_annotator_keeps_its_promises(seed, count, budget):
    rng = np.random.default_rng(seed)
    instances = nuclei(rng.integers(3, 120, 2), count, seed, largest=rng.choice([2, 12, 40]))
    strokes = SimulatedAnnotator(seed, budget).strokes(instances, key=str(seed))
    assert_annotator_keeps_promises(instances, strokes, budget)


def test_budgets_are_nested_and_met():
    instances = nuclei((200, 220), 30, 1)
    sets = [
        SimulatedAnnotator(4, budget).strokes(instances, "x") for budget in (0.1, 0.3, 0.5, 1.0)
    ]
    for small, large in zip(sets, sets[1:], strict=False):
        assert large[: len(small)] == small and len(large) > len(small)
    labels = len(np.unique(instances)) - 1
    assert [sum(s.label for s in strokes) for strokes in sets] == [
        -(-labels * n // 10) for n in (1, 3, 5, 10)
    ]


def test_same_seed_same_strokes_other_seed_or_image_others():
    instances = nuclei((120, 120), 12, 3)
    draw = SimulatedAnnotator(0).strokes
    assert draw(instances, "a") == SimulatedAnnotator(0).strokes(instances, "a")
    assert draw(instances, "a") != draw(instances, "b")
    assert draw(instances, "a") != SimulatedAnnotator(1).strokes(instances, "a")
    assert np.array_equal(
        SimulatedAnnotator(0).draw(instances, "a"), render(draw(instances, "a"), instances.shape)
    )


@pytest.mark.parametrize("seed", range(8))
def test_background_reaches_the_border_and_comes_close_to_nuclei(seed):
    instances = nuclei((180, 200), 14, seed)
    labels = SimulatedAnnotator(seed, 0.5).draw(instances)
    assert (border(labels) == 0).any()
    clear = ndimage.distance_transform_edt(instances == 0)[labels == 0]
    assert (clear < 5).mean() > 0.1 and clear.max() > 8


def test_a_stroke_runs_along_most_of_a_nucleus():
    rows, columns = np.mgrid[:80, :100]
    instances = (((rows - 40) / 9) ** 2 + ((columns - 50) / 25) ** 2 <= 1).astype(np.int32)
    lengths = []
    for seed in range(20):
        columns = np.nonzero(SimulatedAnnotator(seed).draw(instances) == 1)[1]
        lengths.append(np.ptp(columns) + 1)
        assert 1 <= columns.min() - 25 <= 12 and 1 <= 75 - columns.max() <= 12
    assert np.mean(lengths) > 0.7 * 51


@pytest.mark.parametrize(
    "pixels", [[(4, 4)], [(4, 4), (4, 5)], [(0, 0)], [(4, 4), (5, 5), (6, 6)], [(2, 2), (9, 30)]]
)
def test_tiny_and_broken_nuclei_get_a_stroke(pixels):
    instances = np.zeros((12, 34), np.int32)
    instances[tuple(np.transpose(pixels))] = 7
    assert_annotator_keeps_promises(instances, SimulatedAnnotator(0).strokes(instances), 0.3)


def test_images_without_nuclei_or_without_background():
    (stroke,) = SimulatedAnnotator(0).strokes(np.zeros((40, 50), np.int32))
    assert stroke.label == 0 and (border(render([stroke], (40, 50))) == 0).any()
    (stroke,) = SimulatedAnnotator(0).strokes(np.full((40, 50), 2, np.int32))
    assert stroke.label == 1
    assert skeleton_strokes(np.zeros((40, 50), np.int32), 0.3, 0) == []


# annotators who look


def stained(instances, seed, colour=False):
    """A picture of nuclei, dark, with equally dark streaks beside them that are none."""
    rng = np.random.default_rng(seed)
    dark = ndimage.gaussian_filter((instances > 0).astype(float), 0.7)
    rows, columns = np.indices(instances.shape)
    for slope, offset in rng.uniform((-1, 20), (1, 80), (3, 2)):
        dark = np.maximum(dark, np.abs(columns - slope * rows - offset) < 4)
    grey = 200 - 120 * dark + rng.normal(0, 3, instances.shape)
    shades = (1.0, 0.8, 1.1) if colour else (1, 1, 1)
    return np.stack([grey * shade for shade in shades], -1).clip(0, 255).astype(np.uint8)


@settings(max_examples=15)
@given(
    st.integers(0, 10**6), st.integers(0, 30), st.booleans(), st.sampled_from([0.1, 0.3, 0.5, 1.0])
)
def test_an_attentive_annotator_keeps_the_promises_and_the_number(seed, count, colour, budget):
    instances = nuclei((130, 120), count, seed, largest=10)
    image = stained(instances, seed, colour)
    strokes = SimulatedAnnotator(seed, budget, attentive=True).strokes(instances, "a", image)
    blind = SimulatedAnnotator(seed, budget).strokes(instances, "a")
    assert_annotator_keeps_promises(instances, strokes, budget)
    assert [stroke.label for stroke in strokes] == [stroke.label for stroke in blind]
    changed = [(one, other) for one, other in zip(strokes, blind, strict=True) if one != other]
    assert all(one.label == 0 for one, _ in changed)
    for one, _ in changed:
        assert np.hypot(*np.diff(one.points, axis=0).T).sum() <= 1.5 * LONGEST


@pytest.mark.parametrize("colour", [False, True])
def test_attentive_strokes_run_through_look_alikes(colour):
    instances = nuclei((200, 200), 25, 4, largest=9)
    image = stained(instances, 4, colour)
    there = look_alikes(image, instances)
    assert not there[instances > 0].any() and 0.02 < there.mean() < 0.3
    share = {}
    for attentive in (False, True):
        drawn = SimulatedAnnotator(0, 0.5, attentive).draw(instances, "a", image)
        share[attentive] = (there & (drawn == 0)).sum() / there.sum()
    assert share[True] > 2 * share[False]


def test_attentive_budgets_are_nested_and_follow_image_and_seed():
    instances = nuclei((200, 220), 30, 1, largest=9)
    image = stained(instances, 1)
    sets = [
        SimulatedAnnotator(1, budget, attentive=True).strokes(instances, "x", image)
        for budget in (0.1, 0.3, 0.5, 1.0)
    ]
    for small, large in zip(sets, sets[1:], strict=False):
        assert large[: len(small)] == small and len(large) > len(small)
    assert strokes_of("attentive-1", 1.0, "x", image, instances) == sets[-1]
    assert strokes_of("attentive-2", 1.0, "x", image, instances) != sets[-1]
    assert strokes_of("attentive-1", 1.0, "x", image[::-1], instances) != sets[-1]
    assert strokes_of(1, 1.0, "x", image, instances) == SimulatedAnnotator(1, 1.0).strokes(
        instances, "x"
    )


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_where_nothing_looks_like_a_nucleus_the_blind_strokes_stay(grey):
    instances = nuclei((120, 120), 12, 3)
    image = np.full((120, 120, 3), grey, np.uint8)
    drawn = SimulatedAnnotator(0, 1.0, attentive=True).strokes(instances, "a", image)
    assert drawn == SimulatedAnnotator(0, 1.0).strokes(instances, "a")


@pytest.mark.parametrize("fill", [0, 2])
def test_an_attentive_annotator_of_images_without_nuclei_or_without_background(fill):
    instances = np.full((40, 50), fill, np.int32)
    image = stained(instances, 0)
    (stroke,) = SimulatedAnnotator(0, attentive=True).strokes(instances, "a", image)
    assert stroke.label == (fill > 0)


@pytest.mark.parametrize(
    "image",
    [None, np.zeros((40, 50), np.uint8), np.zeros((40, 51, 3), np.uint8), np.zeros((40, 50, 3))],
    ids=["none", "grey", "size", "float"],
)
def test_an_attentive_annotator_needs_the_image(image):
    with pytest.raises(S2LError, match="image: "):
        SimulatedAnnotator(0, attentive=True).strokes(np.zeros((40, 50), np.int32), "a", image)


def test_lines_follow_what_is_long_and_go_to_every_part_first():
    area = np.zeros((80, 300), bool)
    area[10:20, 5:290] = True  # one long bar: three lines of at most LONGEST
    area[10:60, 140:150] = True  # with a branch
    area[68:78, 20:90] = True  # and a part of its own, smaller than each of the three
    lines = lines_through(area)
    assert all(area[tuple(line.T)].all() for line in lines)
    assert all(len(line) <= LONGEST for line in lines) and len(lines) == 5
    assert all((np.abs(np.diff(line, axis=0)) <= 1).all() for line in lines), "a line with a gap"
    pixels = np.concatenate(lines)
    assert len(np.unique(pixels, axis=0)) == len(pixels), "two lines share a pixel"
    assert [line[0][0] > 65 for line in lines].index(True) == 1, "one part got the first two"


@pytest.mark.parametrize("budget", [0, -0.1, 1.01, float("nan")])
def test_budget_outside_its_range(budget):
    with pytest.raises(S2LError, match=f"budget = {budget}"):
        SimulatedAnnotator(0, budget)


@pytest.mark.parametrize(
    "instances",
    [np.zeros((3, 4, 3), int), np.zeros((3, 4)), -np.ones((3, 4), int)],
    ids=["rgb", "float", "negative"],
)
def test_instances_of_another_kind(instances):
    for draw in (SimulatedAnnotator(0).strokes, lambda i: skeleton_strokes(i, 0.3, 0)):
        with pytest.raises(S2LError, match="instances: "):
            draw(instances)


# S2L's skeleton rule


@pytest.mark.parametrize("seed", range(6))
def test_skeleton_pieces(seed):
    instances = nuclei((150, 130), 20, seed)
    strokes = skeleton_strokes(instances, 1.0, seed)
    labels = skeleton_scribbles(instances, 1.0, seed)
    assert (instances[labels == 1] > 0).all() and (instances[labels == 0] == 0).all()
    eight = np.ones((3, 3))
    assert ndimage.label(labels == 1, eight)[1] == sum(s.label for s in strokes)
    neighbours = ndimage.convolve((labels == 0).astype(int), eight.astype(int), mode="constant")[
        labels == 0
    ]
    drawn = sum(s.label == 0 for s in strokes)
    assert 0 < drawn <= sum(s.label for s in strokes)
    assert ndimage.label(labels == 0, eight)[1] == drawn and neighbours.max() <= 3, (
        "a junction was left"
    )
    assert (border(labels) == 0).any(), "no background stroke at the border"


def test_skeleton_of_two_bars_is_the_line_between_and_the_frame():
    instances = np.zeros((61, 101), np.int32)
    instances[10:21, 10:91], instances[40:51, 10:91] = 1, 2
    labels = skeleton_scribbles(instances, 1.0, 0)
    strokes = skeleton_strokes(instances, 1.0, 0)
    assert [s.label for s in strokes] == [1, 1, 0, 0]
    assert abs(np.nonzero(labels[:40, 30:70] == 1)[0] - 15).max() <= 1
    everything = np.vstack(
        [np.argwhere(skeleton_scribbles(instances, 1.0, seed) == 0) for seed in range(30)]
    )
    middle = everything[(everything[:, 1] > 30) & (everything[:, 1] < 70), 0]
    assert set(np.unique(middle)) <= {0, 29, 30, 31, 60} and {0, 60} < set(middle)


def test_skeleton_traced_with_branches_renders_to_its_pixels():
    instances = np.zeros((41, 41), np.int32)
    instances[18:23, 3:38] = instances[3:38, 18:23] = 1
    (stroke,) = (s for s in skeleton_strokes(instances, 1.0, 0) if s.label == 1)
    labels = render([stroke], instances.shape)
    assert (
        (labels[20, 8:33] == 1).all()
        and (labels[8:33, 20] == 1).all()
        and (instances[labels == 1] == 1).all()
    )


def test_skeleton_shares_are_nested_and_seeded():
    instances = nuclei((200, 200), 30, 5)
    for label in (0, 1):
        small, large = (
            [s for s in skeleton_strokes(instances, x, 2) if s.label == label] for x in (0.3, 0.5)
        )
        assert large[: len(small)] == small and len(large) > len(small)
    assert skeleton_strokes(instances, 0.3, 2) == skeleton_strokes(instances, 0.3, 2)
    assert skeleton_strokes(instances, 0.3, 2) != skeleton_strokes(instances, 0.3, 3)


# files

grid = st.integers(-40, 4000).map(lambda n: n / 4)
any_stroke = st.builds(
    Stroke,
    st.sampled_from([0, 1]),
    st.integers(1, 40).map(lambda n: n / 4),
    st.lists(st.tuples(grid, grid), min_size=1, max_size=4).map(tuple),
)


@settings(max_examples=25)
@given(st.dictionaries(st.text(max_size=3), st.lists(any_stroke, max_size=3), max_size=2))
def test_strokes_survive_the_file(tmp_path, strokes):
    file = tmp_path / "s.json"
    write_strokes(file, strokes, {"note": "x"})
    assert read_strokes(file) == strokes and json.loads(file.read_text())["meta"] == {"note": "x"}
    assert [path.name for path in file.parent.iterdir()] == ["s.json"], "a temporary file was left"


def test_whole_pixels_are_stored_as_such(tmp_path):
    write_strokes(tmp_path / "s.json", {"a": [Stroke(1, 1.0, ((3.0, 4.0), (3.0, 9.0)))]}, {})
    assert "[1,3,4,0,5]" in (tmp_path / "s.json").read_text()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", ""),
        ("[]", ""),
        ('{"strokes": {}}', "unit"),
        ('{"unit": 1, "strokes": {"a": [[1,2]]}}', "image a, stroke 1"),
        ('{"unit": 1, "strokes": {"a": [[1,2,2],[1,2,2,2]]}}', "image a, stroke 2"),
        ('{"unit": 1, "strokes": {"a": [[0,2,2]]}}', "image a, stroke 1"),
        ('{"unit": 1, "strokes": {"a": [[1,2.5,2]]}}', "image a, stroke 1"),
        ('{"unit": 1, "strokes": {"a": [[true,2,2]]}}', "image a, stroke 1"),
        ('{"unit": 1, "strokes": {"a": [[1]]}}', "image a, stroke 1"),
        ('{"unit": 1, "strokes": {"a": 3}}', ""),
        (None, ""),
    ],
)
def test_damaged_stroke_files(tmp_path, text, named):
    if text is not None:
        (tmp_path / "s.json").write_text(text)
    with pytest.raises(S2LError, match=f"s.json.*{named}"):
        read_strokes(tmp_path / "s.json")


def shipped_ids(dataset):
    split = json.loads(paths.split_file(dataset).read_text())
    return {image for part in split["parts"] for image in part} - set(split["test"])


@pytest.mark.parametrize("annotator", ANNOTATORS)
@pytest.mark.parametrize("dataset", REAL)
def test_every_training_image_has_shipped_strokes_of_both_classes(dataset, annotator):
    """Also of who looks at the images and begins with the strokes of this annotator. The default
    budget is cut out of all strokes here, as `shipped_strokes` does, so that files are read once.
    """
    everything = shipped_strokes(dataset, annotator, 1.0)
    few = at_default(everything, annotator)
    assert few == read_strokes(paths.scribble_file(dataset, annotator)), "those of the first file"
    assert_both_classes(few, everything, shipped_ids(dataset))

    attentive = f"attentive-{annotator}"
    if attentive in ATTENTIVE:
        theirs = shipped_strokes(dataset, attentive, 1.0)
        assert_both_classes(at_default(theirs, attentive), theirs, shipped_ids(dataset))
        assert theirs != everything and at_default(theirs, attentive) != few
        assert_only_background_differs(theirs, everything)


def at_default(everything, annotator):
    """Of all strokes of a data set those at the default budget."""
    return {image: within(drawn, 0.3, annotator) for image, drawn in everything.items()}


def assert_both_classes(few, everything, ids):
    assert set(few) == set(everything) == ids
    for image, drawn in few.items():
        assert {stroke.label for stroke in drawn} == {0, 1}, image
        assert len(drawn) < len(everything[image]) or len(drawn) <= 2


def assert_only_background_differs(theirs, everything):
    """An attentive annotator draws as many strokes as the blind one."""
    for image, drawn in theirs.items():
        for one, other in zip(drawn, everything[image], strict=True):
            assert one == other or one.label == other.label == 0


def test_nothing_is_shipped_for_other_data():
    assert shipped_strokes("synthetic-bf", 0, 0.3) == {}
    assert shipped_strokes("dsb-bf", 7, 0.3) == {}


def test_shipped_strokes_are_small():
    files = list(paths.scribble_file("", "").parent.iterdir())
    assert sum(file.stat().st_size for file in files) <= 8e6
    assert {file.name for file in files} == {
        "hashes.json",
        *(paths.scribble_file(d, who).name for d in REAL for who in (*ANNOTATORS, *ATTENTIVE)),
        *(paths.rest_file(d, who).name for d in REAL for who in ANNOTATORS),
    }


def test_the_hash_of_attentive_strokes_covers_the_blind_ones_below():
    for dataset in REAL:
        for annotator in ATTENTIVE:
            table = bz2.decompress(paths.scribble_file(dataset, annotator).read_bytes())
            below = [
                paths.scribble_file(dataset, int(annotator[-1])),
                paths.rest_file(dataset, int(annotator[-1])),
            ]
            expected = {file.name: digest(file, 16) for file in below}
            assert json.loads(table)["meta"]["differs from"] == expected


@settings(max_examples=25)
@given(st.dictionaries(st.text(max_size=3), st.lists(any_stroke, max_size=3), max_size=3))
def test_strokes_survive_the_table(tmp_path, strokes):
    file = tmp_path / "s.json.bz2"
    turns = {image: list(range(3, 3 + len(drawn))) for image, drawn in strokes.items()}
    write_table(file, strokes, {"note": "x"}, turns)
    assert read_table(file) == (strokes, turns)
    first = file.read_bytes()
    write_table(file, strokes, {"note": "x"}, turns)
    assert file.read_bytes() == first, "the same strokes, other bytes"
    write_table(file, strokes, {})
    assert read_table(file)[0] == strokes


@pytest.mark.parametrize(
    "change",
    [
        lambda table: b"{",
        lambda table: bz2.compress(b"{"),
        lambda table: bz2.compress(table)[:-20],
        lambda table: bz2.compress(b"[]"),
        lambda table: bz2.compress(table.replace(b'"points":[2', b'"points":[3')),
        lambda table: bz2.compress(table.replace(b'"strokes":[1]', b'"strokes":[2]')),
        lambda table: bz2.compress(table.replace(b'"widths"', b'"width"')),
        lambda table: None,
    ],
    ids=["text", "json", "cut", "list", "points", "strokes", "columns", "missing"],
)
def test_damaged_tables(tmp_path, change):
    file = tmp_path / "s.json.bz2"
    write_table(file, {"a": [Stroke(1, 1.0, ((3.0, 4.0), (3.0, 9.0)))]}, {})
    content = change(bz2.decompress(file.read_bytes()))
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(S2LError, match=f"{file.name}: "):
        read_table(file)


@pytest.mark.parametrize("who", [0, "attentive-1", "skeleton"])
def test_smaller_budgets_are_cut_out_of_all_strokes(who):
    for seed, count in enumerate((0, 1, 4, 30)):
        instances = nuclei((140, 150), count, seed, largest=9)
        image = stained(instances, seed)
        everything = strokes_of(who, 1.0, "a", image, instances)
        for budget in (0.1, 0.3, 0.5, 1.0):
            few = strokes_of(who, budget, "a", image, instances)
            assert within(everything, budget, who) == few
            rest = maker._without(everything, few)
            assert joined(few, rest, who) == everything


# real images


@pytest.fixture(scope="module")
def real():
    """40 training images of the three data sets: (data set, id, instances, image)."""
    from s2l_paper.data.datasets import load_dataset

    chosen = []
    for dataset, name, count in (
        ("dsb-bf", None, 6),
        ("dsb-fluo", None, 28),
        ("monuseg", "monuseg-train", 6),
    ):
        images = [
            image for image in load_dataset(name or dataset) if image.id in shipped_ids(dataset)
        ]
        spread = images[:: len(images) // count][:count]
        chosen += [(dataset, image.id, np.array(image.instances), image.image) for image in spread]
    return chosen


@pytest.mark.real
def test_promises_on_40_real_images(real):
    assert len(real) == 40
    for number, (_, image, instances, _) in enumerate(real):
        budget = (0.1, 0.3)[number % 2]
        strokes = SimulatedAnnotator(number % 3, budget).strokes(instances, key=image)
        assert_annotator_keeps_promises(instances, strokes, budget)
        assert (border(render(strokes, instances.shape)) == 0).any(), image


@pytest.mark.real
def test_shipped_strokes_come_from_their_seeds(real):
    """Each annotator on an image of its own, at one of two budgets; `make torture` draws every one
    anew.
    """
    asked = zip((*ANNOTATORS, *ATTENTIVE), itertools.cycle((0.3, 1.0)))
    for (annotator, budget), (dataset, image, instances, pixels) in zip(
        asked, real[::5], strict=False
    ):
        drawn = strokes_of(annotator, budget, image, pixels, instances)
        shipped = shipped_strokes(dataset, annotator, budget)[image]
        assert drawn == shipped, (annotator, image, budget)
        rendered = (render(strokes, instances.shape) for strokes in (drawn, shipped))
        assert np.array_equal(*rendered)


@pytest.mark.real
def test_attentive_promises_on_real_images(real):
    for number, (_, image, instances, pixels) in enumerate(real[::4]):
        person = SimulatedAnnotator(number % 3, 0.3, attentive=True)
        strokes = person.strokes(instances, image, pixels)
        assert_annotator_keeps_promises(instances, strokes, 0.3)
        assert (border(render(strokes, instances.shape)) == 0).any(), image


SYNTHETIC_HASHES = {0.1: "c3fcacde", 0.3: "f02d4da5", 0.5: "602d97d4", 1.0: "3135d6fd"}


def strokes_hash(images, budget):
    """Hash of what annotator 0 and the skeleton rule draw on (key, instances) pairs."""
    drawn = []
    for key, instances in images:
        drawn += SimulatedAnnotator(0, budget).strokes(instances, key)
        drawn += skeleton_strokes(instances, budget, seed_for(0, "skeleton", key))
    return digest([[s.label, s.width, *np.ravel(s.points).tolist()] for s in drawn])


@pytest.mark.parametrize("budget", SYNTHETIC_HASHES)
def test_budgets_are_pinned(budget):
    assert strokes_hash([("pinned", nuclei((160, 160), 20, 9))], budget) == SYNTHETIC_HASHES[budget]


COMMITTED = json.loads(maker.HASHES.read_text())


def test_every_budget_has_its_hashes():
    expected = {
        f"{dataset} {who} {budget}"
        for dataset in REAL
        for who in (*ANNOTATORS, *ATTENTIVE)
        for budget in maker.BUDGETS
    }
    assert maker.BUDGETS == tuple(SYNTHETIC_HASHES)
    assert (maker.ANNOTATORS, maker.ATTENTIVE) == (ANNOTATORS, ATTENTIVE)
    for kind in ("first", "all"):
        assert set(COMMITTED[kind]) == expected
    assert len(set(COMMITTED["all"].values())) == len(expected), (
        "two budgets or annotators draw the same"
    )


@pytest.mark.real
@pytest.mark.parametrize(
    ("dataset", "annotator"),
    [
        *(("dsb-bf", who) for who in (*ANNOTATORS, *ATTENTIVE)),
        *((other, who) for other in ("dsb-fluo", "monuseg") for who in (0, "attentive-0")),
    ],
)
def test_budgets_are_pinned_on_real_images(dataset, annotator):
    """The smallest and the largest budget on the first images of each data set, every annotator on
    the smallest set; `make torture` draws every budget on every image.
    """
    images = maker.images_of(dataset)[: maker.FIRST]
    for budget in (min(maker.BUDGETS), max(maker.BUDGETS)):
        found = [
            maker.stroke_hash(i.id, maker.draw(i.instances, i.id, annotator, budget, i.image))
            for i in images
        ]
        assert digest(found) == COMMITTED["first"][f"{dataset} {annotator} {budget}"], budget


def test_a_hash_follows_every_part_of_a_stroke():
    strokes = [Stroke(1, 2.0, ((1.0, 2.0), (3.0, 4.0))), Stroke(0, 1.0, ((5.0, 6.0),))]
    others = [("b", strokes), ("a", strokes[::-1]), ("a", strokes[:1])]
    others += [
        ("a", [replace(strokes[0], **change), strokes[1]])
        for change in ({"label": 0}, {"width": 2.25})
    ]
    others += [("a", [replace(strokes[0], points=((1.0, 2.0), (3.25, 4.0))), strokes[1]])]
    assert len({maker.stroke_hash(*pair) for pair in [("a", strokes), *others]}) == 1 + len(others)


# the predictions of notebook 02


@pytest.fixture(scope="module")
def lesson():
    """Code of notebook 02 by cell, and the names that its exercise needs."""
    cells = nbformat.read(ROOT / "notebooks" / "02_scribbles.ipynb", as_version=4).cells
    code, names = {cell.id: cell.source for cell in cells if cell.cell_type == "code"}, {}
    for cell in ("parameters", "setup", "helpers", "draw", "people", "attentive", "count"):
        exec(code[cell], names)
    exec(code["everything"], names)
    return code, names


def test_predictions_are_judged(lesson, capsys):
    code, names = lesson
    assert code["predict"].count(" = None  # ") == 3
    exec(code["predict"] + "\n" + code["check-budget"] + "\n" + code["tally"], names)
    assert capsys.readouterr().out.count("not tried yet") == 3 and not any(names["tally"])

    truth = {name: value for name, (_, value, _) in names["truth"].items()}
    patches = truth["patches"]
    other = {"less": "more", "more": "less"}[patches]
    for guess, right in (
        (
            {
                "nuclei": truth["nuclei"],
                "pixels": truth["pixels"] + 0.04,
                "patches": patches.title(),
            },
            3,
        ),
        ({"nuclei": truth["nuclei"] + 1, "pixels": 0.9, "patches": patches}, 1),
        ({"nuclei": 0, "pixels": 0.5, "patches": other}, 0),
        ({"nuclei": 0, "pixels": 0.5, "patches": "fewer"}, 0),
    ):
        names |= guess
        exec(code["check-budget"] + "\n" + code["tally"], names)
        assert sum(names["tally"]) == right, guess
        assert capsys.readouterr().out.count(": right\n") == right


def test_windows_of_notebook_02_hold_strokes_of_the_smallest_budget(lesson):
    _, names = lesson
    for cell in names["cells"]:
        seen = names["drawing"](names["first"], cell, names["smallest"])[names["drawn_first"](cell)]
        assert {0, 1} <= set(np.unique(seen)), cell.id
