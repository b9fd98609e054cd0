"""The board in a page: while cells run and networks learn, after a reload, without its kernel, and
beside a second notebook.
"""

import re
import time

import nbformat
import numpy as np
import pytest
import tifffile
from PIL import Image
from playwright.sync_api import expect

from conftest import ROOT
from hands import CHROMIUM, PATIENCE, REASON, Board, Notebook, board_notebook, open_page, shoot
from s2l_images.board.own_folder import write_example
from s2l_images.places import own_strokes
from s2l_images.strokes import read_strokes
from s2l_paper.running.examples import example_of_four

pytest_plugins = ["browsing"]  # its fixtures
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=REASON)

OPEN = """
import numpy as np
from s2l_images.session import open_session
work = open_session({folder!r}, pixel_size={pixel_size})
"""
FIRST, SECOND = "synthetic-fluo-000", "synthetic-fluo-001"
SHAPE = (192, 192)
LONG = 6000  # steps that nobody waits for


@pytest.fixture
def folder(tmp_path):
    """An example: four images, three of them drawn on."""
    cells, strokes = example_of_four("synthetic-fluo")
    write_example(tmp_path / "cells", cells, strokes)
    return tmp_path / "cells"


def opened(page, lab, folder, name="board.ipynb", pixel_size=0.0, **cells):
    """A notebook on a folder, with its board."""
    code = {"open": OPEN.format(folder=str(folder), pixel_size=pixel_size), "draw": "work.draw()"}
    book = Notebook(page, lab, board_notebook(code | cells), name)
    book.run("open", "draw")
    board = Board(book, SHAPE, own_strokes(folder))
    board.ready()
    return book, board


def drawn(folder, image=FIRST):
    return len(read_strokes(own_strokes(folder))[image])


