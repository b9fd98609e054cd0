"""The widget's Python side: what arrives from the browser is on disk at once, whole,
and never lost.
"""

import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2lab

from conftest import ROOT
from s2l_core.config import IGNORE, S2LError
from s2l_core.images import CellImage
from s2l_images import strokes
from s2l_images.board import layers, saving, widget
from s2l_images.board.still import shown
from s2l_images.board.widget import Scribbler
from s2l_images.strokes import Stroke, encode, read_strokes, render, write_strokes
from s2l_paper.figures import plotting

DRAWN = [
    [12, 40, 40, 4, 8],
    [-8, 100, 20, 0, 40],
]  # as the browser sends them: width, first point, steps
EXPECTED = [
    Stroke(1, 3.0, ((10.0, 10.0), (11.0, 12.0))),
    Stroke(0, 2.0, ((25.0, 5.0), (25.0, 15.0))),
]


def images(*names, shape=(48, 64), channels="grey"):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (len(names), *shape, 1), np.uint8).repeat(3, axis=3)
    if channels == "colour":
        grey[..., 1] //= 2
    return [CellImage(name, image, None) for name, image in zip(names, grey, strict=True)]


class Browser:
    """The other end: says what a page would say, and keeps what it is told."""

    def __init__(self, widget, monkeypatch):
        self.widget, self.told = widget, []
        monkeypatch.setattr(
            widget, "send", lambda content, buffers=None: self.told.append((content, buffers or []))
        )

    def says(self, **content):
        before = len(self.told)
        self.widget._handle_custom_msg(content, [])
        return self.told[before:]

    def draws(self, image="a", rows=DRAWN, edit=1):
        return self.says(kind="strokes", id=image, edit=edit, strokes=rows)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "scribbles" / "strokes.json"


@pytest.fixture
def board(file):
    return Scribbler(images("a", "b"), file)


@pytest.fixture
def browser(board, monkeypatch):
    return Browser(board, monkeypatch)


def test_a_new_widget_shows_what_is_left_to_do(board, file):
    nothing = {"foreground": 0, "background": 0, "objects": -1, "places": 0}
    assert board.images == [{"id": name} | nothing for name in "ab"]
    assert board.index == 0 and board.message == "" and board.scribbles() == {}
    assert not file.exists(), "nothing drawn, nothing written"


def test_a_finished_stroke_is_on_disk_before_it_is_acknowledged(board, browser, file):
    ((reply, _),) = browser.draws(edit=7)
    assert reply == {"kind": "saved", "id": "a", "edit": 7, "strokes": DRAWN}
    assert read_strokes(file) == {"a": EXPECTED}
    assert (board.images[0]["foreground"], board.images[0]["background"]) == (1, 1)
    assert np.array_equal(board.scribbles()["a"], render(EXPECTED, (48, 64)))
    assert [path.name for path in file.parent.iterdir()] == ["strokes.json"]


def test_a_restarted_kernel_gives_back_the_very_strokes(browser, file, monkeypatch):
    browser.draws()
    again = Browser(Scribbler(images("a", "b"), file), monkeypatch)
    ((reply, _),) = again.says(kind="open", id="a")
    assert reply["strokes"] == DRAWN
    assert again.widget.key == browser.widget.key, "the browser finds what it kept by the same name"


def test_erasing_everything_is_saved_too(board, browser, file):
    browser.draws()
    browser.draws(rows=[], edit=2)
    assert read_strokes(file) == {"a": []} and board.scribbles() == {}


def test_strokes_of_images_that_are_not_shown_stay(file, monkeypatch):
    file.parent.mkdir()
    write_strokes(file, {"elsewhere": EXPECTED}, {})
    Browser(Scribbler(images("a"), file), monkeypatch).draws()
    assert read_strokes(file) == {"elsewhere": EXPECTED, "a": EXPECTED}


def test_two_widgets_on_one_file_lose_nothing(file, monkeypatch):
    first, second = (Browser(Scribbler(images("a", "b"), file), monkeypatch) for _ in range(2))
    first.draws("a")
    second.draws("b")
    first.draws("a", DRAWN[:1])
    assert read_strokes(file) == {"a": EXPECTED[:1], "b": EXPECTED}


def test_two_notebooks_on_one_image_keep_each_others_strokes(file, monkeypatch):
    """Both begin with the same two strokes; one draws a third,
    then the other draws one that it does not know of.
    """
    start = Browser(Scribbler(images("a"), file), monkeypatch)
    start.draws()
    first, second = (Browser(Scribbler(images("a"), file), monkeypatch) for _ in range(2))
    third, fourth = [12, 40, 40], [-12, 80, 80]
    first.draws(rows=[*DRAWN, third])
    ((reply, _),) = second.draws(rows=[*DRAWN, fourth])
    assert reply["strokes"] == [*DRAWN, third, fourth], "the page is told what the other one drew"
    assert len(read_strokes(file)["a"]) == 4

    # the first page, which does not know the fourth stroke, erases the very first one
    ((reply, _),) = first.draws(rows=[*DRAWN[1:], third], edit=2)
    assert reply["strokes"] == [*DRAWN[1:], third, fourth]


