"""Runs the notebooks: checks parameters, executes and normalises.

The only file that knows papermill. Papermill itself only logs a parameter that a notebook does not
have and turns a tuple into a string; here both are refused.
"""

import ast
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from IPython import get_ipython
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger

from s2l_core.config import RunConfig, S2LError, suggestion
from s2l_images.files import write_atomically
from s2l_images.progress import PLAIN
from s2l_images.signals import Signals
from s2l_paper import paths
from s2l_paper.running import results

MAX_EXECUTED_BYTES = 1_000_000


def known_parameters(notebook: Path) -> dict[str, str]:
    """Name -> default, as it is written there, of what can be set in a notebook."""
    entries = papermill.inspect_notebook(str(notebook))
    return {name: entry["default"] for name, entry in entries.items()}


def refuse_unknown(name: str) -> None:
    """Called by a notebook: stops it where papermill gave it a parameter that it does not have.

    Papermill itself only logs such a name, and runs with the default of the one that was meant.

    Args:
        name: of the notebook, without its ending.

    Raises:
        S2LError: names the parameter and the nearest right one.
    """
    shell = get_ipython()
    notebook = paths.notebook(name)
    known = known_parameters(notebook)
    for cell in shell.user_ns.get("In", []) if shell else []:
        if cell.startswith("# Parameters"):  # so papermill heads the cell that it adds
            for node in ast.parse(cell).body:
                for target in getattr(node, "targets", []):
                    _check_name(notebook, target.id, known)


def _check_name(notebook: Path, name: str, known: Iterable[str]) -> None:
    """Raises an S2LError unless a notebook has this parameter."""
    if name not in known:
        raise S2LError(f"{notebook.name}: no parameter {name!r}.{suggestion(name, known)}")


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Refuses what papermill would let pass.

    Raises:
        S2LError: a parameter that the notebook does not have, a value that is no plain literal, or
            one of another type.
    """
    known = known_parameters(notebook)
    for name, value in parameters.items():
        _check_name(notebook, name, known)
        if not _is_literal(value):
            kinds = "Give a number, a string, True, False, None, or a list or dict of these."
            raise S2LError(
                f"{notebook.name}: {name} = {value!r} is a {type(value).__name__}. {kinds}"
            )

        # A whole number will do where a fraction is expected; None stands for anything.
        default = ast.literal_eval(known[name])
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits and default is not None and value is not None:
            expected = f"expected {type(default).__name__} like {default!r}"
            raise S2LError(f"{notebook.name}: {name} = {value!r}; {expected}. Change it.")


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
        have = sorted(file.stem for file in source.parent.glob("*.ipynb"))
        raise S2LError(f"{name}: no such notebook.{suggestion(name, have)}")
    check_parameters(source, parameters)

    # A run that was killed left its half of a copy behind.
    for unfinished in output.parent.glob(f".{glob.escape(output.stem)}-*.tmp.ipynb"):
        unfinished.unlink(missing_ok=True)
    with _plain_progress():
        write_atomically(output, lambda temporary: _execute(source, temporary, output, parameters))
    return output


def _execute(source: Path, temporary: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Executes a notebook into `temporary`, and normalises what it has become."""
    papermill.execute_notebook(
        _verbatim(source),
        _verbatim(temporary),
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
    if len(text) > MAX_EXECUTED_BYTES:
        found = f"{output}: {len(text):,} bytes, at most {MAX_EXECUTED_BYTES:,} are kept"
        raise S2LError(f"{found}. Show smaller pictures.")
    temporary.write_text(text, encoding="utf-8")


def _verbatim(file: Path) -> str:
    """A path for papermill, which would fill in parameters between braces."""
    return str(file).replace("{", "{{").replace("}", "}}")


@contextmanager
def _plain_progress() -> Iterator[None]:
    """Inside, kernels print progress as plain lines."""
    previous = os.environ.get(PLAIN)
    os.environ[PLAIN] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ[PLAIN]
        else:
            os.environ[PLAIN] = previous


@contextmanager
def sentences() -> Iterator[None]:
    """Raises a user's error in a cell as itself; papermill would report it with a traceback.

    Raises:
        S2LError: with the words that the cell ended with.
    """
    try:
        yield
    except papermill.PapermillExecutionError as error:
        if error.ename not in ("S2LError", "Fault"):
            raise
        raise S2LError(error.evalue) from None


class _Engine(NBClientEngine):
    """papermill's engine, which passes signals on: a training answers with a checkpoint."""

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
    """Drops what differs between two executions: timings, random ids, addresses, machine paths."""
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
            if "text" in output:
                output["text"] = _anonymous(output["text"])
            data = output.get("data", {})
            for kind in ("text/plain", "text/html"):
                if kind in data:
                    data[kind] = _anonymous(data[kind])
    return notebook


def run_training(config: RunConfig, *, threads: int = 0, resume: bool = True) -> Path:
    """One run of the batch: notebook 04 with this configuration.

    Its executed copy goes into the run's folder. Snakemake's rule and notebook 05 both call this.
    """
    # The notebook has parameters for these; whatever else is set goes through `overrides`.
    own = ("dataset", "method", "fold", "seed", "profile", "budget")
    parameters = {name: getattr(config, name) for name in own}
    changed = config.changed()
    parameters["overrides"] = {name: changed[name] for name in changed if name not in own}
    parameters |= {"threads": threads, "resume": resume}
    folder = results.folder_of(config)
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
