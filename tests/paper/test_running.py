"""Notebooks at work: each from top to bottom with profile smoke,
and what their runner refuses, keeps and drops.
"""

import json
import os
import warnings

import IPython.display
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from test_notebooks import code_cells, tagged

from s2l_core.config import RunConfig, S2LError
from s2l_paper import paths
from s2l_paper.__main__ import main
from s2l_paper.running import notebooks, results
from s2l_paper.running.runs import train


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, one_thread):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    monkeypatch.setenv("S2L_PLAIN", "1")
    yield tmp_path
    plt.close("all")


class Shown:
    """What `display` gives back: a place that later pictures go to."""

    def update(self, *objects, **_):
        """Draws them, as a page would."""
        for thing in objects:
            for name in ("_repr_png_", "_repr_html_"):
                getattr(thing, name, lambda: None)()


def run_here(monkeypatch, name, **parameters):
    """Runs all code of a notebook in this process, as a kernel would;
    gives what it leaves in its namespace.
    """

    def display(*objects, **_):
        Shown().update(*objects)
        return Shown()

    monkeypatch.setattr(IPython.display, "display", display)
    notebook = nbformat.read(paths.notebook(name), as_version=4)
    (known,) = tagged(notebook, "parameters")
    space = {"display": display, "__name__": "__main__"}
    with warnings.catch_warnings(
        action="ignore", category=UserWarning
    ):  # of a picture that nobody sees
        for cell in code_cells(notebook):
            exec(compile(cell.source, f"{name}, cell {cell.id}", "exec"), space)
            if cell is known:
                assert set(parameters) <= set(space), "no such parameter"
                space |= parameters
    return space


# 04 is executed by papermill, in test_papermill.py and test_paths.py
HERE = {
    "00_tour": {"steps": 8},
    "01_data": {},
    "02_scribbles": {},
    "03_method": {},
    "08_your_images": {"steps": 12, "threads": 1},
    "09_readings": {"only": ["D1: target or"], "effort": False},
    "10_recipe": {},
}


@pytest.mark.parametrize("name", HERE)
def test_a_notebook_runs_from_top_to_bottom(name, monkeypatch):
    monkeypatch.setattr(notebooks, "run_training", lambda config: train(config, progress=False))
    run_here(monkeypatch, name, **HERE[name])


def test_runs_of_a_batch_become_table_and_figure(monkeypatch, home):
    """Notebooks 06 and 07 show what 05 has run; `make reproduce` executes them by papermill."""
    monkeypatch.setattr(notebooks, "run_training", lambda config: train(config, progress=False))
    run_here(monkeypatch, "05_ablation", methods=["s2l", "otsu"])
    run_here(monkeypatch, "06_table1")
    run_here(monkeypatch, "07_figure2")
    assert (home / "results" / "smoke" / "table1.md").exists()
    assert (home / "figures" / "smoke" / "figure2.png").exists()


def test_the_full_reproduction_is_listed_and_not_run(monkeypatch):
    monkeypatch.setattr(notebooks, "run_training", lambda config: pytest.fail("it was run"))
    space = run_here(monkeypatch, "05_ablation", profile="paper", methods=["s2l"])
    assert len(space["batch"]) == len(space["left"]) == 13


# --- the runner


def small(*sources):
    """A notebook of code cells, the first of which is tagged `parameters`."""
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{k}") for k, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


@pytest.fixture
def source(home, monkeypatch):
    """Writes a notebook and lets the runner find it under any name."""
    file = home / "source.ipynb"
    monkeypatch.setattr(paths, "notebook", lambda name: file)
    return lambda *sources: nbformat.write(small(*sources), file)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fols": 1}, "04_train.ipynb: no parameter 'fols'. Did you mean 'fold'"),
        ({"overrides": {"scales": (1, 2)}}, "overrides = .*(1, 2)"),
        ({"fold": (0, 1)}, r"fold = \(0, 1\) .*tuple"),
        ({"fold": np.int64(1)}, r"fold = .* is a int64"),
        ({"fold": "1"}, "fold = '1'; .*int"),
        ({"fold": True}, "fold = True; .*int"),
        ({"budget": "much"}, "budget = 'much'; .*float"),
    ],
)
def test_parameters_that_papermill_would_let_pass_are_refused(home, given, message):
    with pytest.raises(S2LError, match=message):
        notebooks.run("04_train", home / "out.ipynb", given)
    assert not list(home.rglob("*"))


def test_parameters_that_fit():
    given = {
        "dataset": "dsb-bf",
        "fold": 1,
        "budget": 1,
        "overrides": {"scales": [{"block": 3}], "a": None},
    }
    assert notebooks.check_parameters(paths.notebook("04_train"), given) is None


