"""What a watcher sees of a training: one line in place, or few plain ones."""

import sys
import types
from math import nan

import pytest

from s2l_core.config import RunConfig
from s2l_images import progress
from s2l_images.progress import LINES_OF_STAGE, PLAIN, Progress, time_left

WARM = {"stage": "warm-up", "loss": 0.5, "labels": 0.5}
MAIN = {"stage": "main", "loss": 1.5, "labels": 0.25, "pseudo": 0.25, "r4": 1.0}


def shown(warmup: int, main: int) -> Progress:
    """Of a training on a folder called cells."""
    config = RunConfig("cells", "s2l", profile="smoke", warmup_steps=warmup, main_steps=main)
    return Progress(config)


@pytest.mark.parametrize(
    ("accuracy", "said"), [(0.9, "pseudo-labels on 62%, 90% right"), (nan, "pseudo-labels on 62%")]
)
def test_plain_lines_are_few_and_say_all(monkeypatch, capsys, accuracy, said):
    monkeypatch.setenv(PLAIN, "1")
    show = shown(8, 80)
    for step in range(1, 9):
        show({"step": step} | WARM)
    for step in range(9, 89):
        covered = {"coverage": 0.625, "accuracy": accuracy} if step == 33 else {}
        show({"step": step} | MAIN | covered)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * LINES_OF_STAGE
    assert lines[7].startswith("cells s2l: step 8/8, 0 s left, loss 0.50")

    lines = lines[LINES_OF_STAGE:]  # of the main stage
    assert lines[0].startswith("cells s2l: step 18/88, ")
    assert lines[0].endswith(" s left, loss 1.50 = labels 0.25 + pseudo 0.25 + r4 1.00")
    assert "pseudo-labels" not in lines[1] and lines[-1].endswith(said), "coverage stays in sight"
    assert lines[-1].startswith("cells s2l: step 88/88, 0 s left, ")


def test_one_term_is_not_repeated(monkeypatch, capsys):
    monkeypatch.setenv(PLAIN, "1")
    shown(4, 1)({"step": 4, "validation_iou": 0.5} | WARM)
    assert capsys.readouterr().out.startswith(
        "cells s2l: step 4/4, 0 s left, loss 0.50, validation IoU 0.500"
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
    show = shown(1, 4)
    for step in (3, 4, 5):  # after a resume
        show({"step": step} | MAIN)
    (bar,) = bars
    assert (bar.options["total"], bar.options["initial"]) == (5, 2)
    assert bar.done == 3 and bar.closed
    assert bar.notes[-1] == "loss 1.50 = labels 0.25 + pseudo 0.25 + r4 1.00"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("until", [1, 3, 7, 8, 9, 1000])
def test_never_more_lines_than_a_page_can_bear(monkeypatch, capsys, until):
    monkeypatch.setenv(PLAIN, "1")
    show = shown(until, 1)
    for step in range(1, until + 1):
        show({"step": step} | WARM)
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) < 2 * LINES_OF_STAGE
    assert lines[-1].startswith(f"cells s2l: step {until}/{until}")


def test_a_notebook_gets_a_bar_without_a_terminal(monkeypatch, capsys):
    monkeypatch.delenv(PLAIN, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    show = shown(1, 1)
    show({"step": 1} | WARM)
    assert show.bar is not None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "done"),
        (7, "a few seconds left"),
        (33, "about 30 seconds left"),
        (58, "about a minute left"),
        (89, "about a minute left"),
        (130, "about 2 minutes left"),
        (3100, "about 52 minutes left"),
    ],
)
def test_time_is_said_as_people_say_it(seconds, said):
    assert time_left(seconds) == said


def test_who_draws_reads_no_losses(monkeypatch, capsys):
    monkeypatch.setenv(PLAIN, "1")
    config = RunConfig("cells", "s2l", profile="smoke", warmup_steps=4, main_steps=1)
    Progress(config, losses=False)({"step": 4} | WARM)
    assert capsys.readouterr().out == "cells s2l: step 4/4, done\n"
    told = []
    Progress(config, report=lambda *said: told.append(said))({"step": 2} | WARM)
    assert told == [("step 2 of 4, a few seconds left", 0.5)] and not capsys.readouterr().out
