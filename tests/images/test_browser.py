"""Notebooks in JupyterLab in a real browser: one's own images from the first stroke to the export,
and the tour.
"""

import os
import re
import time

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from conftest import ROOT
from hands import CHROMIUM, ERROR, PATIENCE, REASON, Board, Diary, Notebook, shoot, theme
from s2l_images.places import own_results, own_strokes
from s2l_images.strokes import read_strokes
from s2l_images.taken_home import COUNTS_FILE
from s2l_paper.data.datasets import load_dataset, splits
from s2l_paper.scribbles.annotators import SimulatedAnnotator

SHOWN = bool(os.environ.get("S2L_SCREENSHOTS"))
STEPS = 48 if SHOWN else 24  # pictures should show what a round is good for

pytest_plugins = ["browsing"]  # its fixtures
pytestmark = [pytest.mark.long, pytest.mark.skipif(CHROMIUM is None, reason=REASON)]


def two_images():
    """Artificial ones; for pictures real ones."""
    if not SHOWN:
        return load_dataset("synthetic-fluo", images=3, image_size=192)[1:]
    return load_dataset("dsb-fluo", ids=splits("dsb-fluo", 0).train[:8:7])


def test_a_person_segments_images_of_their_own(page, lab, tmp_path):  # noqa: PLR0915 one walk
    cells = two_images()
    home = tmp_path / "my cells"
    (home / "images").mkdir(parents=True)
    for name, cell in zip("ab", cells, strict=True):
        Image.fromarray(cell.image).save(home / "images" / f"{name}.png")
    notebook = nbformat.read(ROOT / "notebooks" / "08_your_images.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if cell.id == "parameters")
    correct = next(cell for cell in notebook.cells if cell.id == "correct")
    for cell, old, new in (
        (parameters, 'folder = ""', f"folder = {str(home)!r}"),
        (parameters, "steps = 72", f"steps = {STEPS}"),
        (parameters, "threads = 0", "threads = 1"),  # two crawl where a machine has much to do
        (correct, "go_on(steps,", "go_on(6000,"),  # long enough to be interrupted, however late
    ):
        assert old in cell.source
        cell.source = cell.source.replace(old, new)
    diary = Diary(page, STEPS)
    book = Notebook(page, lab, notebook, "08_your_images.ipynb")
    diary.note("Notebook 08 is open, its kernel listens")
    book.run("parameters", "setup", "draw")
    board = Board(book, cells[0].image.shape[:2], own_strokes(home))
    board.ready()
    diary.note("The first image can be drawn on")

    # nothing is drawn yet: one sentence says so
    book.start("first-guess")
    expect(book.cell("first-guess").locator(ERROR)).to_have_text(
        re.compile(r"^\s*S2LError: no background scribble .*Draw some\.\s*$")
    )
    board.ready()
    diary.note("Training with nothing drawn is refused in one sentence, which says what to draw")

    # draw on the first image, by the strokes of the simulated annotator; undo one, redo it,
    # undo it again
    strokes = SimulatedAnnotator(0, 0.4).strokes(cells[0].instances, key="a")
    chosen = [s for s in strokes if s.label][:4] + [s for s in strokes if not s.label][:4]
    for number, stroke in enumerate(chosen, 1):
        page.get_by_role("button", name=("Background", "Foreground")[stroke.label]).click()
        page.get_by_label("Brush width in pixels").fill(f"{stroke.width:.0f}")
        board.draw(stroke.points)
        board.saved(a=number)
    before = board.ink()
    board.press("z")
    board.saved(a=7)
    assert board.ink()[0] < before[0]
    board.press("Shift+Z")
    board.saved(a=8)
    assert board.ink()[0] == pytest.approx(before[0], rel=0.005)
    board.press("z")
    board.saved(a=7)
    for drawn, meant in zip(read_strokes(board.file)["a"], chosen, strict=False):
        assert drawn.label == meant.label
        assert np.abs(np.subtract(drawn.points[0], meant.points[0])).max() <= 0.6, (
            "a stroke lies where it was drawn"
        )
    shoot(page, "08_draw_light")
    diary.note(
        "Eight strokes are drawn, one undone, redone and undone again; all are saved",
        "08_draw_light",
    )

    # the second image, then back
    expect(page.locator(".s2l-left")).to_have_text("1 of 2 drawn on")
    board.press(".")
    expect(page.locator(".s2l-left")).to_have_text(
        "1 of 2 drawn on · here still without foreground and background", timeout=PATIENCE
    )
    board.ready()
    for stroke in [
        next(s for s in SimulatedAnnotator(0, 0.4).strokes(cells[1].instances) if s.label == k)
        for k in (1, 0)
    ]:
        board.press("fb"[1 - stroke.label])
        board.draw(stroke.points)
    board.saved(a=7, b=2)
    expect(page.locator(".s2l-left")).to_have_text("All 2 drawn on")
    board.press(",")
    board.ready()
    diary.note("The second image carries two strokes; nothing is left to do")

    # a first answer from the forest: outlined, counted, and a veil for who asks for it
    assert board.marks() == board.overlay() == (0, 0)
    began = time.monotonic()
    book.run("first-guess")
    said = page.locator(".s2l-answer")
    expect(said).to_have_text(re.compile(r"Forest: \d+ nuclei here, \d+ in all 2 images"))
    outlined = board.marks(unlike=(0, 0))
    assert outlined[0] > 300
    seconds = time.monotonic() - began
    book.cell("draw").evaluate("e => e.scrollIntoView({block: 'start'})")
    shoot(page, "08_first_answer")
    diary.note(
        f"The random forest's nuclei are outlined, {seconds:.1f} seconds after it was asked for",
        "08_first_answer",
    )
    page.get_by_label("Overlay", exact=True).select_option("prediction")
    forest = board.overlay(unlike=(0, 0))
    assert forest[0] > 1000

    # the network learns in the background: its cell has ended, and the board says how far it is
    book.run("refine")
    status = page.locator(".s2l-status")
    expect(status).to_contain_text(re.compile(r"step \d+ of \d+, .* left"), timeout=PATIENCE)
    panel = book.cell("refine").locator(".widget-vbox")
    expect(panel.locator("img")).to_be_visible()
    panel.evaluate("e => e.scrollIntoView({block: 'center'})")
    shoot(page, "08_training")
    diary.note("The network learns, and its present answer for one image is shown", "08_training")
    expect(status).to_contain_text("Round 1: ", timeout=PATIENCE)
    expect(panel).to_contain_text("Round 1: ")
    board.ready()
    network = board.overlay(unlike=forest)
    assert network[0] > 1000
    diary.note(f"The round of {STEPS} steps is done, and the mask is another than the forest's")
    page.get_by_label("Overlay", exact=True).select_option("pseudo_labels")
    page.get_by_label("Opacity of the overlay, in percent").fill("90")
    expect(page.locator(".s2l-overlay")).to_have_css("opacity", "0.9")
    assert board.overlay(unlike=network)[0] > 1000
    shoot(page, "08_pseudo_labels_light")
    diary.note("Pseudo-labels lie over the image, at an opacity of 90 %", "08_pseudo_labels_light")

    # where it is unsure, and where to draw next
    book.run("look")
    board.ready()
    page.get_by_label("Overlay", exact=True).select_option("uncertainty")
    board.overlay(unlike=network)
    shoot(page, "08_uncertainty_light")
    diary.note(
        "Uncertainty lies over the image, with circles where to draw next", "08_uncertainty_light"
    )
    whole = board.ink()
    page.get_by_role("button", name="Where to draw next").click()
    assert board.ink() != whole, "it leads there"
    shoot(page, "08_where_next", part=board.element)
    diary.note("The button leads to the first of these places", "08_where_next")
    theme(page, "JupyterLab Dark")
    board.ready()
    page.get_by_role("button", name="Show the whole image").click()
    shoot(page, "08_uncertainty_dark")
    diary.note("The same in JupyterLab's dark theme", "08_uncertainty_dark")

    # the page is reloaded, with a kernel that lives on
    page.keyboard.press("Escape")
    book.cell("look").locator(".jp-InputPrompt").click()
    book.save()
    book.reload(".s2l-stage")
    board.ready()
    assert board.ink()[0] > 1000, "strokes are gone after a reload"
    board.saved(a=7, b=2)
    shoot(page, "08_draw_dark")
    diary.note("The page was reloaded; all strokes are there", "08_draw_dark")

    # a second round is stopped, and what it learned is kept
    book.run("correct")
    expect(status).to_contain_text("step ", timeout=PATIENCE)
    board.element.get_by_role("button", name="Stop").click()
    expect(status).to_contain_text("what was learned is kept", timeout=PATIENCE)
    diary.note("A second round was stopped on the board; what it learned is kept")

    book.run("export", "asserts", "summary")
    book.cell("export").evaluate("e => e.scrollIntoView({block: 'start'})")
    shoot(page, "08_export_dark")
    book.cell("summary").evaluate("e => e.scrollIntoView({block: 'end'})")
    shoot(page, "08_result_dark")
    exported = {path.name for path in (own_results(home) / "export").iterdir()}
    four = {f"{name}.{suffix}" for name in "ab" for suffix in ("tif", "zip", "geojson", "csv")}
    assert exported == four | {"predicted.jsonl", COUNTS_FILE}
    expect(book.cell("export")).to_contain_text(str(own_results(home) / "export"))
    assert (own_results(home) / "model.safetensors").exists()
    diary.note(
        "Both images are exported: label TIFF, ImageJ ROIs, GeoJSON and a table each",
        "08_export_dark",
    )
    diary.note("The nuclei found, outlined", "08_result_dark")

    # the kernel is restarted
    book.restart()
    book.run("parameters", "setup", "draw")
    board.ready()
    assert board.ink()[0] > 1000, "strokes are gone after a restart"
    diary.note("The kernel was restarted; all strokes are there")
    diary.write("browser_run")
    theme(page, "JupyterLab Light")


def test_the_tour_runs_from_top_to_bottom(page, lab):
    notebook = nbformat.read(ROOT / "notebooks" / "00_tour.ipynb", as_version=4)
    book = Notebook(page, lab, notebook, "00_tour.ipynb")
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
    last = book.cell(book.ids[-1]).locator(".jp-InputPrompt")
    expect(last).to_have_text(re.compile(r"\[\d+\]:"), timeout=3 * PATIENCE)
    assert page.locator(ERROR).count() == 0
    assert page.locator(".jp-Notebook img").count() >= 6
    book.cell("averaged").scroll_into_view_if_needed()
    shoot(page, "00_tour")
