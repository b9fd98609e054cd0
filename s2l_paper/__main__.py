"""`s2l`: the commands about one's own images, and those that reproduce the paper."""

import ast
import dataclasses
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from s2l_core.config import RunConfig, S2LError, check_choice
from s2l_core.profiles import DATASETS, PROFILES
from s2l_images.commands import COMMANDS, command_line
from s2l_images.commands.command_line import Command, Parser

TITLE = "Cell nuclei from scribbles: train on your own images, or reproduce Oh et al. 2022."


def settings(words: list[str]) -> dict[str, Any]:
    """`name=value` words as a dict; a value that is no literal of Python is a string.

    Raises:
        S2LError: a word without `=`.
    """
    values = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise S2LError(f"{word!r}: expected name=value. Write it so: fold=1.")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def _data_arguments(parser: Parser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="dsb-bf, dsb-fluo or monuseg (default: all)"
    )


def _data(given: Namespace) -> int:
    """Fetches the named data sets, or all, and says where they are."""
    from s2l_paper.data.sources import fetch

    # One archive holds both parts of BBBC038.
    for name in given.names or ["dsb-bf", "monuseg"]:
        for path in fetch(name):
            print(f"{name}: {path}", flush=True)
    return 0


def _train_arguments(parser: Parser) -> None:
    parser.add_settings(
        [field.name for field in dataclasses.fields(RunConfig)],
        nargs="+",
        help="dataset (a name, or your own folder), method, profile, fold, seed; any other field "
        "of RunConfig",
    )
    parser.add_argument(
        "--threads", metavar="N", type=int, default=0, help="processor threads (default: all)"
    )
    parser.add_argument(
        "--warm-up",
        action="store_true",
        help="train only the warm-up that the methods of a fold share",
    )


def _train(given: Namespace) -> int:
    """One run of the paper: trained, scored on its test images, and written."""
    values = {"dataset": "", "method": "s2l-r1-r4"} | settings(given.values)
    config = RunConfig.from_dict(values)
    if not config.dataset:
        raise S2LError("dataset is missing. Name one, such as dataset=synthetic-fluo.")

    # Notebooks work in another folder, so a folder of one's own is named from the root.
    if config.dataset not in DATASETS:
        own = Path(str(config.dataset)).expanduser()
        if not own.is_dir():
            from s2l_paper.data.sources import unknown

            raise unknown(config.dataset, list(DATASETS))
        config = dataclasses.replace(config, dataset=str(own.absolute()))
    if given.warm_up:
        return _warm_up(config, given.threads)

    from s2l_paper import paths
    from s2l_paper.running import notebooks, results

    with notebooks.sentences():
        notebooks.run_training(config, threads=given.threads)
    folder = results.folder_of(config)
    print(f"done: {folder}")
    model = paths.model(folder)
    if model.exists():
        print(f"Find the nuclei of other images with it: s2l predict {model} FOLDER")
    return 0


def _warm_up(config: RunConfig, threads: int) -> int:
    """The warm-up alone; it loads torch, which planning a batch never needs."""
    import os

    from s2l_images.progress import PLAIN
    from s2l_paper.running.runs import set_threads, warm_up

    os.environ[PLAIN] = "1"
    set_threads(threads)
    print(f"done: {warm_up(config)}")
    return 0


def _notebook_arguments(parser: Parser) -> None:
    parser.add_argument("notebook", metavar="NOTEBOOK", help="its name, such as 06_table1")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="the executed copy, .ipynb")
    # Each notebook has values of its own, and nearly all have a profile.
    parser.add_settings(["profile"], nargs="*", help="values for its first code cell")


def _notebook(given: Namespace) -> int:
    """Executes a notebook by papermill, with parameters that are checked."""
    from s2l_paper.running import notebooks

    with notebooks.sentences():
        notebooks.run(Path(given.notebook).stem, given.output, settings(given.values))
    print(f"done: {given.output}")
    return 0


def _tables_arguments(parser: Parser) -> None:
    parser.add_argument(
        "profile", nargs="?", default="demo", metavar="PROFILE", help="whose runs (default: demo)"
    )


def _tables(given: Namespace) -> int:
    """Prints Table 1 of a profile and where its files are."""
    from s2l_paper.tables import table1

    check_choice("profile", given.profile, PROFILES)
    print(table1.told(given.profile))
    return 0


def _verify_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--write", action="store_true", help="write the tables and documents from the runs first"
    )