def until(true, seconds=30):
    """Waits for what happens outside of the page."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_stroke_is_on_disk_while_a_cell_runs(page, lab, folder):
    """Also after that cell has spoken to the page."""
    go = folder / "go"
    busy = (
        f"import time\nfrom pathlib import Path\nwork.board.show({FIRST!r}, prediction="
        f"np.zeros({SHAPE}))\nwhile not Path({str(go)!r}).exists():\n    time.sleep(0.05)"
    )
    book, board = opened(page, lab, folder, busy=busy)
    before = drawn(folder)
    book.start("busy")
    page.wait_for_function("document.querySelector('[aria-label=\"Overlay\"]:not(:disabled)')")
    board.ready()
    for number in (1, 2):
        board.draw([(180 - 9 * number, 20), (180 - 9 * number, 60)])
        until(lambda number=number: drawn(folder) == before + number)
    expect(page.locator(".s2l-saved")).to_have_text("Saved")
    expect(book.cell("busy").locator(".jp-InputPrompt")).to_have_text("[*]:")
    go.touch()
    book.finish("busy")


@pytest.mark.long
def test_two_notebooks_with_kernels_of_their_own_lose_no_stroke(
    browser, page, lab, folder, tmp_path
):
    before = drawn(folder)
    _, first = opened(page, lab, folder, "first.ipynb")
    (tmp_path / "second").mkdir()
    with open_page(browser, tmp_path / "second") as other:
        _, second = opened(other, lab, folder, "second.ipynb")
        page.bring_to_front()
        first.draw([(20, 20), (20, 60)])
        until(lambda: drawn(folder) == before + 1)
        other.bring_to_front()
        second.draw([(40, 20), (40, 60)])
        until(lambda: drawn(folder) == before + 2)
        page.bring_to_front()
        first.draw([(60, 20), (60, 60)])
        until(lambda: drawn(folder) == before + 3)
        for each in (page, other):
            expect(each.locator(".s2l-saved")).to_have_text("Saved")


@pytest.mark.long
def test_the_board_outlines_and_counts_what_is_exported(page, lab, folder):
    cells = {"guess": "work.guess();", "export": "print(work.export('mine'))"}
    book, board = opened(page, lab, folder, **cells)
    said, slider = page.locator(".s2l-answer"), page.get_by_label(re.compile("^Threshold"))
    expect(said).to_be_hidden()
    book.run("guess")
    expect(said).to_have_text(re.compile(r"^Forest: \d+ nuclei here, \d+ in all 4 images$"))
    usual, counted = board.marks(unlike=(0, 0)), said.inner_text()
    shoot(page, "08_outlines", part=board.element)

    # the slider moves outlines and counts; the button brings the held-out choice back
    slider.fill("0.9")
    fewer = board.marks(unlike=usual)
    expect(said).not_to_have_text(counted)
    expect(said).to_have_text(re.compile(r"in all 4 images$"))
    page.get_by_role("button", name="Reset").click()
    expect(said).to_have_text(counted)
    assert board.marks(unlike=fewer) == usual

    # what is exported is what was outlined
    slider.fill("0.9")
    expect(said).not_to_have_text(counted)
    expect(said).to_have_text(re.compile(r"in all 4 images$"))
    here, everywhere = map(int, re.findall(r"(\d+) (?:nuclei|in all)", said.inner_text()))
    book.run("export")
    found = {
        file.stem: tifffile.imread(file).max() for file in (folder / "mine").glob("synthetic*.tif")
    }
    assert found[FIRST] == here and sum(found.values()) == everywhere
    assert str(folder / "mine") in book.cell("export").inner_text()

    # every image carries its number in the list
    options = board.element.get_by_label("Image", exact=True).locator("option").all_inner_texts()
    assert [int(text.split(" · ")[1]) for text in options] == [
        found[name] for name in sorted(found)
    ]


@pytest.mark.long
def test_a_page_reloaded_while_a_network_learns_shows_it_again(page, lab, folder):
    book, board = opened(page, lab, folder, learn=f"work.learn({LONG})", after="work.wait()")
    book.run("learn")
    status, panel = page.locator(".s2l-status"), book.cell("learn").locator(".widget-vbox")
    expect(status).to_contain_text(re.compile(r"step \d+ of 6000, about \d+ minutes left"))
    book.save()
    book.reload(".s2l-stage")
    board.ready()
    expect(status).to_contain_text("step ")
    expect(panel).to_contain_text("step ")
    seen = status.inner_text()
    expect(status).not_to_have_text(seen)  # it goes on

    before = drawn(folder)
    board.draw([(20, 20), (20, 60)])
    until(lambda: drawn(folder) == before + 1)

    # a cell that waits keeps neither the board nor its button from working
    book.start("after")
    board.ready()
    board.draw([(40, 20), (40, 60)])
    until(lambda: drawn(folder) == before + 2)
    board.element.get_by_role("button", name="Stop").click()
    expect(status).to_contain_text("what was learned is kept")
    book.finish("after")


@pytest.mark.long
def test_a_notebook_without_its_kernel_shows_a_picture_of_the_board(browser, lab, folder, tmp_path):
    context = browser.new_context()  # the page may report that a model is missing
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    book, board = opened(page, lab, folder, guess="work.guess();")
    picture = book.cell("draw").locator(".s2l-still")
    expect(picture).to_be_hidden()
    book.run("guess")
    book.save()

    (lab[1] / "later").mkdir()
    later = lab[1] / "later" / "again.ipynb"
    later.write_bytes((lab[1] / "board.ipynb").read_bytes())
    page.goto(f"{lab[0]}lab/tree/later/again.ipynb?token=test&reset")
    book.ready()
    expect(picture).to_be_visible()
    expect(picture).to_contain_text("run the cells up to this one")
    image = picture.locator("img")
    assert image.evaluate("e => e.naturalWidth") >= 192
    expect(page.get_by_text("model not found")).to_be_hidden()
    page.screenshot(path=tmp_path / "without_kernel.png")
    context.close()


def test_a_scale_bar_is_as_long_as_it_says(page, lab, folder):
    _, board = opened(page, lab, folder, pixel_size=0.5)
    bar = page.locator(".s2l-scale")
    expect(bar).to_have_text("20 µm")
    height = board.stage.evaluate("e => e.clientHeight")
    scale = height / SHAPE[0]
    assert bar.bounding_box()["width"] == pytest.approx(20 / 0.5 * scale, abs=1)
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    expect(bar).not_to_have_text("20 µm")


def test_without_a_pixel_size_there_is_no_scale_bar_and_a_narrow_page_clips_nothing(
    page, lab, folder, tmp_path
):
    page.set_viewport_size({"width": 620, "height": 900})
    book, board = opened(page, lab, folder, guess="work.guess();")
    book.run("guess")
    board.ready()
    expect(page.locator(".s2l-scale")).to_be_hidden()
    outside = board.element.evaluate(
        """e => { const right = e.getBoundingClientRect().right;
        const parts = [...e.querySelectorAll('button, select, input, .s2l-stage, kbd')];
        return parts.filter(p => p.getBoundingClientRect().right > right + 1).length }"""
    )
    page.screenshot(path=tmp_path / "narrow.png")
    assert outside == 0
    assert board.element.evaluate("e => e.getBoundingClientRect().right <= innerWidth")


def test_strokes_of_another_program_are_shown_and_left_alone(page, lab, folder):
    labels = np.full(SHAPE, 255, np.uint8)
    labels[20:24, 20:90], labels[60:64, 20:90] = 1, 0
    strokes = own_strokes(folder)
    text = strokes.read_text().replace(FIRST, "synthetic-fluo-009")
    strokes.write_text(text)
    (folder / "images" / "synthetic-fluo-009.png").write_bytes(
        (folder / "images" / f"{FIRST}.png").read_bytes()
    )
    Image.fromarray(labels).save(strokes.with_name(f"{FIRST}.png"))
    _, board = opened(page, lab, folder, guess="work.guess();")
    assert board.marks(unlike=(0, 0))[0] > 1000, "they are seen"
    expect(page.locator(".s2l-saved")).to_contain_text("Strokes of another program")
    before = strokes.read_bytes()
    board.draw([(100, 20), (100, 60)])
    board.page.wait_for_timeout(500)
    assert board.ink() == (0, 0) and strokes.read_bytes() == before


@pytest.mark.long
def test_where_to_draw_leads_from_image_to_image(page, lab, folder):
    book, board = opened(page, lab, folder, look="work.look();")
    book.run("look")
    board.ready()
    chooser = board.element.get_by_label("Image", exact=True)
    seen = set()
    for _ in range(12):
        page.get_by_role("button", name="Where to draw next").click()
        board.ready()
        seen.add(chooser.evaluate("e => e.selectedIndex"))
    assert len(seen) >= 3


@pytest.mark.long
def test_the_exports_link_opens_in_jupyterlab(page, lab, folder):
    home = lab[1] / "my cells"
    folder.rename(home)
    book, _ = opened(page, lab, home, export="work.guess()\nwork.export()")
    book.run("export")
    book.cell("export").get_by_role("link", name="Open counts_per_image.csv").click()
    tab = page.locator(".lm-DockPanel-tabBar .lm-TabBar-tabLabel")
    expect(tab.filter(has_text="counts_per_image.csv")).to_have_count(1)


def test_every_cell_of_the_notebook_is_short():
    notebook = nbformat.read(ROOT / "notebooks" / "08_your_images.ipynb", as_version=4)
    before = [cell.id for cell in notebook.cells if cell.cell_type == "code"]
    before = before[before.index("parameters") + 1 : before.index("first-guess")]
    lines = [
        line
        for cell in notebook.cells
        if cell.id in before
        for line in cell.source.splitlines()
        if line.strip()
    ]
    assert len(lines) <= 6, "what comes before the first stroke"
