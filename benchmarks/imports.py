"""What starting costs: the package beside the libraries it cannot do without,
and the tables without PyTorch.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import Row, Scale, absolute, ratio
from s2l_paper import paths

LIBRARIES = "import torch, segmentation_models_pytorch"


def measure(scale: Scale) -> list[Row]:
    """Wall time of a fresh interpreter each time."""
    programs = {
        "libraries": LIBRARIES,
        "package": "import s2l_core",
        "trainer": "import s2l_paper.running.runs",
    }
    programs["tables"] = imports(code("06_table1"))
    times = scale.turns({name: partial(python, program) for name, program in programs.items()})
    loaded = loads_torch("06_table1")
    return [
        ratio("import s2l_core", times["package"], LIBRARIES, times["libraries"], "<= 1.2"),
        ratio(
            "import s2l_paper.running.runs",
            times["trainer"],
            LIBRARIES,
            times["libraries"],
            "<= 1.2",
        ),
        ratio("imports of notebook 06", times["tables"], LIBRARIES, times["libraries"]),
        absolute("all cells of notebook 06: load PyTorch", [float(loaded)], "<= 0", "times"),
    ]


def python(program: str, **environment: str) -> str:
    """What a program prints; Python keeps what it compiles, as it usually does."""
    command = [sys.executable, "-c", program]
    usual = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    } | environment
    return subprocess.run(
        command, cwd=paths.ROOT, env=usual, check=True, capture_output=True, text=True
    ).stdout


def code(name: str) -> str:
    """All code cells of a notebook as one program."""
    cells = json.loads(paths.notebook(name).read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imports(program: str) -> str:
    """The import statements of a program."""
    found = [
        node
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join(map(ast.unparse, found))


def loads_torch(name: str) -> bool:
    """Runs a notebook's cells on the committed runs, in an interpreter of its own:
    is PyTorch loaded at the end?
    """
    program = code(name).replace('profile = "smoke"', 'profile = "scratch"', 1)
    with tempfile.TemporaryDirectory() as home:  # where it may write its tables
        folder = Path(home, "results", "scratch")
        folder.mkdir(parents=True)
        (folder / "runs").symlink_to(paths.ROOT / "results" / "scratch" / "runs")
        printed = python(
            f"{program}\nimport sys\nprint('torch' in sys.modules)", S2L_HOME=home, MPLBACKEND="Agg"
        )
    return printed.split()[-1] == "True"