def _verify(given: Namespace) -> int:
    """Compares every committed number with what the runs give; 1 where one differs."""
    from s2l_paper.texts import verify

    return verify.report(write_first=given.write)


def _separation(given: Namespace) -> int:
    """Measures how far apart networks hold both classes, and prints the means."""
    from s2l_paper.figures import embeddings, separation

    check_choice("profile", given.profile, PROFILES)
    for dataset, rows in embeddings.measure(given.profile).groupby("dataset"):
        print(f"{dataset}\n{separation.summary(rows).to_string()}")
    return 0


def _apart(given: Namespace) -> int:
    """Scores runs with touching nuclei told apart, and prints their means."""
    from s2l_paper.comparing import apart_measured
    from s2l_paper.running import results
    from s2l_paper.tables import apart_texts, table1

    check_choice("profile", given.profile, PROFILES)
    measured = apart_measured.measure(given.profile)
    runs = results.load_runs(given.profile)
    print(apart_texts.text(apart_texts.with_columns(table1.summary(runs), runs, measured)))
    return 0


PAPER_COMMANDS = {
    "data": Command(
        summary="fetch the data sets of the paper",
        about="""\
Downloads BBBC038 and MoNuSeg into the folder that S2L_DATA names, or else into data/raw. What is
there already is kept.""",
        examples=("s2l data", "S2L_DATA=~/data s2l data monuseg"),
        arguments=_data_arguments,
        run=_data,
        extra="paper",
    ),
    "train": Command(
        summary="train one network and score it on its test images",
        about="""\
Trains one method on one fold of one data set, and writes scores, curves, the model and the executed
notebook into results/PROFILE/runs/. `make reproduce` does this for a whole batch. Stopped with
Ctrl-C, the same command goes on from its checkpoint.""",
        examples=(
            "s2l train dataset=synthetic-fluo method=s2l-r1-r4 profile=smoke",
            "s2l train dataset=dsb-fluo method=supervised profile=scratch fold=1",
            "s2l train dataset=my-cells",
        ),
        arguments=_train_arguments,
        run=_train,
        extra="paper",
    ),
    "notebook": Command(
        summary="execute a notebook with values of your own",
        about="""\
Executes a notebook of notebooks/ from top to bottom with papermill, and keeps the executed copy if
every cell ran. Unlike papermill itself it refuses parameters that the notebook does not have.""",
        examples=("s2l notebook 05_ablation ablation.ipynb profile=smoke folds=[0]",),
        arguments=_notebook_arguments,
        run=_notebook,
        extra="paper",
    ),
    "tables": Command(
        summary="print Table 1 of the finished runs, beside the paper's",
        about="Prints Table 1 of the finished runs of a profile beside the paper's numbers.",
        examples=("s2l tables scratch",),
        arguments=_tables_arguments,
        run=_tables,
        extra="paper",
    ),
    "separation": Command(
        summary="measure how far apart networks hold nuclei and background",
        about="""\
Takes every finished run of a profile whose weights are on this machine, and measures how far apart
its features and embeddings of nuclei and background lie on its test images. Writes
results/PROFILE/separation.csv and figures/PROFILE/separation.png, which notebook 03 shows.""",
        examples=("s2l separation pretrained",),
        arguments=_tables_arguments,
        run=_separation,
        extra="paper",
    ),
    "apart": Command(
        summary="score runs with touching nuclei told apart",
        about="""\
Chooses on validation images how touching nuclei are told apart, and scores AJI and F1 of the test
images so, beside those of connected components. Takes the masks that runs keep, and for the choice
their weights, where these are on this machine. Writes results/PROFILE/apart.csv and
results/apart_settings.csv.""",
        examples=("s2l apart pretrained",),
        arguments=_tables_arguments,
        run=_apart,
        extra="paper",
    ),
    "verify": Command(
        summary="compute every committed number anew and compare",
        about="""\
Holds every committed run against its hash, computes every table anew from the runs' scores, and
compares each digit with what is committed. Needs neither images nor weights.""",
        examples=("s2l verify", "s2l verify --write"),
        arguments=_verify_arguments,
        run=_verify,
        extra="paper",
    ),
}
GROUPS = {"Your own images:": COMMANDS, "The paper:": PAPER_COMMANDS}


def main(words: list[str] | None = None) -> int:
    """The command line of `s2l`; returns the exit code."""
    return command_line.main("s2l", TITLE, GROUPS, sys.argv[1:] if words is None else words)


if __name__ == "__main__":
    sys.exit(main())
