"""`make verify` passes on what the runs say, and names the place wherever a digit or a run is not
that.
"""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from made_up import write_run
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from conftest import ROOT
from s2l_core.config import RunConfig, digest
from s2l_images.files import write_json
from s2l_paper import paths
from s2l_paper.__main__ import main, settings
from s2l_paper.figures import charts, plotting
from s2l_paper.running import results
from s2l_paper.tables.table1 import image_scores
from s2l_paper.texts import executed, provenance, verify

README = (
    "# Ours\n\n<!-- table1 -->\n<!-- /table1 -->\nand\n<!-- claims scratch -->\nold\n<!-- /claims"
    " -->\nend\n"
)


def figure2(scores=None, ids=None):
    """A picture that carries what notebook 07 writes into it."""
    runs = results.load_runs("scratch")
    shown = runs[runs.shown & (runs.fold == 0) & (runs.image == "image1")]
    scores = scores or {
        f"{row.run_id}/{row.image}": image_scores(row) for _, row in shown.iterrows()
    }
    ids = sorted(ids or shown.run_id)
    info = PngInfo()
    for name, text in {
        "RunIds": " ".join(ids),
        "Hash": digest(ids),
        "Scores": json.dumps(scores),
    }.items():
        info.add_text(name, text)
    paths.figures("scratch").mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4)).save(paths.figures("scratch") / "figure2.png", pnginfo=info)


