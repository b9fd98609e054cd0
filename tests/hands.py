"""The hands of whoever works in JupyterLab: what tests in a real browser share.

`S2L_SCREENSHOTS=docs` renews docs/screenshots/,
docs/browser_run.md and docs/widget_timing.md; without it nothing is written there.
"""

import os
import re
import shutil
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import expect

from conftest import ROOT
from s2l_images.strokes import read_strokes

WANTED = os.environ.get("S2L_BROWSER") != "0"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None) if WANTED else None
REASON = (
    "no Chromium, or S2L_BROWSER=0: the drawing widget, notebooks 00 and 08 and the site were not"
    " opened"
)
PATIENCE = 300_000  # milliseconds: machines that run tests are busy with other things
# a cell's error, or a warning
ERROR = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'
# scikit-learn warns by chance where several threads predict; harmless
RACE = "sklearn.utils.parallel.delayed"
LISTENING = """() => {
    const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
    const kernel = context?.session?.kernel;
    return context?.isReady && kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""
WATCH_RESTART = """() => {
    window.restarted = false;
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    kernel.statusChanged.connect((_, status) => {
        if (/restarting/.test(status)) window.restarted = true;
    });
}"""
OBSERVE = """prompt => {
    prompt.dataset.changed = "no";
    const seen = new MutationObserver(() => (seen.disconnect(), (prompt.dataset.changed = "yes")));
    seen.observe(prompt, { childList: true, characterData: true, subtree: true });
}"""
# what is asked for is drawn at the next frame; the one after that has seen it
DRAWN = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
AT_REST = f"""async (element) => {{
    element.scrollIntoView({{ block: "center" }});
    for (let before, now; before !== now || now === undefined; ) {{
        before = now;
        {DRAWN}
        now = element.getBoundingClientRect().top;
    }}
}}"""
PIXELS = f"""async (stage, layer) => {{
    {DRAWN}
    const canvas = stage.querySelectorAll("canvas")[layer];
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0, sum = 0;
    for (let i = 3; i < data.length; i += 4) if (data[i] > 10) {{
        count++;
        sum = (sum * 31 + i + data[i]) % 1e9;
    }}
    return [count, sum];
}}"""


@contextmanager
def open_page(browser, folder):
    """A page that must not report a single error; leaves a picture of its end in `folder`."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page, errors = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
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
        self.page.wait_for_function(LISTENING)
        self.page.evaluate("jupyterapp.shell.collapseLeft()")  # room for lines of code

    def cell(self, name):
        return self.page.locator(".jp-Notebook .jp-Cell").nth(self.ids.index(name))

    def start(self, name):
        """Selects a cell and presses Shift + Enter, which shows in its prompt,
        be the next number the old one.
        """
        prompt = self.cell(name).locator(".jp-InputPrompt")
        prompt.evaluate(OBSERVE)
        prompt.click()
        self.page.keyboard.press("Shift+Enter")
        expect(prompt).to_have_attribute("data-changed", "yes")

    def finish(self, name):
        expect(self.cell(name).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"))
        errors = self.cell(name).locator(ERROR).filter(has_not_text=RACE)
        assert errors.count() == 0, f"cell {name}: {errors.first.inner_text()}"

    def run(self, *names):
        for name in names:
            self.start(name)
            self.finish(name)

    def reload(self, shown):
        """Loads the page anew, until a widget of it is shown again.

        JupyterLab gives a kernel four seconds to tell of its widgets ("Control comm did not respond
        in time"). Where a machine is too busy for that, a person loads the page once more.
        """
        for _ in range(5):
            self.page.reload()
            self.ready()
            try:
                expect(self.page.locator(shown).first).to_be_visible(timeout=45_000)
            except AssertionError:
                continue
            return
        raise AssertionError(f"{shown} was not shown again after five reloads")

    def restart(self):
        """A fresh kernel, by the keyboard."""
        self.page.evaluate(WATCH_RESTART)
        self.page.locator(".jp-Notebook .jp-InputPrompt").first.click()
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("0")
        self.page.keyboard.press("0")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        expect(self.page.locator(".jp-Dialog")).to_have_count(0)
        self.page.wait_for_function("window.restarted")
        self.ready()

    def save(self):
        """Ctrl + S, and what is on the screen is on disk."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function("!jupyterapp.shell.currentWidget.context.model.dirty")


class Board:
    """The drawing widget of a notebook."""

    def __init__(self, notebook, shape, file):
        self.page, self.shape, self.file = notebook.page, shape, Path(file)
        self.element = self.page.locator(".s2l-scribbler")
        self.stage = self.page.locator(".s2l-stage")

    def ready(self):
        expect(self.page.locator(".s2l-busy")).to_be_hidden(timeout=PATIENCE)
        self.stage.evaluate(AT_REST)

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

    def overlay(self, unlike=None):
        """The same of the overlay; waits until it is no longer what it was, where that is given."""
        return self.changed(1, unlike)

    def marks(self, unlike=None):
        """The same of outlines and circles."""
        return self.changed(3, unlike)

    def changed(self, layer, unlike):
        until = time.monotonic() + PATIENCE / 1000
        while (found := self.pixels(layer)) == unlike:
            assert time.monotonic() < until, f"canvas {layer} stays as it was"
        return found

    def pixels(self, layer):
        return tuple(self.stage.evaluate(PIXELS, layer))

    def saved(self, seconds=PATIENCE / 1000, **counts):
        """Waits until the file holds so many strokes of each image."""
        # The page may not have taken the last stroke yet, and then still says what it said before.
        until = time.monotonic() + seconds
        while True:
            said = self.page.locator(".s2l-saved")
            expect(said).to_have_text("Saved", timeout=seconds * 1000)
            held = {i: len(strokes) for i, strokes in read_strokes(self.file).items()}
            if held == counts:
                return
            assert time.monotonic() < until, f"the file holds {held}, not {counts}"
            self.page.wait_for_timeout(50)


class Diary:
    """What a person did, saw and waited for: printed as it happens,
    and kept for the documentation.
    """

    def __init__(self, page, steps):
        self.began, self.rows, self.pictures, self.errors = time.monotonic(), [], [], 0
        self.browser, self.steps = page.context.browser.version, steps
        page.on("console", self._count)

    def _count(self, message):
        self.errors += message.type == "error"

    def note(self, what, picture=None):
        seconds = time.monotonic() - self.began
        self.rows.append(f"| {seconds:.0f} | {what} |")
        if picture:
            self.pictures.append(f"## {what}\n\n![{what}](screenshots/{picture}.png)")
        print(f"{seconds:6.1f} s  {what}")

    def write(self, name):
        """Into the folder of the documentation, where pictures are wanted at all."""
        if folder := os.environ.get("S2L_SCREENSHOTS"):
            text = DIARY.format(diary=self, lab=version("jupyterlab"), rows="\n".join(self.rows))
            (ROOT / folder / f"{name}.md").write_text("\n\n".join([text, *self.pictures]) + "\n")


DIARY = """# Walk-through of notebook 08

Written by `tests/images/test_browser.py`, which drives JupyterLab {lab} in headless Chromium
{diary.browser} by mouse and keyboard, on 2 cores that were busy with other work; a quiet machine
needs less time. Two images of real cells, a round of {diary.steps} steps, a second round stopped.
The test waited for each line of the table and checked it. The console reported
{diary.errors} errors.

| seconds | what was done and seen |
|---|---|
{rows}

## What a reload brings back

A round learns in a background thread while its cell has already ended. So the kernel can answer a
page that is reloaded: the board, its strokes with undo, the outlines, the progress of the round and
its latest picture come back, and strokes are on disk in any case
(`tests/images/test_board_alive.py`). JupyterLab itself restores what was last saved of a notebook;
outputs that came later are lost. While a cell waits for a round, as in *Run All*, the open page
stays alive, and a reloaded page shows the board once that cell has ended. A notebook that is opened
without its kernel shows a picture of the board; where JupyterLab does not trust the notebook, its
note that a model is missing stands below."""


def shoot(page, name, *, part=None, height=None):
    """A screenshot for the documentation, with a palette that keeps rare colours:
    a third of the size.
    """
    if not (folder := os.environ.get("S2L_SCREENSHOTS")):
        return
    target = ROOT / folder / "screenshots" / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    (part or page).screenshot(path=target)
    Image.open(target).convert("RGB").quantize(
        256, Image.Quantize.MAXCOVERAGE, 3, dither=Image.Dither.NONE
    ).save(target, optimize=True)
    assert target.stat().st_size <= 200_000


def theme(page, name):
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
    page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)
    page.mouse.move(640, 300)


def board_notebook(code):
    new = nbformat.v4
    return new.new_notebook(
        cells=[new.new_code_cell(text, id=name) for name, text in code.items()],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
