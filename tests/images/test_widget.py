"""The drawing widget in JupyterLab: brushes, keys, a busy kernel and a dying kernel."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect

from conftest import ROOT
from hands import CHROMIUM, REASON, Board, Notebook, board_notebook, open_page
from s2l_images.board.saving import from_page
from s2l_images.strokes import Stroke, covered, encode, read_strokes

pytest_plugins = ["browsing"]  # its fixtures
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=REASON)


SETUP = """
import os
import signal
import time
from pathlib import Path
from s2l_paper.data.datasets import load_dataset
from s2l_images.board.saving import SAVING
from s2l_images.board.widget import Scribbler
file = Path({file!r})
go = file.with_name("go")


def wait():
    while not go.exists():
        time.sleep(0.05)
    go.unlink()


cells = [load_dataset(f"synthetic-{{kind}}", images=1, image_size=128)[0] for kind in ("fluo", "he")]
"""


@pytest.fixture(scope="module")
def opened(browser, lab, tmp_path_factory):
    """A notebook with a board and cells to talk to it, in a page that all tests share."""
    folder = tmp_path_factory.mktemp("board")
    file = folder / "strokes.json"
    code = {"setup": SETUP.format(file=str(file)), "clean": "file.unlink(missing_ok=True)"}
    code |= {"board": "board = Scribbler(cells, file)\nboard", "busy": "with SAVING:\n    wait()"}
    code |= {
        "die": "with SAVING:\n    wait()\n    os.kill(os.getpid(), signal.SIGKILL)",
        "end": "pass",
    }
    with open_page(browser, folder) as page:
        book = Notebook(page, lab, board_notebook(code), "board.ipynb")
        yield book, Board(book, (128, 128), file)


@pytest.fixture
def simple(opened):
    """The board with a grey and a coloured image, and nothing drawn."""
    book, board = opened
    book.run("setup", "clean", "board")
    board.ready()
    return book, board


FLUO, HE = "synthetic-fluo-000", "synthetic-he-000"


def test_keys_belong_to_the_widget_while_it_has_the_focus(simple):
    book, board = simple
    board.draw([(20, 20), (20, 60)])
    board.press("a", "b", "x", "y", "d", "d", "m", "0", "0", "Control+s")
    expect(board.page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(book.ids))
    expect(board.page.locator(".jp-Dialog")).to_have_count(0)
    pressed = board.page.locator('.s2l-scribbler [aria-pressed="true"]')
    expect(pressed).to_have_text("Background")
    board.press("]", "]", "e")
    expect(pressed).to_have_text("Eraser")
    expect(board.page.locator(".s2l-bar output")).to_have_text("7 px")
    board.saved(**{FLUO: 1})


def test_every_control_has_a_name_and_a_place_in_the_order(simple):
    _, board = simple
    controls = board.element.locator("button, select, input, .s2l-stage")
    for control in controls.all():
        name = control.evaluate(
            "e => e.getAttribute('aria-label') || e.innerText || e.closest('label')?.innerText"
        )
        assert name and name.strip(), control.evaluate("e => e.outerHTML")
    board.element.locator("button").first.focus()
    order = []
    for _ in range(controls.count()):
        order.append(
            board.page.evaluate(
                "[...document.querySelectorAll('.s2l-scribbler *')].indexOf(document.activeElement)"
            )
        )
        board.page.keyboard.press("Tab")
    reached = [place for place in order if place >= 0]
    assert len(reached) > 10 and reached == sorted(reached)
    assert board.element.locator(".s2l-keys li").count() >= 15


def test_erasing_undoing_zooming_and_moving(simple):
    _, board = simple
    page = board.page
    board.draw([(30, 20), (30, 100)])
    board.press("b")
    board.draw([(60, 20), (60, 100)])
    whole = board.ink()
    board.press("e")
    board.draw([(20, 64), (70, 64)])
    board.saved(**{FLUO: 4})
    ends = [stroke.points[i][1] for stroke in read_strokes(board.file)[FLUO] for i in (0, -1)]
    assert all(abs(column - 64) >= 5 - 0.5 for column in ends), (
        "5 px of eraser and 5 px of ink keep 5 px apart"
    )
    erased = board.ink()
    assert erased[0] < whole[0]
    board.press("z")
    assert board.ink() == whole, "what is redrawn in part looks as if it were redrawn whole"
    board.press("Shift+Z")
    assert board.ink() == erased
    # the right button erases with any tool
    board.press("f")
    page.mouse.move(*board.at(30, 10))
    page.mouse.down(button="right")
    page.mouse.move(*board.at(30, 60), steps=5)
    page.mouse.up(button="right")
    board.saved(**{FLUO: 3})
    left = board.ink()
    # zoom and move, and back
    page.mouse.move(*board.at(60, 60))
    page.mouse.wheel(0, -300)
    assert board.ink() != left
    page.keyboard.down(" ")
    page.mouse.down()
    page.mouse.move(*board.at(90, 90), steps=3)
    page.mouse.up()
    page.keyboard.up(" ")
    board.saved(**{FLUO: 3})
    board.press("0")
    assert board.ink() == left
    board.press("h")
    assert board.ink() == (0, 0)
    board.press("h")
    assert board.ink() == left
    # a stroke given up, and one beside the image
    page.mouse.move(*board.at(90, 20))
    page.mouse.down()
    page.mouse.move(*board.at(90, 60), steps=3)
    board.press("Escape")
    page.mouse.up()
    board.draw([(60, -20), (80, -20)])
    assert board.ink() == left
    board.saved(**{FLUO: 3})


def test_contrast_and_channels_change_what_is_seen(simple):
    _, board = simple
    page = board.page

    def matrix():
        return page.locator("feColorMatrix").get_attribute("values")

    expect(page.get_by_label("Channel")).to_be_hidden()
    stretched = matrix()
    page.get_by_label("Grey value shown as white").fill("60")
    assert matrix() != stretched
    page.get_by_role("button", name="Auto").click()
    assert matrix() == stretched
    page.get_by_role("button", name="Next image").click()
    page.locator(".s2l-busy").wait_for(state="hidden")
    expect(page.get_by_label("Channel")).to_be_visible()
    page.get_by_label("Channel").select_option("green")
    rows = [[float(value) for value in matrix().split()[i : i + 5]] for i in (0, 5, 10)]
    assert rows[0] == rows[1] == rows[2] and rows[0][0] == rows[0][2] == 0 and rows[0][1] > 0


def test_drawing_never_waits_for_the_kernel(simple):
    book, board = simple
    book.start("busy")
    board.ready()
    board.draw([(20, 20), (20, 100)])
    assert board.ink()[0] > 500, "the stroke is there at once"
    expect(board.page.locator(".s2l-saved")).to_have_text(
        "Kept in this browser; saved once the kernel is free"
    )
    assert not board.file.exists()
    board.file.with_name("go").touch()
    book.finish("busy")
    board.saved(**{FLUO: 1})


def test_strokes_survive_a_kernel_that_dies_before_saving_them(simple):
    book, board = simple
    board.draw([(40, 20), (40, 100)])
    board.saved(**{FLUO: 1})
    book.start("die")
    board.ready()
    board.draw([(20, 20), (20, 100)])
    board.draw([(60, 20), (60, 100)])
    board.file.with_name("go").touch()
    board.page.locator(
        ".jp-Dialog button"
    ).click()  # "The kernel appears to have died. It will restart automatically."
    assert len(read_strokes(board.file)[FLUO]) == 1, "the kernel that died saved what it never saw"
    book.ready()
    book.run("setup", "board")
    board.ready()
    board.saved(**{FLUO: 3})


def test_a_line_says_what_is_wrong(simple):
    _, board = simple
    board.draw([(40, 20), (40, 100)])
    board.saved(**{FLUO: 1})
    board.file.write_text("{ damaged")
    board.draw([(20, 20), (20, 100)])
    expect(board.page.get_by_role("alert")).to_contain_text("expected a file of strokes")
    board.file.unlink()
    board.draw([(60, 20), (60, 100)])
    expect(board.page.get_by_role("alert")).to_be_hidden()
    board.saved(**{FLUO: 3})


@pytest.fixture(scope="module")
def script(browser):
    """A page that has loaded the widget's functions."""
    page = browser.new_page()
    text = (ROOT / "s2l_images" / "board" / "widget.js").read_text()
    page.evaluate(
        "async text => { window.s2l = await import(URL.createObjectURL(new Blob([text], {type:"
        " 'text/javascript'}))) }",
        text,
    )
    yield page
    page.close()


