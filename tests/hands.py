"""The hands of whoever works in JupyterLab: what tests in a real browser share.

`S2L_SCREENSHOTS=docs` renews docs/screenshots/ and docs/widget_timing.md; without it nothing is written there.
"""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import expect

from conftest import ROOT
from s2l_core.strokes import read_strokes

WANTED = os.environ.get("S2L_BROWSER") != "0"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None) if WANTED else None
REASON = "no Chromium, or S2L_BROWSER=0: the drawing widget and notebooks 00 and 08 were not run in a browser"
PATIENCE = 300_000  # milliseconds: machines that run tests are busy with other things
ERROR = '[data-mime-type="application/vnd.jupyter.error"]'


@contextmanager
def open_page(browser, folder):
    """A page that must not report a single error; leaves a picture of its end in `folder`."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page, errors = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=30_000)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.screenshot(path=folder / "last.png")
    context.close()
    assert errors == []


class Notebook:
    """A notebook open in JupyterLab, and the hands of whoever works with it."""

    def __init__(self, page, lab, notebook, name):
        self.page, (url, folder) = page, lab
        self.ids = [cell.id for cell in notebook.cells]
        nbformat.write(notebook, folder / name)
        self.folder = folder
        page.goto(f"{url}lab/tree/{name}?token=test&reset")
        self.ready()

    def ready(self):
        """Waits until the kernel can be asked."""
        expect(self.cell(self.ids[-1])).to_be_attached(timeout=PATIENCE)
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=PATIENCE)

    def cell(self, name):
        return self.page.locator(".jp-Notebook .jp-Cell").nth(self.ids.index(name))

    def start(self, name):
        """Selects a cell and presses Shift + Enter, as often as JupyterLab needs; returns what its number was."""
        prompt = self.cell(name).locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for _ in range(5):
            prompt.click()
            self.page.keyboard.press("Shift+Enter")
            self.page.wait_for_timeout(1000)
            if prompt.inner_text() != before:  # a kernel that is still connecting lets a run fall
                return before
        raise AssertionError(f"cell {name} does not run")

    def finish(self, name, before):
        prompt = self.cell(name).locator(".jp-InputPrompt")
        self.page.wait_for_function(
            "([element, before]) => /\\[\\d+\\]:/.test(element.innerText) && element.innerText !== before",
            arg=[prompt.element_handle(), before],
        )
        errors = self.cell(name).locator(ERROR)
        assert errors.count() == 0, f"cell {name}: {errors.first.inner_text()}"

    def run(self, *names):
        for name in names:
            self.finish(name, self.start(name))

    def restart(self):
        """A fresh kernel, by the keyboard."""
        self.page.locator(".jp-Notebook .jp-InputPrompt").first.click()
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("0")
        self.page.keyboard.press("0")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        expect(self.page.locator(".jp-Dialog")).to_have_count(0)
        self.page.wait_for_timeout(1000)
        self.ready()


class Board:
    """The drawing widget of a notebook."""

    def __init__(self, notebook, shape, file):
        self.page, self.shape, self.file = notebook.page, shape, Path(file)
        self.element = self.page.locator(".s2l-scribbler")
        self.stage = self.page.locator(".s2l-stage")

    def ready(self):
        expect(self.page.locator(".s2l-busy")).to_be_hidden(timeout=PATIENCE)
        self.stage.evaluate("e => e.scrollIntoView({block: 'center'})")
        self.page.wait_for_timeout(300)

    def at(self, row, column):
        """Where a pixel's centre is on the screen while the whole image is shown."""
        box = self.stage.evaluate(
            "e => { const b = e.getBoundingClientRect();"
            " return [b.left + e.clientLeft, b.top + e.clientTop, e.clientWidth, e.clientHeight] }"
        )
        scale = min(box[2] / self.shape[1], box[3] / self.shape[0])
        x = box[0] + (box[2] - self.shape[1] * scale) / 2 + (column + 0.5) * scale
        y = box[1] + (box[3] - self.shape[0] * scale) / 2 + (row + 0.5) * scale
        return x, y

    def draw(self, points):
        first, *rest = [self.at(*point) for point in points]
        self.page.mouse.move(*first)
        self.page.mouse.down()
        for point in rest:
            self.page.mouse.move(*point, steps=4)
        self.page.mouse.up()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def ink(self):
        """How many pixels of the screen carry ink, and a number that changes with any of them."""
        return self.pixels(2)

    def overlay(self):
        return self.pixels(1)

    def pixels(self, layer):
        self.page.wait_for_timeout(200)
        return tuple(
            self.stage.evaluate(
                """(stage, layer) => {
                    const canvas = stage.querySelectorAll("canvas")[layer];
                    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                    let count = 0, sum = 0;
                    for (let i = 3; i < data.length; i += 4) if (data[i] > 10) {
                        count++;
                        sum = (sum * 31 + i + data[i]) % 1e9;
                    }
                    return [count, sum];
                }""",
                layer,
            )
        )

    def saved(self, **counts):
        """Waits until the file holds so many strokes of each image."""
        expect(self.page.locator(".s2l-saved")).to_have_text("Saved", timeout=PATIENCE)
        assert {i: len(strokes) for i, strokes in read_strokes(self.file).items()} == counts


def shoot(page, name, *, part=None, height=None):
    """A screenshot for the documentation, with a palette: a third of the size, the same to the eye."""
    if not (folder := os.environ.get("S2L_SCREENSHOTS")):
        return
    target = ROOT / folder / "screenshots" / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    (part or page).screenshot(path=target)
    Image.open(target).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    assert target.stat().st_size <= 300_000


def theme(page, name):
    page.locator(".lm-MenuBar-itemLabel", has_text="Settings").click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Theme$")).hover()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{name}$")).click()
    page.wait_for_timeout(1500)
    page.mouse.move(640, 300)


def board_notebook(code):
    new = nbformat.v4
    return new.new_notebook(
        cells=[new.new_code_cell(text, id=name) for name, text in code.items()],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