def executed_notebooks():
    """Executed notebooks 05 and 06 that show the tables as they are."""
    runs, every = (results.load_runs("scratch", variants=every) for every in (False, True))
    shown = executed.tables("scratch", verify.products("scratch"), runs, every)
    for name in {table.notebook for table in shown}:
        cells = [{"cell_type": "markdown"}]
        for table in shown:
            if table.notebook == name:
                data = {table.kind: table.text.splitlines(keepends=True)}
                cells.append({"id": table.cell, "outputs": [{"data": data}]})
        write_json(paths.executed("scratch") / f"{name}.ipynb", {"cells": cells})


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Three runs and everything that is made from them."""
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    monkeypatch.delenv("S2L_DATA", raising=False)
    for method, fold, iou in (("s2l", 0, 0.5), ("s2l", 1, 0.6), ("supervised", 0, 0.7)):
        write_run(method, fold=fold, iou=iou)
    (tmp_path / "README.md").write_text(README)
    verify.write(["scratch"])
    figure2()
    executed_notebooks()
    return tmp_path


def check():
    return verify.faults(verify.profiles())


def alter(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def run_of(method):
    config = RunConfig("dsb-bf", method, profile="scratch")
    return paths.run_folder("scratch", results.run_id(config))


def test_what_was_written_from_the_runs_passes(home, capsys):
    assert check() == []
    (paths.results("scratch") / "recipe.csv").write_text("by hand\n")
    assert main(["verify"]) == 0
    said = capsys.readouterr().out
    assert "scratch: 3 runs, 8 tables" in said and "every number follows" in said
    assert "not made from runs, not checked: recipe.csv" in said


@pytest.mark.parametrize("name", verify.PRODUCTS)
def test_any_altered_digit_is_found(home, name):
    if name == "factorial.csv":  # which needs all four methods
        for method in ("s2l-r1", "s2l-r4", "s2l-r1-r4"):
            write_run(method, iou=0.61)
        verify.write(["scratch"])
    file = paths.results("scratch") / name
    found = re.search(r"0\.\d*[1-8](?=\D)", file.read_text())  # a last digit
    at = found.end() - 1
    text = file.read_text()
    file.write_text(text[:at] + str(int(text[at]) + 1) + text[at + 1 :])
    faults = [fault for fault in check() if f"results/scratch/{name}, line" in fault]
    assert len(faults) == 1 and found[0] in faults[0] and "--write" in faults[0]


@pytest.mark.parametrize(
    ("notebook", "cell", "old", "new"),
    [
        ("05_ablation", "difference", "0.2", "0.3"),
        ("06_table1", "gather", "2", "3"),
        ("06_table1", "wide", "0.58", "0.57"),
        ("06_table1", "table", "0.580", "0.581"),
    ],
)
def test_a_changed_number_in_an_executed_notebook_is_named(home, notebook, cell, old, new):
    file = paths.executed("scratch") / f"{notebook}.ipynb"
    content = json.loads(file.read_text())
    (place,) = [one for one in content["cells"] if one.get("id") == cell]
    data = place["outputs"][0]["data"]
    text = "".join(data["text/html"])
    changed = re.sub(rf">{re.escape(old)}", f">{new}", text, count=1)
    assert changed != text
    data["text/html"] = changed
    write_json(file, content)
    (fault,) = check()
    where = f"results/scratch/executed/{notebook}.ipynb, cell '{cell}': shows '{new}"
    assert fault.startswith(where) and f"computed '{old}" in fault


def test_a_table_or_run_that_an_executed_notebook_lacks_is_named(home):
    file = paths.executed("scratch") / "06_table1.ipynb"
    content = json.loads(file.read_text())
    words = "dsb-bf_s2l_f0_s0_00000000 went on from dsb-bf_warmup_f0_s0_00000000"
    gone = {"outputs": [{"data": {"text/html": words}}]}
    content["cells"] = [one for one in content["cells"] if one.get("id") != "wide"] + [gone]
    write_json(file, content)
    lacking, unknown = check()
    assert "cell 'wide': shows no table" in lacking
    assert "names run dsb-bf_s2l_f0_s0_00000000, which is not there" in unknown


def test_the_recipe_notebook_is_held_to_its_trials(home):
    folder = paths.results("pretrained")
    folder.mkdir(parents=True)
    trials = (ROOT / "results" / "pretrained" / "recipe.csv").read_text()
    (folder / "recipe.csv").write_text(trials)
    copy = ROOT / "results" / "pretrained" / "executed" / "10_recipe.ipynb"
    (folder / "executed").mkdir()
    (folder / "executed" / copy.name).write_text(copy.read_text())
    assert check() == []
    first = next(line for line in trials.splitlines() if ",0.69" in line)
    alter(folder / "recipe.csv", first, first.replace(",0.69", ",0.79"))
    faults = check()
    assert faults and all("10_recipe.ipynb, cell" in fault for fault in faults)
    assert any("computed '0.7" in fault for fault in faults)


def test_documents_and_executed_notebook_are_held_to_the_tables(home):
    alter(home / "README.md", "0.580", "0.581")
    alter(home / "REPRODUCIBILITY.md", "| 1.0 |", "| 1.1 |")
    file = paths.executed("scratch") / "06_table1.ipynb"
    content = file.read_text()
    at = content.index('"summary"')  # the table in Markdown
    file.write_text(content[:at] + content[at:].replace("0.580", "0.581", 1))
    faults = check()
    assert [fault.split(",")[0].split(":")[0] for fault in faults] == [
        "results/scratch/executed/06_table1.ipynb",
        "REPRODUCIBILITY.md",
        "README.md",
    ]
    assert "cell 'summary': shows '**0.581**" in faults[0]
    assert "0.581" in faults[2] and "0.580" in faults[2]


def test_a_sentence_with_measured_numbers_is_held_to_its_measurements(home):
    (home / "docs").mkdir()
    (home / "docs" / "rounds.csv").write_text((ROOT / "docs" / "rounds.csv").read_text())
    block = "of <!-- generated:rounds-in-short -->nothing<!-- /generated:rounds-in-short -->:\n"
    readme = home / "README.md"
    readme.write_text(readme.read_text() + block)
    (fault,) = check()
    assert fault.startswith("README.md, line") and "a round of 72 steps gave" in fault
    verify.write(["scratch"])
    assert check() == [] and "and the forest .64" in readme.read_text()


def test_readme_blocks_are_filled_and_the_rest_is_left(home):
    text = (home / "README.md").read_text()
    table, ledger = (
        (paths.results("scratch") / name).read_text() for name in ("table1.md", "claims.md")
    )
    assert text == README.replace("<!-- table1 -->\n", f"<!-- table1 -->\n{table}").replace(
        "old\n", ledger
    )


def test_an_altered_score_of_an_image_is_found(home):
    folder = run_of("supervised")
    alter(folder / "per_image.csv", "0.74", "0.75")
    faults = check()
    assert f"{folder.name}/per_image.csv: altered since the run wrote it" in faults[0]
    assert any("table1.csv" in fault for fault in faults[1:])  # the run no longer counts
    record = json.loads((folder / "config.json").read_text())
    record["per_image"] = digest((folder / "per_image.csv").read_bytes(), 16)
    write_json(folder / "config.json", record)
    assert any("table1.csv, line" in fault for fault in check())  # nor does a forged record help


def test_each_input_of_a_run_is_compared(home, monkeypatch, tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{}")
    expected = {"splits": ("split_file", 3), "scribbles": ("scribble_file", 3)}
    for name, (owner, runs) in expected.items():
        with monkeypatch.context() as patch:
            patch.setattr(paths, owner, lambda *_: other)
            faults = [fault for fault in check() if "stale" in fault]
            assert len(faults) == runs and all(f"{name} changed now" in fault for fault in faults)
    with monkeypatch.context() as patch:
        patch.setattr(results, "numerics_version", lambda method: 10**6)
        faults = check()
    assert all("stale: numerics changed now. Delete it" in fault for fault in faults[:3])
    assert "no finished run" in faults[3] and "make reproduce PROFILE=scratch" in faults[3]


def test_an_altered_configuration_is_stale(home):
    alter(run_of("s2l") / "config.json", '"max_regions": 2000', '"max_regions": 2001')
    (fault,) = [fault for fault in check() if "stale" in fault]
    assert f"{run_of('s2l').name}: stale: its configuration gives dsb-bf_s2l_f0_s0_" in fault


def test_a_field_that_was_not_recorded_is_named_unless_nothing_depends_on_it(home):
    file = run_of("s2l") / "config.json"
    record = json.loads(file.read_text())
    usual = record["config"].pop("pair_target")  # the paper's value: the hash leaves it out
    write_json(file, record)
    assert check() == [] and usual == "same"
    record["config"].pop("max_regions")
    record["hash"] = "00000000"
    write_json(file, record)
    assert any(
        "stale: max_regions is 2000, pair_target is 'same' now" in fault for fault in check()
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", "{"), ("config.json", '{"config": {"no_such_field": 1}}'), ("env.json", None)],
)
def test_an_unreadable_run_is_named(home, name, content):
    file = run_of("s2l") / name
    file.unlink() if content is None else file.write_text(content)
    (fault,) = check()
    assert f"{run_of('s2l').name}: cannot be read" in fault and "run it again" in fault


def test_numbers_and_runs_of_figures_are_checked(home):
    place = f"{run_of('s2l').name}/image1"
    figure2(scores={place: "IoU 0.99   mDice 0.53"})
    (fault,) = check()
    assert "'IoU 0.99   mDice 0.53'" in fault and "computed 'IoU 0.52   mDice 0.53'" in fault
    figure2(scores={"gone/image1": "IoU 0.52   mDice 0.53"})
    assert "computed 'nothing'" in check()[0]
    figure2(ids=[run_of("s2l").name])
    assert "shows 1 of 2 runs" in check()[0]
    figure2(ids=["dsb-bf_s2l_f0_s0_00000000"])
    assert "made from other runs" in check()[0]


def test_a_chart_that_shows_other_numbers_is_a_fault(home):
    """Of the same runs: what a table makes of them may have changed since."""
    file = paths.figures("scratch") / "differences.png"
    picture = charts.difference_forest(results.load_runs("scratch"))
    before = plotting.drawn(picture)
    plotting.save(picture, file)
    assert plotting.drawn(picture) == before and check() == []
    picture.axes[0].lines[1].set_xdata([0.5])
    plotting.save(picture, file)
    (fault,) = check()
    assert "differences.png: shows other numbers" in fault and "notebook 06_table1" in fault


def test_a_new_run_makes_everything_stale_until_written(home, capsys):
    write_run("s2l-r1", iou=0.65)
    assert {fault.split(",")[0].split(":")[0] for fault in check()} >= {
        "results/scratch/table1.csv",
        "results/scratch/claims.csv",
        "REPRODUCIBILITY.md",
    }
    figure2()
    assert main(["verify", "--write"]) == 1
    assert "06_table1.ipynb, cell 'table': shows" in capsys.readouterr().out
    executed_notebooks()
    assert check() == []


def test_a_missing_table_is_named(home):
    (paths.results("scratch") / "claims.md").unlink()
    faults = check()
    assert "results/scratch/claims.md: missing" in faults[0]


def test_reproducibility_names_what_made_a_number(home):
    write_run("s2l", fold=1, annotator=2)
    write_run("s2l", pair_target="or")
    text = provenance.reproducibility(["scratch"])
    batch = 'make reproduce PROFILE=scratch DATASETS=dsb-bf METHODS=s2l FOLDS="0 1" SEEDS="0"'
    assert batch in text
    assert "`s2l train dataset=dsb-bf method=s2l profile=scratch fold=1 annotator=2`" in text
    assert "profile=scratch 'pair_target='\"'\"'or'\"'\"''`" in text
    inputs = results.run_inputs(RunConfig("dsb-bf", "s2l", profile="scratch"))
    assert (
        f"| DSB-BF | {inputs['splits']} | {inputs['scribbles']} | {inputs['numerics']} | 4 |"
        in text
    )
    env = json.loads((run_of("s2l") / "env.json").read_text())
    assert (
        f"{env['cores']} cores, {env['memory_gib']} GiB" in text
        and f"numpy {env['packages']['numpy']}" in text
    )
    assert "5 runs, 0.1 hours" in text and "| 1.0 | 0.5 |" in text
    assert provenance.reproducibility([]) == provenance.INTRODUCTION


def test_the_command_of_a_run_makes_that_run(home):
    config = RunConfig(
        "dsb-bf",
        "s2l-r1",
        profile="scratch",
        fold=2,
        seed=3,
        annotator="skeleton",
        rate_heads=0.001,
    )
    program, command, *words = shlex.split(provenance.command(config))
    assert (program, command) == ("s2l", "train")
    assert RunConfig.from_dict(settings(words)) == config


def test_profiles_made_anew_are_not_asked_for(home):
    write_run("otsu", "synthetic-fluo", profile="demo")
    assert verify.profiles() == ["scratch"]


def test_nothing_loads_torch(home):
    code = (
        "import sys; from s2l_paper.texts import verify; "
        "print(verify.faults(verify.profiles()), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"S2L_HOME": str(home)}, cwd=ROOT
    )
    assert done.stdout.strip() == "[] False", done.stderr


@pytest.mark.long
def test_every_committed_number_follows_from_the_runs(monkeypatch):
    monkeypatch.delenv("S2L_HOME", raising=False)
    assert verify.profiles(), "no committed results"
    assert verify.faults(verify.profiles()) == []


def test_a_profile_that_this_version_does_not_know_is_named(home):
    (paths.home() / "results" / "scratch").rename(paths.home() / "results" / "cpu")
    faults = verify.faults(verify.profiles())
    assert "results/cpu: no profile has this name. Did you mean 'scratch'?" in faults[0]