PIXEL = st.integers(-40, 200).map(lambda quarter: quarter / 4)
POINTS = st.lists(st.tuples(PIXEL, PIXEL), min_size=1, max_size=5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    points=POINTS,
    width=st.integers(1, 12),
    p=st.tuples(PIXEL, PIXEL),
    q=st.tuples(PIXEL, PIXEL),
    radius=st.integers(1, 8),
)
def test_nothing_under_the_eraser_keeps_its_ink(script, points, width, p, q, radius):
    row = encode(Stroke(1, width, tuple(points)))
    rows = script.evaluate(
        "([row, p, q, r]) => s2l.erase(s2l.decode(row), p, q, r).map(s2l.encode)",
        [row, list(p), list(q), radius],
    )
    rows = [[int(value) for value in row] for row in rows]  # JavaScript has a -0
    core = set(
        zip(*covered(Stroke(1, max(width - 0.75, 0.25), tuple(points)), (60, 60)), strict=True)
    )
    after = {
        pixel
        for stroke in from_page(rows, "a")
        for pixel in zip(*covered(stroke, (60, 60)), strict=True)
    }
    under = set(
        zip(*covered(Stroke(0, max(2 * radius - 0.75, 0.25), (p, q)), (60, 60)), strict=True)
    )
    assert not after & under, "erased, up to the grid of quarter pixels"
    near = set(zip(*covered(Stroke(0, 2 * (radius + width) + 1, (p, q)), (60, 60)), strict=True))
    assert core - near <= after, (
        "what the eraser did not come near is as it was, up to the same grid"
    )


def test_rows_come_back_as_they_went(script):
    rows = [[12, 40, 40, 4, 8], [-8, 100, 20, 0, 40], [4, -3, 7], [256, 1, 1, -1, -1, 5, 0]]
    assert script.evaluate("rows => rows.map(s2l.decode).map(s2l.encode)", rows) == rows