def test_strokes_that_were_kept_in_the_browser_are_not_saved_twice(file, monkeypatch):
    """A page that never heard of its save sends the same strokes again,
    to a kernel that has read them.
    """
    before = Browser(Scribbler(images("a"), file), monkeypatch)
    before.draws()
    again = Browser(Scribbler(images("a"), file), monkeypatch)
    third = [12, 40, 40]
    before.draws(rows=[*DRAWN, third], edit=2)
    ((reply, _),) = again.says(kind="strokes", id="a", edit=1, strokes=DRAWN, known=[])
    assert reply["strokes"] == [*DRAWN, third]


def test_a_failed_write_keeps_the_file_and_is_said(board, browser, file, monkeypatch):
    browser.draws()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", full)
        assert browser.draws(rows=DRAWN[:1], edit=2) == [], (
            "what is not on disk is not acknowledged"
        )
    assert "No space left" in board.message and "stay in this browser" in board.message
    assert read_strokes(file) == {"a": EXPECTED}
    assert len(browser.draws(rows=DRAWN[:1], edit=3)) == 1
    assert board.message == "" and read_strokes(file) == {"a": EXPECTED[:1]}


def test_a_damaged_file_is_neither_hidden_nor_overwritten(board, browser, file):
    browser.draws()
    file.write_text("{ damaged")
    assert browser.draws(edit=2) == []
    assert file.name in board.message
    with pytest.raises(S2LError, match=f"{file}: "):
        Scribbler(images("a"), file)
    assert file.read_text() == "{ damaged"


@pytest.mark.parametrize(
    "rows",
    [
        None,
        "[]",
        [[]],
        [[4, 1]],
        [[4, 1, 2, 3]],
        [[0, 1, 2]],
        [[4, 1.5, 2]],
        [[4, True, 2]],
        [[1025, 0, 0]],
    ]
    + [[[4, 0, 0] + [1, 1] * saving.MOST_POINTS]],
    ids=lambda rows: str(rows)[:20],
)
def test_what_no_page_of_ours_sends_is_refused(board, browser, file, rows):
    browser.draws()
    assert browser.draws(rows=rows, edit=2) == []
    assert board.message.startswith("Not saved: ")
    assert read_strokes(file) == {"a": EXPECTED}


def test_an_unknown_image_is_nobodys_business(browser, file):
    assert (
        browser.draws("c") == []
        and browser.says(kind="open", id="c") == []
        and browser.says(kind="open") == []
    )
    assert not file.exists()


@given(
    st.lists(
        st.tuples(
            st.integers(-256, 256).filter(bool),
            st.lists(
                st.tuples(st.integers(-400, 400), st.integers(-400, 400)), min_size=1, max_size=6
            ),
        ),
        max_size=4,
    )
)
def test_rows_and_strokes_are_the_same_thing(drawn):
    rows = [[width, *(value for step in steps for value in step)] for width, steps in drawn]
    assert [encode(stroke) for stroke in saving.from_page(rows, "a")] == rows


def test_what_is_redone_before_its_undoing_was_heard_of_is_kept(file, monkeypatch):
    """The page sends three edits in a row; another notebook draws in between."""
    first, second, foreign = [[16, 8, 8, 4, 4]], [[16, 40, 40, 4, 4]], [[-16, 80, 80, 4, 4]]
    page = Browser(Scribbler(images("a"), file), monkeypatch)
    both = first + second
    page.says(kind="strokes", id="a", edit="p-1", strokes=both, known=[])
    page.says(kind="strokes", id="a", edit="p-2", strokes=first, known=both)  # undone
    other = Browser(Scribbler(images("a"), file), monkeypatch)
    other.says(kind="strokes", id="a", edit="q-1", strokes=first + foreign, known=first)

    # Redone, while the page still knows what was on disk before it undid.
    ((reply, _),) = page.says(kind="strokes", id="a", edit="p-3", strokes=both, known=both)
    kept = [encode(stroke) for stroke in read_strokes(file)["a"]]
    assert sorted(kept) == sorted(both + foreign) == sorted(reply["strokes"])


