"""Runs the notebooks: checks parameters, executes by papermill, normalises the executed copy;
plans the batch.

The only file that knows papermill. Papermill itself only logs an unknown parameter and turns a
tuple into a string; here both are refused.
"""

import argparse
import ast
import glob
import itertools
import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger

from s2l_core.config import METHODS, RunConfig, S2LError, check_choice
from s2l_core.files import write_atomically
from s2l_core.profiles import DATASETS, PROFILES
from s2l_core.progress import PLAIN
from s2l_core.signals import Signals
from s2l_paper import paths, results

MAX_BYTES = 1_000_000


def plan(
    profile: str,
    datasets: Iterable[str] = (),
    folds: Iterable[int] = (),
    methods: Iterable[str] = (),
    seeds: Iterable[int] = (0,),
    annotators: Iterable[int | str] = (0,),
    rotations: Iterable[int] = (0,),
) -> list[RunConfig]:
    """The runs of a batch; what is left empty is the profile's own.

    Raises:
        S2LError: a profile, data set, method or fold that does not exist; what exists is listed.
    """
    check_choice("PROFILE", profile, PROFILES)
    for given, known, name in ((datasets, DATASETS, "DATASETS"), (methods, METHODS, "METHODS")):
        for value in given:
            check_choice(name, value, known)
    configs = []
    for dataset in datasets or PROFILES[profile].datasets:
        for fold in folds or range(PROFILES[profile].folds or DATASETS[dataset][1]):
            repetitions = itertools.product(rotations, seeds, annotators)
            for (rotation, seed, annotator), method in itertools.product(
                repetitions, methods or METHODS
            ):
                configs.append(
                    RunConfig(
                        dataset,
                        method,
                        fold=fold,
                        rotation=rotation,
                        seed=seed,
                        profile=profile,
                        annotator=annotator,
                    )
                )
    return configs


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Refuses what papermill would let pass.

    Raises:
        S2LError: a parameter the notebook does not have, a value that is no plain literal,
            or one of another type.
    """
    known = {
        name: entry["default"] for name, entry in papermill.inspect_notebook(str(notebook)).items()
    }
    for name, value in parameters.items():
        if name not in known:
            raise S2LError(f"{notebook.name}: no parameter {name!r}. It has: {', '.join(known)}.")
        if not _is_literal(value):
            kinds = "Give a number, a string, True, False, None, or a list or dict of these."
            raise S2LError(
                f"{notebook.name}: {name} = {value!r} is a {type(value).__name__}. {kinds}"
            )
        default = ast.literal_eval(known[name])
        number = (
            isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
        )
        if (
            default is not None
            and value is not None
            and type(value) is not type(default)
            and not number
        ):
            raise S2LError(
                f"{notebook.name}: {name} = {value!r}; expected {type(default).__name__} like"
                f" {default!r}."
            )


def run(name: str, output: Path, parameters: dict[str, Any]) -> Path:
    """Executes a notebook with checked parameters and writes its normalised copy.

    Args:
        name: of a notebook in `notebooks/`, without its ending.
        output: where the executed copy goes; it appears only if every cell ran.
        parameters: literals for the cell tagged `parameters`.

    Raises:
        S2LError: an unknown notebook or parameter, or an executed copy over 1 MB.
        papermill.PapermillExecutionError: a cell failed; its traceback is shown.
        KeyboardInterrupt, SystemExit: on SIGINT or SIGTERM, after the kernel has had them too.
    """
    source = paths.notebook(name)
    if not source.exists():
        have = ", ".join(sorted(file.stem for file in source.parent.glob("*.ipynb")))
        raise S2LError(f"{name}: no such notebook. There are: {have}.")
    check_parameters(source, parameters)

    def execute(temporary: Path) -> None:
        papermill.execute_notebook(
            str(source),
            str(temporary),
            parameters,
            log_output=True,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            progress_bar=False,
            cwd=str(paths.ROOT),
            engine_name="s2l",
        )
        notebook = normalise(nbformat.read(temporary, as_version=4))
        text = nbformat.writes(notebook) + "\n"
        if len(text) > MAX_BYTES:
            raise S2LError(
                f"{output}: {len(text):,} bytes, at most {MAX_BYTES:,} are kept. Show smaller"
                " pictures."
            )
        temporary.write_text(text)

    for unfinished in output.parent.glob(
        f".{glob.escape(output.stem)}-*.tmp.ipynb"
    ):  # what a kill left behind
        unfinished.unlink(missing_ok=True)
    previous = os.environ.get(PLAIN)
    os.environ[PLAIN] = "1"
    try:
        write_atomically(output, execute)
    finally:
        os.environ.pop(PLAIN) if previous is None else os.environ.update({PLAIN: previous})
    return output


class _Engine(NBClientEngine):
    """papermill's engine, which passes signals on to the kernel:
    a training there answers them with a checkpoint.
    """

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, start_timeout, input_path, **options):
        client = PapermillNotebookClient(
            nb_man, kernel_name=kernel_name, startup_timeout=start_timeout, log=logger, **options
        )

        def pass_on(number):
            kernel = client.km and client.km.provisioner
            if not (kernel and kernel.has_process):
                signals.obey()
            os.killpg(kernel.pgid, number)

        with Signals(pass_on) as signals:
            try:
                client.execute()
            finally:
                signals.obey()


papermill_engines.register("s2l", _Engine)


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drops what differs between two executions of the same code: timings, random ids,
    addresses, machine paths.
    """
    kept = ("kernelspec", "language_info")
    notebook.metadata = {key: value for key, value in notebook.metadata.items() if key in kept}
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if "injected-parameters" in tags:
            cell["id"] = "injected-parameters"
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
            for holder, key in (
                (output, "text"),
                *((output.get("data", {}), k) for k in ("text/plain", "text/html")),
            ):
                if key in holder:
                    holder[key] = _anonymous(holder[key])
    return notebook


