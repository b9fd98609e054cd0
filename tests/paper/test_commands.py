"""`s2l`, its commands that reproduce the paper, and the names that commands had before."""

import runpy
import subprocess
import sys

import pytest
from made_up import write_run

from conftest import ROOT
from s2l_core.config import RunConfig, S2LError
from s2l_images.commands import COMMANDS
from s2l_images.commands.command_line import Parser
from s2l_paper.__main__ import PAPER_COMMANDS, main, settings
from s2l_paper.running import notebooks


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    return tmp_path


def python(*words):
    """Python with these words; the finished process."""
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)


def test_each_command_explains_itself(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, command in {**COMMANDS, **PAPER_COMMANDS}.items():
        assert f"  {name}" in said and command.summary in said
    for name, command in PAPER_COMMANDS.items():
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert all(example in capsys.readouterr().out for example in command.examples[:1])


def test_help_loads_no_library_that_takes_its_time():
    code = (
        "import sys; from s2l_paper.__main__ import main; main(['--help']); print(set(sys.modules))"
    )
    loaded = python("-c", code).stdout.splitlines()[-1]
    assert "argparse" in loaded
    for slow in ("torch", "pandas", "numpy", "papermill", "skimage", "matplotlib"):
        assert f"'{slow}'" not in loaded


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verfy"], "command = 'verfy' is not known. Did you mean 'verify'?"),
        (["tables", "cp"], "profile = 'cp' is not known. Choose one of: "),
        (["tables", "cpu"], "profile = 'cpu' is not known. Did you mean 'scratch'?"),
        (["data", "monuseq"], "'monuseq' is neither known nor a folder. Did you mean 'monuseg'?"),
        (["verify", "--writ"], "there is no option '--writ'. Did you mean '--write'?"),
        (["train"], "the following arguments are required: name=value"),
        (["train", "dataset=dsb-bf", "--thread", "1"], "Did you mean '--threads'?"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(capsys, words, said):
    assert main(words) in (1, 2)
    assert said in capsys.readouterr().err


def parser_of(name):
    """What reads the words of a command."""
    parser = Parser(prog=f"s2l {name}")
    {**COMMANDS, **PAPER_COMMANDS}[name].arguments(parser)
    return parser


@pytest.mark.parametrize("name", [*COMMANDS, *PAPER_COMMANDS])
def test_a_wrong_option_of_any_command_is_answered_with_the_nearest(name, capsys):
    parser = parser_of(name)
    meant = {option: f"Did you mean {option!r}?" for option in parser.options if option[:2] == "--"}
    meant |= {option: f"Did you mean {said}, which" for option, said in parser.undashed.items()}
    assert "--help" in meant
    for option, said in meant.items():
        # A letter is missing, two stand for each other, and another program's underscore.
        misspelled = {option[:4] + option[5:], option[:-2] + option[:-3:-1], option + "_"}
        for wrong in misspelled - {*parser.options}:
            for words in ([name, wrong, "x"], [name, "a", "b", f"{wrong}=x"]):
                assert main(words) == 2
                assert f"no option {wrong!r}. {said}" in capsys.readouterr().err

    # What resembles nothing is answered with all that there is.
    assert main([name, "--qqqqq"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean" not in said and f"Choose one of: {', '.join(parser.options)}." in said


def test_options_of_s2l_itself_are_named(capsys):
    for wrong, right in (("--verson", "--version"), ("--hepl", "--help")):
        assert main([wrong]) == 2
        assert f"Did you mean {right!r}?" in capsys.readouterr().err


def test_a_wrong_word_stops_a_training_before_it_begins(monkeypatch, capsys, home):
    monkeypatch.setattr(notebooks, "run_training", None)
    for word, meant in {
        "datset=dsb-bf": "'dataset'",
        "dataset=dsb-fb": "'dsb-bf'",
        "dataset=dsb-bf profile=pre": "'pretrained'",
    }.items():
        assert main(["train", *word.split()]) == 1
        assert f"Did you mean {meant}?" in capsys.readouterr().err


def test_settings_are_literals_or_words():
    given = ["fold=1", "profile=scratch", "scales=[{'block': 5}]", "note=a=b", "empty="]
    expected = {"fold": 1, "profile": "scratch", "scales": [{"block": 5}]}
    expected |= {"note": "a=b", "empty": ""}
    assert settings(given) == expected
    with pytest.raises(S2LError, match="'fold': .*fold=1"):
        settings(["fold"])


def test_a_missing_library_is_named_with_what_brings_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "s2l_paper.tables.table1", None)
    monkeypatch.delattr("s2l_paper.tables.table1", raising=False)
    with pytest.raises(ModuleNotFoundError):  # a module of our own is a fault of ours
        main(["tables", "scratch"])
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.delitem(sys.modules, "s2l_paper.data.sources", raising=False)
    monkeypatch.setenv("S2L_DATA", "/nowhere")
    assert main(["data", "dsb-bf"]) == 1
    said = capsys.readouterr().err
    assert "s2l data needs pooch" in said and "pip install 's2l-core[paper]'" in said


def test_training_is_a_run_of_the_notebook(monkeypatch, capsys, home):
    calls = []
    monkeypatch.setattr(
        notebooks, "run_training", lambda *given, **more: calls.append(given + tuple(more.items()))
    )
    assert (
        main(["train", "dataset=synthetic-fluo", "profile=smoke", "fold=1", "--threads", "3"]) == 0
    )
    config = RunConfig("synthetic-fluo", "s2l-r1-r4", profile="smoke", fold=1)
    assert calls == [(config, ("threads", 3))]
    assert "done: " in capsys.readouterr().out

    # Notebooks work in another folder, so a folder of one's own is named from the root.
    (home / "own").mkdir()
    monkeypatch.chdir(home)
    assert main(["train", "dataset=own"]) == 0
    assert calls[-1][0].dataset == str(home / "own")


def test_tables_without_a_method_of_table_1_say_what_is_missing(capsys):
    assert main(["tables", "scratch"]) == 1
    assert "no finished run. Make them: make reproduce PROFILE=scratch" in capsys.readouterr().err
    write_run("otsu", iou=0.4)
    assert main(["tables", "scratch"]) == 0
    said = capsys.readouterr().out
    assert "| DSB-BF | Otsu |" in said and "Table 1, its claims and Fig. 2 were not made" in said
    assert "make reproduce PROFILE=scratch METHODS=s2l" in said
    write_run("s2l", iou=0.5)
    assert main(["tables", "scratch"]) == 0
    said = capsys.readouterr().out
    assert "| S2L |" in said and "not made: Fig. 2 needs" in said


MOVED = {
    "checks none": ("s2l check", 1, "not-a-folder"),
    "rounds none none": ("s2l predict", 1, "not a model that was saved here"),
    "tables scratchx": ("s2l tables", 1, "profile = 'scratchx' is not known"),
    "verify --writ": ("s2l verify", 2, "no option '--writ'"),
    "sources none": ("s2l data", 1, "neither known nor a folder"),
    "notebooks run none out.ipynb": ("s2l notebook", 1, "none: no such notebook"),
    "notebooks train fold=1": ("s2l train", 1, "dataset is missing"),
    "notebooks warmup fold=1": ("s2l train --warm-up", 1, "dataset is missing"),
}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # a process of its own has none there
@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_works_and_says_the_new_one(old, home, monkeypatch, capsys):
    name, code, said = MOVED[old]
    module, *words = old.split()
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"s2l_core.{module}", run_name="__main__", alter_sys=True)
    shown = capsys.readouterr()
    assert shown.err.startswith(f"This is `{name}` now; the old name goes with the next release.")
    assert end.value.code == code and said in shown.out + shown.err


def test_an_old_name_works_in_a_process_of_its_own():
    done = python("-m", "s2l_core.verify", "--writ")
    assert done.returncode == 2 and done.stderr.startswith("This is `s2l verify` now; ")


def test_old_names_import_nothing_of_the_other_packages():
    names = [old.split()[0] for old in MOVED]
    imports = "\n".join(f"import s2l_core.{name}" for name in names)
    code = f"import sys\n{imports}\nprint(sorted(sys.modules))"
    loaded = python("-c", code).stdout
    assert "'s2l_core.checks'" in loaded
    assert "s2l_images" not in loaded and "s2l_paper" not in loaded
