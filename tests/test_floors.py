"""The house rules of the package: which room may import what, how long things may be, and where chance comes from."""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

import pytest

from conftest import ROOT, repository_files

PACKAGE = ROOT / "s2l_core"
FLOORS = {
    0: {"config", "paths", "signals"},
    1: {"losses", "model", "pseudo_labels", "strokes", "metrics", "rivals", "synthetic", "augment", "formats"}
    | {"archives", "findings", "progress"},
    2: {"checks", "sources", "inference", "scribbler", "results", "statistics", "batches", "objective", "drawing"},
    3: {"checkpoints", "costs", "evaluation", "provenance", "tables", "overview"},
    4: {"claims", "readings", "trainer"},
    5: {"charts", "figures", "notebooks", "rounds", "verify"},
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms} | {"__init__": 0}
FLOOR["datasets"] = 2.5  # reads what `sources` locates
FLOOR["scribbles"] = 1.5  # draws the strokes of floor 1; all else of that floor may stay ignorant of it
FLOOR["interchange"] = FLOOR["exports"] = 1.5  # draw and write what `formats` takes apart
FLOOR["supplement"] = 5.5  # a figure made of what `figures` finds
FLOOR |= {"pixels": 1.6, "encodings": 1.7, "folders": 1.8}  # each reads what the one before opens
NUMERIC = {"numpy", "scipy", "skimage", "sklearn", "torch", "segmentation_models_pytorch"}
EXTRA = {  # beside NUMERIC: file formats, and the transforms of augment
    "progress": {"IPython", "tqdm"},
    "archives": {"PIL", "defusedxml"},
    "augment": {"torchvision"},
    "formats": {"PIL", "defusedxml", "roifile", "tifffile"},
    "exports": {"roifile", "tifffile"},
    "pixels": {"PIL", "tifffile"},
    "encodings": {"PIL"},
    "model": {"safetensors"},
}
SHARED = {"IGNORE", "Stroke", "ScaleTerm", "S2LError", "seed_for"}  # all that floor 1 may know of floor 0
OWNED = {"anywidget": "scribbler", "papermill": "notebooks", "pooch": "sources"}  # a library that only one room knows
# beside the method: what reads a stranger's files, draws, tells and checks; nothing of the core needs these
OWN_IMAGES = {"checks", "encodings", "exports", "findings", "folders", "formats", "interchange", "pixels", "rounds"}
OWN_IMAGES |= {"scribbler"}
REPORTS = {"charts", "claims", "drawing", "figures", "overview", "provenance", "readings", "statistics", "supplement"}
REPORTS |= {"tables", "verify"}
LONGEST_CORE, LONGEST_PACKAGE, LONGEST_FILE, LONGEST_FUNCTION = 3000, 5600, 300, 60
SEEDED = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox"}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal"}
GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}

FILES = sorted(PACKAGE.glob("*.py"))