def run_training(config: RunConfig, *, threads: int = 0, resume: bool = True) -> Path:
    """One run of the batch: notebook 04 with this configuration;
    its executed copy goes into the run's folder.

    Snakemake's rule and notebook 05 both call this.
    """
    base = RunConfig(config.dataset, config.method, profile=config.profile).to_dict()
    named = {
        name: getattr(config, name)
        for name in ("dataset", "method", "fold", "seed", "profile", "budget")
    }
    own = config.to_dict()
    overrides = {name: own[name] for name in own if name not in named and own[name] != base[name]}
    parameters = named | {"overrides": overrides, "threads": threads, "resume": resume}
    folder = paths.run_folder(config.profile, results.run_id(config))
    return run("04_train", folder / "notebook.ipynb", parameters)


def _is_literal(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_literal, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_literal, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def _anonymous(text: str) -> str:
    for folder in {str(paths.home()), str(paths.ROOT)}:
        text = text.replace(f"{folder}/", "")
    text = text.replace(str(paths.raw_data()), "$S2L_DATA")
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(arguments: list[str] | None = None) -> None:
    """Command line: `run NOTEBOOK OUTPUT name=value ...`,
    or `train`/`warmup` with the fields of a configuration.
    """
    parser = argparse.ArgumentParser(prog="python -m s2l_paper.notebooks", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "train", "warmup"):
        sub = commands.add_parser(command)
        if command == "run":
            sub.add_argument("notebook")
            sub.add_argument("output", type=Path)
        else:
            sub.add_argument("--threads", type=int, default=0, help="0: all")
        sub.add_argument("values", nargs="*", metavar="name=value")
    given = parser.parse_args(arguments)
    try:
        bad = [text for text in given.values if "=" not in text]
        if bad:
            raise S2LError(f"{bad[0]!r}: expected name=value.")
        values = {
            name: _literal(text) for name, text in (text.split("=", 1) for text in given.values)
        }
        if given.command == "run":
            run(given.notebook, given.output, values)
        elif given.command == "train":
            run_training(RunConfig.from_dict(values), threads=given.threads)
        else:
            os.environ[PLAIN] = "1"
            from s2l_paper.runs import (
                set_threads,
                warm_up,
            )  # loads torch, which planning a batch never needs

            set_threads(given.threads)
            warm_up(RunConfig.from_dict(values))
    except S2LError as error:
        sys.exit(f"error: {error}")
    except papermill.PapermillExecutionError as error:
        if error.ename not in ("S2LError", "Fault"):  # whose words say all that a user needs
            raise
        sys.exit(f"error: {error.evalue}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
