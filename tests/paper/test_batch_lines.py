"""What a batch says while it runs: Snakemake's messages become a line for each run."""

import logging
import sys
import time

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from conftest import ROOT
from s2l_images.files import write_csv, write_json

sys.path.insert(0, str(ROOT / "workflow"))
import snakemake_logger_plugin_s2l as told  # noqa: E402


def record(event=None, level=logging.INFO, text="", **about):
    """One of Snakemake's messages."""
    found = logging.LogRecord("snakemake", level, "file", 1, text, None, None)
    vars(found).update(about, event=event)
    return found


@pytest.fixture
def folder(tmp_path):
    """A finished run, whose best weights have IoU .59 and whose last have less."""
    import pandas as pd

    rows = [("best", 0.60), ("best", 0.58), ("last", 0.20)]
    write_csv(tmp_path / "per_image.csv", pd.DataFrame(rows, columns=["checkpoint", "iou"]))
    write_json(tmp_path / "config.json", {"config": {"selection": "best"}})
    return tmp_path


@pytest.fixture
def handler(monkeypatch, folder):
    """A handler that knows a warm-up, two runs and the tables, one run being done before."""
    jobs = {
        "warm": told.Job(("Synthetic BF", "warm-up"), 60.0),
        "first": told.Job(("Synthetic BF", "S2L"), 120.0, folder),
        "second": told.Job(("Synthetic BF", "S2L + R1x1"), 120.0, folder),
        "tables": told.Job(("tables and figures",), 20.0),
    }
    monkeypatch.setattr(told, "BATCH", told.Batch(jobs, done=9, total=11))
    return told.LogHandler(None, None)


def begin(handler, number, name):
    kind = {"warm": "warmup", "tables": None}.get(name, "run")
    words = {kind: name} if kind else {}
    about = {"jobid": number, "rule_name": "tables", "wildcards": words}
    handler.emit(record(LogEvent.JOB_INFO, **about))


def test_each_run_that_ends_has_a_line(handler, capsys):
    for number, name in enumerate(("warm", "first", "second", "tables"), 1):
        begin(handler, number, name)
        handler.emit(record(LogEvent.JOB_FINISHED, job_id=number))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("          Synthetic BF  warm-up     0 s  ") and "left" in lines[0]
    assert lines[1].startswith("10 of 11  Synthetic BF  S2L         IoU .59  0 s  0 s left")
    assert lines[2].startswith("11 of 11  Synthetic BF  S2L + R1x1  IoU .59  0 s  0 s left")
    assert lines[3] == "          tables and figures  0 s"


def test_time_left_follows_the_pace(handler, capsys, monkeypatch):
    """100 seconds for a warm-up that was expected to take 60: the rest, 260, takes 433."""
    begin(handler, 1, "warm")
    began = handler.began
    monkeypatch.setattr(time, "monotonic", lambda: began + 100)
    handler.emit(record(LogEvent.JOB_FINISHED, job_id=1))
    assert capsys.readouterr().out.rstrip().endswith("7 min left")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7200, "2.0 h")],
)
def test_durations_have_two_figures(seconds, text):
    assert told.duration(seconds) == text


def test_a_run_that_fails_is_not_counted(handler, capsys):
    begin(handler, 2, "first")
    handler.emit(record(LogEvent.JOB_ERROR, logging.ERROR, "Error in rule train", jobid=2))
    for number in (2, 3):  # what it says besides: told once, at the end
        handler.emit(record(LogEvent.ERROR, logging.ERROR, f"CalledProcessError in file {number}"))
    handler.emit(record(None, logging.ERROR, "Exiting because a job execution failed. Look"))
    begin(handler, 3, "second")
    handler.emit(record(LogEvent.JOB_FINISHED, job_id=3))
    shown = capsys.readouterr()
    failed, done = shown.out.splitlines()
    assert failed.split()[:4] == ["Synthetic", "BF", "S2L", "failed"] and "IoU" not in failed
    assert done.startswith("10 of 11") and not shown.err


def test_errors_of_a_user_are_sentences_and_others_whole(handler, capsys):
    text = "S2LError in file \"/a/Snakefile\", line 40:\nMETHODS = 's3l' is not known. Choose one."
    place = '\n  File "/a/Snakefile", line 40, in <module>\n  File "/b.py", line 3, in plan'
    handler.emit(record(LogEvent.ERROR, logging.ERROR, text + place))
    handler.emit(record(LogEvent.ERROR, logging.ERROR, "MissingInputException in rule all:\nx"))
    handler.emit(record(None, logging.INFO, "Select jobs to execute..."))
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "error: METHODS = 's3l' is not known. Choose one.",
        "MissingInputException in rule all:",
        "x",
    ]
    assert not shown.out


def test_a_bar_is_drawn_where_there_is_a_terminal(handler, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    begin(handler, 2, "first")
    handler.emit(record(LogEvent.JOB_FINISHED, job_id=2))
    handler.close()
    shown = capsys.readouterr()
    assert "9 of 11 runs |" in shown.err and "10 of 11  Synthetic BF" in shown.out


def test_a_score_without_test_images_with_masks_is_left_out(tmp_path, folder):
    (folder / "per_image.csv").write_text("checkpoint,iou\n")
    assert told.score(folder) == ""
    (folder / "per_image.csv").write_text("checkpoint,iou\nlast,1.0\n")
    assert told.score(folder) == "IoU 1.00"
