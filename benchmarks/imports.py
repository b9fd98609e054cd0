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
    programs["tables"] = notebook_imports("06_table1")
    times = scale.turns({name: partial(python, program) for name, program in programs.items()})
    loaded = python(f"{programs['tables']}\nimport sys; print(int('torch' in sys.modules))")
    return [
        ratio("import s2l_core", times["package"], LIBRARIES, times["libraries"], "<= 1.2"),
        ratio("import s2l_core.trainer", times["trainer"], LIBRARIES, times["libraries"], "<= 1.2"),
        ratio("imports of notebook 06", times["tables"], LIBRARIES, times["libraries"]),
        absolute("imports of notebook 06: loads PyTorch", [float(loaded)], "<= 0", "times"),
    ]


def python(program: str) -> str:
    """What a program prints; Python keeps what it compiles, as it usually does."""
    command = [sys.executable, "-c", program]
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, cwd=paths.ROOT, env=usual, check=True, capture_output=True, text=True).stdout


def notebook_imports(name: str) -> str:
    """The import statements of a notebook."""
    cells = json.loads(paths.notebook(name).read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(map(ast.unparse, found))