@pytest.mark.parametrize("channels", ["grey", "colour"])
def test_pixels_arrive_without_loss(file, monkeypatch, channels):
    (cell,) = images("a", channels=channels)
    ((reply, (png,)),) = Browser(Scribbler([cell], file), monkeypatch).says(kind="open", id="a")
    picture = Image.open(io.BytesIO(png))
    assert reply["size"] == (48, 64) and reply["colour"] == (channels == "colour")
    assert picture.mode == ("RGB" if reply["colour"] else "L")
    assert np.array_equal(np.array(picture.convert("RGB")), cell.image)
    low, high = reply["limits"]
    assert 0 <= low < high <= 255


def squares(image, threshold):
    """Three objects, or two above a threshold of .5; the second image has one, with a hole."""
    found = np.zeros((48, 64), np.int32)
    if image == "b":
        found[5:20, 5:20], found[10:12, 10:14] = 1, 0
        return found
    for number in range(3 if threshold <= 0.5 else 2):
        found[10 * number + 2 : 10 * number + 7, 3:9] = number + 1
    return found


def rings(buffer):
    """What the page makes of the outlines: corners (N, 2) of each ring."""
    numbers, found = np.frombuffer(buffer, "<i4"), []
    while len(numbers):
        found.append(numbers[1 : 1 + 2 * numbers[0]].reshape(-1, 2))
        numbers = numbers[1 + 2 * numbers[0] :]
    return found


def test_objects_are_outlined_and_counted_on_every_image(board, browser):
    board.outline("Forest", squares, 0.5)
    assert [image["objects"] for image in board.images] == [3, 1]
    assert board.answer == {"name": "Forest", "things": "nuclei", "usual": 0.5}
    sent = {content["id"]: rings(data) for content, (data,) in browser.told}
    assert [ring.tolist() for ring in sent["a"]][0] == [[2, 3], [2, 9], [7, 9], [7, 3]]
    assert len(sent["a"]) == 3 and len(sent["b"]) == 2, "an outer ring and a hole"

    # a page that comes later gets them with the image
    (image, _), (outlines, (again,)) = browser.says(kind="open", id="a")
    assert (image["kind"], outlines["kind"]) == ("image", "outlines")
    assert [ring.tolist() for ring in rings(again)] == [ring.tolist() for ring in sent["a"]]


def test_the_open_image_follows_the_threshold_and_others_when_it_rests(board, browser):
    board.outline("Forest", squares, 0.5)
    board.threshold = 0.8
    assert [image["objects"] for image in board.images] == [2, -1] and board.moved
    browser.says(kind="all")
    assert [image["objects"] for image in board.images] == [2, 1]
    browser.says(kind="all", threshold=0.3)
    assert board.threshold == 0.3 and [image["objects"] for image in board.images] == [3, 1]
    browser.says(kind="all", threshold="much")
    assert board.threshold == 0.3


def test_a_threshold_of_the_user_s_stays_until_another_answer_is_shown(board):
    board.outline("Forest", squares, 0.5)
    board.threshold = 0.8
    board.outline("Forest", squares, 0.45)
    assert board.threshold == 0.8 and board.images[0]["objects"] == 2
    board.outline("Network", squares, 0.4)
    assert board.threshold == 0.4 and board.images[0]["objects"] == 3 and not board.moved


def test_objects_that_cannot_be_told_apart_are_a_line_on_the_board(board):
    def exploded(image, threshold):
        raise S2LError("3 objects fell into 99 pieces. Raise diameter.")

    board.outline("Forest", exploded, 0.5)
    assert board.message.startswith("a: 3 objects fell") or board.message.startswith("b: 3 objects")
    assert [image["objects"] for image in board.images] == [0, 0]


def test_a_picture_of_the_board_has_strokes_and_outlines(board, browser):
    browser.draws()
    plain = board.picture("a")
    assert (plain[10, 10] == layers.FOREGROUND).all() and (plain[25, 8] == layers.BACKGROUND).all()
    board.outline("Forest", squares, 0.5)
    assert (board.picture("a")[2, 3] == widget.OUTLINE).all()


def test_strokes_of_another_program_count_and_are_not_drawn_over(file, monkeypatch):
    labels = np.full((48, 64), IGNORE, np.uint8)
    labels[3] = 1
    board = Scribbler(images("a", "b"), file, foreign={"a": labels})
    page = Browser(board, monkeypatch)
    assert np.array_equal(board.scribbles()["a"], labels)
    ((opened, _),) = page.says(kind="open", id="a")
    assert opened["layers"] == ["foreign"] and board.images[0]["foreign"]
    assert page.draws() == [] and "another program" in board.message and not file.exists()


def test_the_page_can_stop_a_round(board, browser):
    asked = []
    board.on_stop = lambda: asked.append("stop")
    browser.says(kind="stop")
    assert asked == ["stop"]