def imports(tree):
    """(module, names) of every import, those inside functions too; names is None for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = f"s2l_core.{module}".rstrip(".")
            yield module, {alias.name for alias in node.names}


def rooms_and_names(module, names):
    """The rooms that one import of s2l_core reaches, with the names taken from each."""
    parts = module.split(".")
    if len(parts) > 1:
        return [(parts[1], names)]
    rooms = {name for name in names or () if name in FLOOR}
    return [(room, None) for room in rooms] or [("__init__", names)]


def import_faults(room, tree):
    """What a room imports although its floor may not."""
    floor, faults = FLOOR[room], []
    for module, names in imports(tree):
        top = module.split(".")[0]
        if top == "s2l_core":
            for other, taken in rooms_and_names(module, names):
                if other != "__init__" and FLOOR.get(other, 99) >= floor:
                    faults.append(f"{room} (floor {floor}) imports {other} (floor {FLOOR.get(other, '?')})")
                elif floor == 1 and (other != "config" or not taken or taken - SHARED):
                    faults.append(f"{room} (floor 1) may take {sorted(SHARED)} from config, and took {taken or other}")
        elif top not in sys.stdlib_module_names:
            allowed = [set(), NUMERIC | EXTRA.get(room, set())][int(floor)] if floor < 2 else {top}
            if top not in allowed or OWNED.get(top, room) != room:
                faults.append(f"{room} (floor {floor}) imports {module}")
    return faults


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def length_faults(tree):
    """Functions that are too long, decorators aside, docstring included."""
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions(tree)}
    return [f"{name} has {lines} lines" for name, lines in lengths.items() if lines > LONGEST_FUNCTION]


def docstring_faults(tree, prefix=""):
    """Public functions, classes and methods that say nothing."""
    faults = []
    for node in tree.body:
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        if isinstance(node, kinds) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                faults.append(f"{prefix}{node.name} has no docstring")
            if isinstance(node, ast.ClassDef):
                faults += docstring_faults(node, f"{prefix}{node.name}.")
    return faults


def chance_faults(tree):
    """Draws that hang on a global generator, unless inside `fork_rng`, which restores it."""
    faults = []

    def visit(node):
        if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item) for item in node.items):
            return
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).replace("np.", "numpy.", 1)
            owner, _, leaf = name.rpartition(".")
            keywords = {keyword.arg for keyword in node.keywords}
            unseeded = owner == "torch" and leaf in TORCH_DRAWS and "generator" not in keywords
            if name in GLOBAL_SEEDS or unseeded or owner == "random" or owner == "numpy.random" and leaf not in SEEDED:
                faults.append(f"line {node.lineno}: {name}")
            if leaf == "default_rng" and not node.args:
                faults.append(f"line {node.lineno}: {name} without a seed")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return faults


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_room_keeps_the_rules(path: Path):
    text = path.read_text()
    tree = ast.parse(text)
    assert path.stem in FLOOR, f"{path.name} is on no floor: give it one in this file and in the design"
    faults = import_faults(path.stem, tree) + length_faults(tree) + docstring_faults(tree) + chance_faults(tree)
    lines = len(text.splitlines())
    if lines > LONGEST_FILE:
        faults.append(f"{lines} lines, of {LONGEST_FILE} at most")
    if not ast.get_docstring(tree):
        faults.append("the file has no docstring")
    assert not faults, "\n".join(faults)


def code_lines(text):
    """Numbers of the lines that hold code: blank lines, comments and docstrings are there to be read faster."""
    kinds = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    documented = [
        node.body[0] for node in ast.walk(ast.parse(text)) if isinstance(node, kinds) and ast.get_docstring(node)
    ]
    prose = {line for node in documented for line in range(node.lineno, node.end_lineno + 1)}
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in silent]
    return {line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - prose


def test_code_lines_count_code_only():
    text = (
        '"""Prose."""\n\n# why\nx = 1  # two\n\n\ndef f():\n    """Prose,\n    more."""\n    return (\n        x\n    )'
    )
    assert code_lines(text) == {4, 7, 10, 11, 12}


def test_package_reads_in_an_hour():
    lines = {path.stem: len(code_lines(path.read_text())) for path in FILES}
    core = {room: count for room, count in lines.items() if room not in OWN_IMAGES | REPORTS}
    assert len(core) > 20 and lines.keys() >= OWN_IMAGES | REPORTS
    assert sum(core.values()) <= LONGEST_CORE, f"{sum(core.values())} lines of code: {core}"
    assert sum(lines.values()) <= LONGEST_PACKAGE, f"{sum(lines.values())} lines of code: {lines}"


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("config", "import numpy"),
        ("losses", "from s2l_core.config import RunConfig"),
        ("losses", "import s2l_core.config"),
        ("losses", "from s2l_core import paths"),
        ("losses", "from s2l_core.model import ScribbleUNet"),
        ("losses", "from .model import ScribbleUNet"),
        ("losses", "def f():\n    import pandas"),
        ("model", "import papermill"),
        ("results", "from s2l_core import datasets"),
        ("inference", "from s2l_core.trainer import train"),
        ("trainer", "from s2l_core import figures"),
        ("figures", "from s2l_core.notebooks import run"),
        ("trainer", "import papermill as pm"),
        ("trainer", "from s2l_core import no_such_room_yet\nimport s2l_core.no_such_room_yet"),
    ],
)
def test_a_forbidden_import_is_seen(room, code):
    assert len(import_faults(room, ast.parse(code))) == 1


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("losses", "import math\nimport torch.nn.functional as F\nfrom s2l_core.config import IGNORE, S2LError"),
        ("trainer", "from s2l_core import datasets, paths\nfrom s2l_core.config import RunConfig\nimport pandas"),
        ("notebooks", "import papermill\nfrom . import trainer\nfrom s2l_core import __version__"),
    ],
)
def test_an_allowed_import_passes(room, code):
    assert import_faults(room, ast.parse(code)) == []


@pytest.mark.parametrize(
    ("code", "faults"),
    [
        ("np.random.seed(0)", 1),
        ("numpy.random.rand(3)", 1),
        ("np.random.default_rng()", 1),
        ("torch.manual_seed(0)", 1),
        ("torch.randperm(9)", 1),
        ("random.shuffle(x)", 1),
        ("np.random.default_rng(seed_for(0, 'x'))", 0),
        ("torch.randperm(9, generator=g)", 0),
        ("with torch.random.fork_rng():\n    torch.manual_seed(0)", 0),
    ],
)
def test_global_chance_is_seen(code, faults):
    assert len(chance_faults(ast.parse(code))) == faults


def test_long_and_silent_functions_are_seen():
    tree = ast.parse("def f():\n" + "    x = 1\n" * LONGEST_FUNCTION + "class A:\n    'A.'\n    def g(self): ...")
    assert length_faults(tree) == [f"f has {LONGEST_FUNCTION + 1} lines"]
    assert docstring_faults(tree) == ["f has no docstring", "A.g has no docstring"]


# a letter in brackets keeps each pattern from finding itself here; both are for text in lower case, which is eight
# times as fast as to ignore the case
ADDRESSES = re.compile(r"py[p]i\.(org|python)|python[h]osted|npm[j]s|--(extra-)?inde[x]-url|artifactor[y]")
MACHINE = re.compile(r"(?<![\w./~-])/(wor[k]|roo[t]|hom[e]|user[s])/\w|/tmp/ipyk[e]rnel")


def test_no_file_names_a_registry_or_a_machine():
    faults = []
    for path in repository_files():
        text = path.read_bytes().decode("latin-1").lower()
        for found in [*ADDRESSES.finditer(text), *MACHINE.finditer(text)]:
            start = found.start()
            line = text.count("\n", 0, start) + 1
            faults.append(f"{path.relative_to(ROOT)}:{line}: {text[start : start + 80]!r}")
    assert not faults, "\n".join(faults)


def test_machine_paths_are_recognised():
    for bad in ("/hom" + "e/ann/data", "see /wor" + "k/x", "'/Use" + "rs/ann/s2l'", "https://py" + "pi.org/simple"):
        assert ADDRESSES.search(bad.lower()) or MACHINE.search(bad.lower()), bad
    for good in ("results/home/x", "https://example.org/home/x", "~/home/x", "/path/to/data", "data/raw"):
        assert not (ADDRESSES.search(good.lower()) or MACHINE.search(good.lower())), good


def test_no_file_is_large():
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in repository_files() if p.stat().st_size > 5e6}
    assert not large
