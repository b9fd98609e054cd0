"""The board in a page of its own, without JupyterLab: quick to open, to reload and to measure.

The page has the widget's own script and style. What it says to its kernel reaches a `Scribbler` in
this process, and what that answers goes back.
"""

import base64
from contextlib import contextmanager

from hands import Board, open_page
from s2l_images.board.widget import Scribbler

ADDRESS = "http://board.test/"  # answered by the test itself: nothing leaves the machine
PAGE = """<!doctype html>
<link rel="stylesheet" href="widget.css">
<div id="board" style="width: 1000px"></div>
<script type="module">
import widget from "./widget.js";

const listeners = new Map();
const tell = (event, ...values) => (listeners.get(event) ?? []).forEach((hear) => hear(...values));
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
let state = {}, changed = {};

async function ask(values, message) {
  const answer = await window.askKernel(values, message);
  const before = state;
  state = answer.state;
  for (const name of Object.keys(state))
    if (JSON.stringify(before[name]) !== JSON.stringify(state[name])) tell(`change:${name}`);
  for (const [content, buffers] of answer.messages) tell("msg:custom", content, buffers.map(bytes));
}

const model = {
  get: (name) => state[name],
  set: (name, value) => (changed[name] = value),
  on: (events, hear) => events.split(" ").forEach(
    (event) => listeners.set(event, [...(listeners.get(event) ?? []), hear])),
  off: () => {},
  send: (message) => ask({}, message),
  save_changes: () => { const values = changed; changed = {}; return ask(values, null); },
};
await ask({}, null);
const board = widget();
await board.initialize({ model });
board.render({ model, el: document.getElementById("board") });
</script>
"""
TRAITS = ("images", "index", "message", "key", "answer", "threshold", "status", "share")


class OnePage:
    """A `Scribbler` and the page that shows it."""

    def __init__(self, page, board: Scribbler, script: str):
        self.page, self.board, self.said = page, board, []
        board.send = lambda content, buffers=(): self.said.append((content, buffers))
        page.expose_function("askKernel", self._answer)
        page.add_init_script(script)
        page.route(f"{ADDRESS}**", self._serve)
        page.goto(ADDRESS)

    def hands(self, shape) -> Board:
        """Whoever draws on it, an image of this shape."""
        hands = Board(self, shape, self.board.file)
        hands.ready()
        return hands

    def _answer(self, values, message):
        for name, value in values.items():
            setattr(self.board, name, value)
        if message:
            self.board._receive(None, message, [])
        said, self.said = self.said, []
        messages = [
            [content, [base64.b64encode(part).decode() for part in buffers]]
            for content, buffers in said
        ]
        state = {name: getattr(self.board, name) for name in TRAITS}
        return {"state": state, "messages": messages}

    def _serve(self, route):
        name = route.request.url.removeprefix(ADDRESS)
        source = {"widget.js": Scribbler._esm, "widget.css": Scribbler._css}.get(name)
        kind = {"widget.js": "text/javascript", "widget.css": "text/css"}.get(name, "text/html")
        route.fulfill(body=str(source) if source else PAGE, content_type=f"{kind}; charset=utf-8")


@contextmanager
def plain_board(browser, folder, board: Scribbler, script: str = ""):
    """The page of a board; `script` runs in it before the board's own."""
    with open_page(browser, folder) as page:
        yield OnePage(page, board, script)