def test_layers_are_pushed_and_kept_for_later(board, browser):
    prediction = np.linspace(0, 1, 48 * 64).reshape(48, 64)
    labels = np.full((48, 64), IGNORE, np.uint8)
    labels[0], labels[1] = 0, 1
    board.show("a", prediction=prediction, pseudo_labels=labels, regions=[(3, 4, 5)])
    ((reply, buffers),) = browser.told
    assert reply["layers"] == ["prediction", "pseudo_labels"] and reply["regions"] == [
        [3.0, 4.0, 5.0]
    ]
    veil, classes = (np.array(Image.open(io.BytesIO(png)).convert("RGBA")) for png in buffers)
    assert (
        np.array_equal(veil[..., 3], np.rint(prediction * 255))
        and (veil[..., :3] == veil[0, 0, :3]).all()
    )
    assert classes[0, 0].tolist() == [*plotting.rgb(plotting.BACKGROUND), 255]
    assert classes[1, 0].tolist() == [*plotting.rgb(plotting.FOREGROUND), 255]
    assert (classes[2:, :, 3] == 0).all(), "what is not labelled is transparent"
    ((opened, kept),) = browser.says(kind="open", id="a")
    assert opened["layers"] == reply["layers"] and kept[1:] == buffers
    board.show("a", uncertainty=prediction)
    assert browser.told[-1][0]["layers"] == ["uncertainty"] and browser.told[-1][0]["regions"] == [
        [3.0, 4.0, 5.0]
    ]


def test_a_layer_of_another_size_is_refused(board):
    with pytest.raises(S2LError, match=r" a .*\(4, 4\).*\(48, 64\)"):
        board.show("a", prediction=np.zeros((4, 4)))


def test_strokes_beside_the_image_are_kept_and_named(file, monkeypatch):
    outside = [[8, 400, 400, 4, 4], *DRAWN]
    page = Browser(Scribbler(images("a"), file), monkeypatch)
    page.draws(rows=outside)
    assert "a: 1 of 3 strokes lie outside the image (64 x 48 pixels)" in page.widget.message
    assert len(read_strokes(file)["a"]) == 3, "nothing drawn is thrown away"
    assert Scribbler(images("a"), file).message == page.widget.message


def test_an_image_too_large_to_show_is_refused(file, monkeypatch):
    monkeypatch.setattr(widget, "LARGEST_SHOWN", 48 * 64 - 1)
    with pytest.raises(S2LError, match="a: .*3,072.*3,071"):
        Scribbler(images("a"), file)


def test_no_image_is_an_error(file):
    with pytest.raises(S2LError):
        Scribbler([], file)


def test_both_sides_agree_on_grid_and_colours():
    script = (ROOT / "s2l_images" / "board" / "widget.js").read_text()
    assert f"const UNIT = {strokes.UNIT};" in script
    assert f'const COLOURS = ["{plotting.BACKGROUND}", "{plotting.FOREGROUND}"];' in script
    style = (ROOT / "s2l_images" / "board" / "widget.css").read_text()
    assert plotting.FOREGROUND.lower() in style and plotting.BACKGROUND.lower() in style


# what the three kinds of colour blindness leave of linear RGB (Machado et al. 2009, severity 1)
BLIND = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def seen_by(kind, colour):
    """CIE Lab of an sRGB colour as seen with a kind of colour blindness."""
    linear = (np.array(colour) / 255) ** 2.2
    return rgb2lab(np.clip(np.array(BLIND[kind]) @ linear, 0, 1)[None, None] ** (1 / 2.2))[0, 0]


def told_apart(first, second):
    """The smallest difference; about 2 is just noticeable side by side."""
    return min(np.linalg.norm(seen_by(kind, first) - seen_by(kind, second)) for kind in BLIND)


def test_foreground_and_background_differ_for_everybody():
    assert told_apart(layers.FOREGROUND, layers.BACKGROUND) > 40
    assert told_apart(layers.YELLOW, layers.PINK) > 25
    assert told_apart((200, 60, 60), (110, 110, 50)) < 25, "red and olive would not"


def test_script_and_style_are_part_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {"*.js", "*.css"} <= set(settings["package-data"]["*"])
    board = Scribbler(images("a"), ROOT / "nowhere.json")
    assert "export default" in board._esm and ".s2l-stage" in board._css
    assert "http" not in board._esm.replace("http://www.w3.org", ""), (
        "nothing is loaded from the network"
    )


def test_the_file_says_who_drew(browser, file):
    browser.draws()
    assert json.loads(file.read_text())["meta"] == {"annotator": "hand"}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((100, 50), (200, 400)), ((500, 700), (700, 500)), ((700, 1400), (700, 350))],
)
def test_a_picture_below_a_cell_is_neither_tiny_nor_huge(shape, expected):
    picture = np.zeros((*shape, 3), np.uint8)
    assert Image.open(io.BytesIO(shown(picture).data)).size == expected
