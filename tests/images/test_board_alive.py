"""The board while the kernel is busy."""

import pytest
from hands import CHROMIUM, REASON, Board, Notebook, board_notebook

pytest_plugins = ["browsing"]  # its fixtures
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=REASON)]

SETUP = """
import time
from pathlib import Path
import numpy as np
from s2l_paper.datasets import load_dataset
from s2l_images.widget import Scribbler
file = Path({file!r})
cells = load_dataset("synthetic-fluo", images=2, image_size=128)
board = Scribbler(cells, file)
board
"""
BUSY = """
board.show(cells[0].id, prediction=np.zeros((128, 128)))
go = file.with_name("go")
while not go.exists():
    time.sleep(0.05)
"""


def test_a_stroke_is_on_disk_while_a_cell_runs(page, lab, tmp_path):
    file = tmp_path / "strokes.json"
    code = {"board": SETUP.format(file=str(file)), "busy": BUSY}
    book = Notebook(page, lab, board_notebook(code), "busy.ipynb")
    book.run("board")
    board = Board(book, (128, 128), file)
    board.ready()
    board.draw([(20, 20), (20, 60)])
    board.saved(**{"synthetic-fluo-000": 1})
    book.start("busy")
    page.wait_for_function("document.querySelector('.s2l-bar select:not(:disabled)')")
    board.ready()
    for number in (2, 3):
        board.draw([(20 * number, 20), (20 * number, 60)])
        board.saved(seconds=20, **{"synthetic-fluo-000": number})
    (tmp_path / "go").touch()
    book.finish("busy")
