"""papermill itself, without our wrapper: parameters given as text, and words that are misspelt."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from s2l_core.config import RunConfig, S2LError
from s2l_paper import paths
from s2l_paper.running import notebooks, planning


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"pair_target": "and"}, {"pair_target": "and"}),
        ('{"pair_target": "and", "subset": true}', {"pair_target": "and", "subset": True}),
        ("{'pair_target': 'and', 'subset': True}", {"pair_target": "and", "subset": True}),
        ("{}", {}),
    ],
)
def test_overrides_may_be_a_text(given, expected):
    assert planning.parsed(given) == expected


@pytest.mark.parametrize("given", ["pair_target=and", "[1]", "", "{", 3, None])
def test_what_is_no_dict_is_refused(given):
    with pytest.raises(S2LError, match=f"^{re.escape(repr(given))}: "):
        planning.parsed(given)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (("dsb-bf", 0, "s2l otsu", "0, 5"), (["s2l", "otsu"], [0, 5])),
        (('["dsb-bf"]', "[0]", "['s2l', 'otsu']", [0, 5]), (["s2l", "otsu"], [0, 5])),
        ((["dsb-bf"], "0", ("s2l", "otsu"), "[0, 5]"), (["s2l", "otsu"], [0, 5])),
        (("dsb-bf", "0", "otsu", ""), (["otsu"], [0])),
    ],
)
def test_lists_of_a_batch_may_be_texts(lists, expected):
    methods, seeds = expected
    found = [(config.method, config.seed) for config in planning.plan("scratch", *lists)]
    assert found == [(method, seed) for seed in seeds for method in methods]


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        (("dsb-bf", "first"), "FOLDS = 'first'"),
        (("dsb-bf", "-1"), "FOLDS = '-1'"),
        (("dsb-bf", "[0"), "'.0': .*list"),
        (("dsb-bf", 0, "s2l", 0, "attentiv-0"), "ANNOTATORS = 'attentiv-0' is not known. Did you"),
    ],
)
def test_a_list_that_is_none_is_named(lists, said):
    with pytest.raises(S2LError, match=said):
        planning.plan("scratch", *lists)


class Shell:
    """Stands in for IPython, with the sources of the cells that ran."""

    def __init__(self, *cells):
        self.user_ns = {"In": ["", *cells], "fols": 1}


def test_a_parameter_that_a_notebook_does_not_have_stops_it(monkeypatch):
    notebooks.refuse_unknown("04_train")  # outside of a notebook: nothing to look at
    for cells, said in (
        (["fold = 0  # which", "# Parameters\nfold = 1\nmethod = 'otsu'\n"], None),
        (["fols = 1"], None),  # a cell of the reader's own
        (["fold = 0", "# Parameters\nfold = 1\nfols = 1\n"], "no parameter 'fols'. Did you mean"),
    ):
        monkeypatch.setattr(notebooks, "get_ipython", lambda cells=cells: Shell(*cells))
        if said is None:
            notebooks.refuse_unknown("04_train")
        else:
            with pytest.raises(S2LError, match=said):
                notebooks.refuse_unknown("04_train")


def papermill(home, folder, notebook, *parameters):
    """`papermill NOTEBOOK out.ipynb ...` in a folder; the finished process."""
    command = [sys.executable, "-m", "papermill", notebook, str(home / "out.ipynb"), *parameters]
    environment = os.environ | {"S2L_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def shown(page):
    """The line of a page that trains by papermill: its notebook, and the words after its output."""
    text = (ROOT / page).read_text().replace('\\"', '"')
    (line,) = re.findall(r"papermill \S*04_train.ipynb out.ipynb -p profile smoke.*?\}\"", text)
    _, notebook, _, *given = shlex.split(line)
    return notebook, given


def test_the_line_that_is_shown_makes_a_run(tmp_path):
    """As printed in notebook 04, from its folder; with Otsu, which is done at once."""
    notebook, given = shown("notebooks/04_train.ipynb")
    assert shown("README.md") == (f"notebooks/{notebook}", given), "the same, from the root"
    given = [word.replace("s2l-r1-r4", "otsu") for word in given]
    done = papermill(tmp_path, ROOT / "notebooks", notebook, *given)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = _runs(tmp_path)
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["pair_target"] == "and" and config["method"] == "otsu"


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "folder", "begins"),
    [
        ("README.md", ROOT, "for method in"),
        ("notebooks/04_train.ipynb", ROOT / "notebooks", "s2l notebook 04_train"),
        ("notebooks/05_ablation.ipynb", ROOT / "notebooks", "papermill 05_ablation"),
        ("notebooks/05_ablation.ipynb", ROOT / "notebooks", "for method in"),
    ],
)
def test_batches_and_loops_that_are_shown_run_in_a_shell(tmp_path, page, folder, begins):
    """As printed, but with Otsu alone and copies that are written elsewhere."""
    text = (ROOT / page).read_text().replace('\\"', '"').replace("\\n", "\n")
    (line,) = re.findall(rf"(?m)^[ \"]*({begins}.*)$", text)
    line = line.replace("s2l s2l-r1 s2l-r4 s2l-r1-r4", "otsu").replace("=s2l-r1-r4", "=otsu")
    line = line.replace("out.ipynb", f"{tmp_path}/out.ipynb")
    line = line.replace("$method.ipynb", f"{tmp_path}/$method.ipynb")
    assert "otsu" in line and str(tmp_path) in line

    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"S2L_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment["PATH"] = commands
    command = ["bash", "-ec", line]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(_runs(tmp_path)) == 1


def _runs(home):
    return [file.parent for file in (home / "results/smoke/runs").glob("*/config.json")]


def test_a_misspelt_word_stops_the_notebook_itself(tmp_path):
    """From notebooks/, where papermill alone would run with the defaults."""
    done = papermill(tmp_path, ROOT / "notebooks", "04_train.ipynb", "-p", "fols", "1")
    assert done.returncode != 0
    assert "no parameter 'fols'. Did you mean 'fold'?" in done.stderr
    assert not _runs(tmp_path)


def test_every_parameter_of_the_training_notebook_is_a_field_or_known():
    known = set(notebooks.known_parameters(paths.notebook("04_train")))
    fields = set(RunConfig("dsb-bf", "s2l").to_dict())
    assert known - fields == {"overrides", "threads", "resume"}