def test_an_executed_copy_is_whole_and_normalised_or_not_there(home, source, monkeypatch):
    source(
        "word = 'unset'  # said",
        "import os\nprint(word, os.getcwd() == os.environ['S2L_HOME'])",
        "object()",
    )
    copy = notebooks.run("any", home / "kept" / "copy.ipynb", {"word": "given"})
    notebook = nbformat.read(copy, as_version=4)
    assert [cell.id for cell in notebook.cells] == [
        "cell-0",
        "injected-parameters",
        "cell-1",
        "cell-2",
    ]
    assert notebook.cells[2].outputs[0].text.startswith("given")
    assert notebook.cells[3].outputs[0].data["text/plain"] == "<object>"
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    monkeypatch.setattr(notebooks, "MAX_EXECUTED_BYTES", 100)
    with pytest.raises(S2LError, match="copy.ipynb: .* 100 "):
        notebooks.run("any", home / "new" / "copy.ipynb", {})
    assert nbformat.read(copy, as_version=4) == notebook and not (home / "new").exists()
    assert os.environ["S2L_PLAIN"] == "1" and sorted(
        file.name for file in copy.parent.iterdir()
    ) == ["copy.ipynb"]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            "from s2l_core.config import S2LError\nraise S2LError('a.png: empty. Draw.')",
            "error: a.png: empty. Draw.",
        ),
        (
            "from s2l_images.faults import Fault\nraise Fault('empty-file', 'a.png', 'x')",
            "error: a.png: x; expected",
        ),
        ("1 / 0", None),
    ],
)
def test_a_cell_that_fails_ends_the_command_and_leaves_nothing(home, source, capsys, raised, said):
    source("x = 1  # one", raised)
    command = ["notebook", "any", str(home / "new" / "copy.ipynb")]
    if said:
        assert main(command) == 1
        assert said in capsys.readouterr().err
    else:
        with pytest.raises(notebooks.papermill.PapermillExecutionError, match="ZeroDivisionError"):
            main(command)
    assert [file.name for file in home.iterdir()] == ["source.ipynb"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "notebook 6_table out.ipynb",
            "error: 6_table: no such notebook. Did you mean '06_table1'",
        ),
        (
            "notebook 06_table1 out.ipynb profil=scratch",
            "error: 06_table1.ipynb: no parameter 'profil'. Did you mean 'profile'",
        ),
        ("notebook 06_table1 out.ipynb profile", "error: 'profile': expected name=value"),
        ("train method=s2l", "error: dataset is missing."),
        (
            "train dataset=dsb-bf method=s2l profile=scratchx",
            "error: profile = 'scratchx' is not known. Did you mean 'scratch'",
        ),
        ("train dataset=dsb-bf method=s3l", "error: method = 's3l' is not known"),
        ("train dataset=dsb-bf method=s2l fold=4", "error: fold = 4: dsb-bf has folds 0 to 3"),
        (
            "train --warm-up dataset=dsb-bf method=s2l flod=1",
            "error: configuration field = 'flod' is not known. Did you",
        ),
        (
            "train --warm-up dataset=dsb-bff method=s2l profile=smoke",
            "error: Data set 'dsb-bff' is neither known nor a folder.",
        ),
        (
            "train --warm-up dataset=dsb-bf method=s2l profile=scratch",
            "error: dsb-bf: found no stage1_train.zip in",
        ),
    ],
)
def test_a_wrong_word_ends_the_command_and_leaves_nothing(home, monkeypatch, capsys, command, said):
    monkeypatch.chdir(home)
    monkeypatch.setenv("S2L_DATA", str(home / "none"))
    assert main(command.split()) == 1
    assert capsys.readouterr().err.startswith(said)
    left = [file for file in home.rglob("*") if file.is_file() and file.suffix != ".lock"]
    assert not left


def test_a_run_is_a_call_of_the_training_notebook(monkeypatch):
    calls = []
    monkeypatch.setattr(notebooks, "run", lambda *given: calls.append(given))
    config = RunConfig(
        "dsb-bf", "s2l-r1", profile="scratch", fold=1, pair_target="or", annotator="skeleton"
    )
    notebooks.run_training(config, threads=1)
    ((name, output, parameters),) = calls
    assert (
        name == "04_train"
        and output == paths.run_folder("scratch", results.run_id(config)) / "notebook.ipynb"
    )
    notebooks.check_parameters(paths.notebook(name), parameters)
    overrides = parameters.pop("overrides")
    assert overrides == {"pair_target": "or", "annotator": "skeleton"}
    fields = {key: value for key, value in parameters.items() if key not in ("threads", "resume")}
    assert RunConfig.from_dict(fields | json.loads(json.dumps(overrides))) == config
