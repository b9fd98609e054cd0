"""What starting costs: the package beside the libraries it cannot do without, and the tables without PyTorch."""

import ast
import json
import os
import subprocess
import sys
from functools import partial

from benchmarks.harness import Row, Scale, absolute, ratio
from s2l_core import paths

LIBRARIES = "import torch, segmentation_models_pytorch"


def measure(scale: Scale) -> list[Row]:
    """Wall time of a fresh interpreter each time."""
    programs = {"libraries": LIBRARIES, "package": "import s2l_core", "trainer": "import s2l_core.trainer"}
    programs["tables"] = imports(code("06_table1"))
    times = scale.turns({name: partial(python, program) for name, program in programs.items()})
    loaded = loads_torch("06_table1")
    return [
        ratio("import s2l_core", times["package"], LIBRARIES, times["libraries"], "<= 1.2"),
        ratio("import s2l_core.trainer", times["trainer"], LIBRARIES, times["libraries"], "<= 1.2"),
        ratio("imports of notebook 06", times["tables"], LIBRARIES, times["libraries"]),
        absolute("all cells of notebook 06: load PyTorch", [float(loaded)], "<= 0", "times"),
    ]


def python(program: str) -> str:
    """What a program prints; Python keeps what it compiles, as it usually does."""
    command = [sys.executable, "-c", program]
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, cwd=paths.ROOT, env=usual, check=True, capture_output=True, text=True).stdout


def code(name: str) -> str:
    """All code cells of a notebook as one program."""
    cells = json.loads(paths.notebook(name).read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imports(program: str) -> str:
    """The import statements of a program."""
    found = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(map(ast.unparse, found))


def loads_torch(name: str) -> bool:
    """Runs a notebook's cells in an interpreter of its own: is PyTorch loaded at the end?"""
    return python(f"{code(name)}\nimport sys\nprint('torch' in sys.modules)").split()[-1] == "True"
