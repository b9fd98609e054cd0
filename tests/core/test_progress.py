"""What a watcher sees of a training: one line in place, or few plain ones."""

import sys
import types
from math import nan

import pytest

from s2l_core import progress
from s2l_core.progress import LINES_OF_STAGE, PLAIN, Progress

WARM = {"stage": "warm-up", "loss": 0.5, "labels": 0.5}
MAIN = {"stage": "main", "loss": 1.5, "labels": 0.25, "pseudo": 0.25, "r4": 1.0}


@pytest.mark.parametrize(
    ("accuracy", "said"), [(0.9, "pseudo-labels on 62%, 90% right"), (nan, "pseudo-labels on 62%")]
)
def test_plain_lines_are_few_and_say_all(monkeypatch, capsys, accuracy, said):
    monkeypatch.setenv(PLAIN, "1")
    bar = Progress("cells s2l", 0, 80)
    for step in range(1, 81):
        bar.show(
            {"step": step}
            | MAIN
            | ({"coverage": 0.625, "accuracy": accuracy} if step == 25 else {})
        )
    bar.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == LINES_OF_STAGE
    assert lines[0].startswith("cells s2l: step 10/80, ")
    assert lines[0].endswith(" s left, loss 1.50 = labels 0.25 + pseudo 0.25 + r4 1.00")
    assert "pseudo-labels" not in lines[1] and lines[-1].endswith(said), "coverage stays in sight"
    assert lines[-1].startswith("cells s2l: step 80/80, 0 s left, ")


def test_one_term_is_not_repeated(monkeypatch, capsys):
    monkeypatch.setenv(PLAIN, "1")
    Progress("x", 3, 4).show({"step": 4, "validation_iou": 0.5} | WARM)
    assert capsys.readouterr().out.startswith(
        "x: step 4/4, 0 s left, loss 0.50, validation IoU 0.500"
    )


def test_a_watcher_gets_one_bar_and_no_lines(monkeypatch, capsys):
    monkeypatch.delenv(PLAIN, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bars = []

    class Bar:
        def __init__(self, **options):
            bars.append(self)
            self.options, self.notes, self.done = options, [], 0

        def set_postfix_str(self, text, refresh):
            self.notes.append(text)

        def update(self, steps):
            self.done += steps

        def close(self):
            self.closed = True

    monkeypatch.setattr(progress, "tqdm", Bar)
    bar = Progress("x", 2, 5)
    for step in (3, 4, 5):
        bar.show({"step": step} | MAIN)
    bar.close()
    (shown,) = bars
    assert (
        shown.options["total"] == 5
        and shown.options["initial"] == 2
        and shown.done == 3
        and shown.closed
    )
    assert shown.notes[-1] == "loss 1.50 = labels 0.25 + pseudo 0.25 + r4 1.00"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("until", [1, 3, 7, 8, 9, 1000])
def test_never_more_lines_than_a_page_can_bear(monkeypatch, capsys, until):
    monkeypatch.setenv(PLAIN, "1")
    bar = Progress("x", 0, until)
    for step in range(1, until + 1):
        bar.show({"step": step} | WARM)
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) < 2 * LINES_OF_STAGE and lines[-1].startswith(f"x: step {until}/{until}")


def test_a_notebook_gets_a_bar_without_a_terminal(monkeypatch, capsys):
    monkeypatch.delenv(PLAIN, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    bar = Progress("x", 0, 1)
    assert bar.bar is not None
    bar.show({"step": 1} | WARM)
    bar.close()
    assert capsys.readouterr().out == ""
