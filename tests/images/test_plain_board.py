"""What the board itself promises, in a page without JupyterLab: undo across a reload, and frames of
a large image with a prediction and outlines.
"""

import os
import statistics

import numpy as np
import pytest
from plain_board import plain_board
from playwright.sync_api import expect

from conftest import ROOT
from hands import CHROMIUM, REASON
from s2l_core.images import CellImage
from s2l_images.board.widget import Scribbler
from s2l_images.strokes import read_strokes
from s2l_paper.data.datasets import load_dataset

pytest_plugins = ["browsing"]  # its fixtures
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=REASON)

SIDE, SIDE_OF_LARGE = 128, 4096


@pytest.fixture
def scribbler(tmp_path):
    """A board with one image, and nothing drawn."""
    cells = load_dataset("synthetic-fluo", images=1, image_size=SIDE)
    return Scribbler(cells, tmp_path / "strokes.json")


def test_a_reload_takes_no_undo_away(browser, tmp_path, scribbler):
    (image,) = scribbler.cells
    with plain_board(browser, tmp_path, scribbler) as opened:
        board = opened.hands((SIDE, SIDE))
        blank = board.ink()
        board.draw([(20, 20), (20, 60)])
        board.draw([(40, 20), (40, 60)])
        board.saved(**{image: 2})

        opened.page.reload()
        board.ready()
        board.stage.click(button="middle")  # the keys belong to the board
        board.press("z")
        board.saved(**{image: 1})
        board.press("z")
        expect(opened.page.get_by_role("button", name="Undo")).to_be_disabled()
        assert board.ink() == blank and read_strokes(board.file).get(image, []) == []
        board.press("Shift+Z")
        board.saved(**{image: 1})


TIMER = """
(() => {
  const add = EventTarget.prototype.addEventListener;
  window.handlers = [];
  EventTarget.prototype.addEventListener = function (type, listener, options) {
    const counts = ["pointermove", "wheel"].includes(type) && this.classList?.contains("s2l-stage");
    const timed = !counts ? listener : function (event) {
      const began = performance.now();
      listener.call(this, event);
      window.handlers.push(performance.now() - began);
    };
    return add.call(this, type, timed, options);
  };
  window.frames_ = [];
  let last;
  const tick = (now) => { if (last) window.frames_.push(now - last); last = now; requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
})()
"""
REPORT = """# How fast the drawing widget is

Measured by `tests/images/test_plain_board.py` in headless Chromium without a graphics card, on an image
of {side} x {side} pixels with a prediction over it and {objects:,} objects outlined, in a stage
of {stage[0]} x {stage[1]}. The handler is all that an event of pointer or wheel costs; the frame is the time between
two pictures, on two cores that were doing other work as well.

{table}
"""


@pytest.fixture(scope="module")
def large():
    """An image of 4096 x 4096 made of tiles, and its objects, all apart."""
    tile = load_dataset("synthetic-fluo", images=1, image_size=512)[0]
    count, most = SIDE_OF_LARGE // 512, int(tile.instances.max())
    image = np.tile(tile.image, (count, count, 1))  # (4096, 4096, 3)
    objects = np.tile(tile.instances.astype(np.int32), (count, count))  # (4096, 4096)
    rows, columns = np.indices((count, count)).repeat(512, axis=1).repeat(512, axis=2)
    objects[objects > 0] += ((rows * count + columns) * most)[objects > 0]
    return CellImage("large", image, None), objects


@pytest.mark.long
def test_large_images_stay_fluid(browser, tmp_path, large):
    cell, objects = large
    side = SIDE_OF_LARGE
    scribbler = Scribbler([cell], tmp_path / "strokes.json")
    scribbler.outline("Forest", lambda image, threshold: objects, 0.5)
    scribbler.show("large", prediction=(objects > 0).astype(np.float32))
    with plain_board(browser, tmp_path, scribbler, TIMER) as opened:
        page, board = opened.page, opened.hands((side, side))
        page.wait_for_function("document.querySelector('.s2l-bar select:not(:disabled)')")
        assert board.marks()[0] > 1000, "the outlines are drawn"
        rng = np.random.default_rng(0)

        def measured(act):
            page.wait_for_timeout(500)
            page.evaluate("() => { window.handlers.length = 0; window.frames_.length = 0 }")
            act()
            return page.evaluate("[window.handlers, window.frames_]")

        def strokes(count=10):
            for _ in range(count):
                start = rng.uniform(200, side - 200, 2)
                board.draw([start + rng.uniform(-150, 150, 2) for _ in range(5)])

        def move():
            page.keyboard.down(" ")
            board.draw([rng.uniform(side * 0.3, side * 0.7, 2) for _ in range(20)])
            page.keyboard.up(" ")

        def zoom():
            page.mouse.move(*board.at(side // 2, side // 2))
            for turn in (-100,) * 15 + (100,) * 15:
                page.mouse.wheel(0, turn)
                page.wait_for_timeout(20)

        times = {
            "at rest": measured(lambda: page.wait_for_timeout(2000)),
            "drawing": measured(strokes),
        }
        board.saved(large=10)
        board.press("e")
        times["erasing"] = measured(strokes)
        times["moving"] = measured(move)
        times["zooming"] = measured(zoom)
        # A view that moved shows its outlines as a picture; once it rests they are drawn anew.
        page.wait_for_function("!document.querySelector('.s2l-marks').style.transform")
        assert board.marks()[0] > 1000
        lines = [
            "| what | handler, median (ms) | 95 % | frame, median (ms) | 95 % |",
            "|---|---|---|---|---|",
        ]
        for what, (handlers, frames) in times.items():
            cells = [
                f"{f(values):.1f}" if values else ""
                for values in (handlers, frames)
                for f in (statistics.median, high)
            ]
            lines.append(f"| {what} | {' | '.join(cells)} |")
        stage = board.stage.evaluate("e => [e.clientWidth, e.clientHeight]")
        report = REPORT.format(
            side=side, objects=len(np.unique(objects)) - 1, stage=stage, table="\n".join(lines)
        )
        print(report)
        if folder := os.environ.get("S2L_SCREENSHOTS"):
            (ROOT / folder / "widget_timing.md").write_text(report)
        for what in ("drawing", "erasing", "moving", "zooming"):
            handlers, frames = times[what]
            assert len(handlers) >= 20 and frames, what
            assert statistics.median(handlers) < 25, f"{what}: long enough to walk over every pixel"


def high(values):
    return float(np.percentile(values, 95))
