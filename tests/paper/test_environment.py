"""pyproject.toml, environment.yml and requirements.lock say the same, and nothing is installed that no one uses."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from conftest import ROOT
from s2l_core.weights import PACKAGED

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {
    "pytorch": "torch",
    "huggingface_hub": "huggingface-hub",
    "snakemake-minimal": "snakemake",
}  # conda's name -> ours
IMPORT_NAMES = {  # package -> module, where they differ
    "pillow": "PIL",
    "pytest-xdist": "xdist",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
}
PACKAGES = ("s2l_core", "s2l_images", "s2l_paper")
PLATFORM_BOUND = re.compile(
    r"nvidia-|cuda-|triton$"
)  # PyTorch for CUDA, which a Mac has no wheel of
# arrive with JupyterLab, pytest and Sphinx, and are part of what those offer
IMPLIED = {"IPython", "docutils", "packaging", "traitlets"}


def bounds(requirements):
    """name -> lower bound, of a list of requirement strings that each carry `>=` and nothing else."""
    parsed = [Requirement(text) for text in requirements]
    assert all([spec.operator for spec in r.specifier] == [">="] for r in parsed), (
        "expected one `>=` bound each"
    )
    return {canonicalize_name(r.name): Version(next(iter(r.specifier)).version) for r in parsed}


RUNTIME = bounds(PROJECT["dependencies"])
DEVELOPMENT = bounds(PROJECT["optional-dependencies"]["dev"])


def lock_lines():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def locked(environment=None):
    """name -> pinned version on this machine, or where `environment` overrides the marker variables."""
    pins = [Requirement(line) for line in lock_lines()]
    here = [r for r in pins if r.marker is None or r.marker.evaluate(environment)]
    names = [canonicalize_name(r.name) for r in here]
    assert len(names) == len(set(names)), (
        f"pinned twice: {sorted({n for n in names if names.count(n) > 1})}"
    )
    return {
        name: Version(next(iter(r.specifier)).version) for name, r in zip(names, here, strict=True)
    }


def conda_lines():
    """The text of each dependency of environment.yml, reason included."""
    text = (ROOT / "environment.yml").read_text().split("dependencies:\n")[1]
    return [line.strip()[2:] for line in text.splitlines() if line.strip().startswith("- ")]


def test_every_line_of_the_conda_environment_has_a_reason():
    bare = [line for line in conda_lines() if not re.fullmatch(r"\S+  # .{8,}", line)]
    assert not bare


def test_conda_environment_equals_the_project():
    conda = {}
    for line in conda_lines():
        name, _, bound = line.split()[0].split("::")[-1].partition(">=")
        conda[CONDA_NAMES.get(name, name)] = bound
    assert conda.pop("python") == PROJECT["requires-python"].removeprefix(">=")
    assert conda.pop("pip") == conda.pop("pip:") == ""
    assert {name: Version(bound) for name, bound in conda.items()} == RUNTIME | DEVELOPMENT


def test_lock_satisfies_the_bounds():
    pins = locked()
    for name, bound in (RUNTIME | DEVELOPMENT).items():
        assert name in pins, f"{name} is not in requirements.lock"
        assert pins[name] >= bound, f"{name}: locked {pins[name]}, bound {bound}"


def test_lock_holds_versions_and_markers_only():
    for line in lock_lines():
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line), (
            f"expected name==version ; marker, found: {line}"
        )
        Requirement(line)
    assert "://" not in (ROOT / "requirements.lock").read_text()
    assert "s2l-core" not in locked()


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64")],
)
def test_lock_fits_other_machines(system, machine):
    pins = locked({"sys_platform": system, "platform_machine": machine})
    assert set(RUNTIME) <= set(pins)
    cuda = [name for name in pins if PLATFORM_BOUND.match(name)]
    assert bool(cuda) == ((system, machine) == ("linux", "x86_64"))
    assert ("appnope" in pins) == (system == "darwin")


def test_lock_is_complete_for_what_is_installed():
    """Each locked package that is installed at its pin finds all its own requirements, met, in the lock."""
    pins, checked, faults = locked(), 0, []
    for name, version in pins.items():
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            faults.append(f"{name} is not installed: run `make install`")
            continue
        if Version(distribution.version) != version:
            faults.append(
                f"{name} {distribution.version} is installed, {version} locked: run `make install`"
            )
            continue
        checked += 1
        for requirement in map(Requirement, distribution.requires or []):
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            needed = pins.get(canonicalize_name(requirement.name))
            if needed is None or not requirement.specifier.contains(needed, prereleases=True):
                faults.append(f"{name} needs {requirement}, locked: {needed}")
    assert not faults, "\n".join(faults)
    assert checked > len(RUNTIME)


def sources(*folders):
    """Python source of every module and notebook, or of those in some folders."""
    for folder in folders or (*PACKAGES, "tests", "benchmarks", "docs", "workflow"):
        yield from (path.read_text() for path in (ROOT / folder).rglob("*.py"))
    if folders:
        return
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imported_modules():
    """Top-level names of all imports; a cell with an IPython magic has its magic lines left out."""
    modules = set()
    for source in sources():
        for node in ast.walk(ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", source))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.split(".")[0])
    return modules


def test_every_dependency_is_used():
    makefile = (ROOT / "Makefile").read_text()
    tools = set(re.findall(r"-m (\w+)", makefile)) | (
        {"xdist"} if "-m pytest -q -n " in makefile else set()
    )
    tools |= set(
        re.findall(r'"(\w+)"', (ROOT / "docs/conf.py").read_text())
    )  # Sphinx loads extension and theme
    drawn = (
        {"ipywidgets"}
        if any("import anywidget" in source for source in sources("s2l_images"))
        else set()
    )
    profiles = "".join(file.read_text() for file in (ROOT / "workflow").glob("profiles/*/*.yaml"))
    executors = {
        f"snakemake_executor_plugin_{name}"
        for name in re.findall(r"(?m)^executor: (\w+)", profiles)
    }
    used = imported_modules() | tools | drawn | executors
    used |= {
        source.package.replace("-", "_") for source in PACKAGED.values()
    }  # read, never imported
    idle = [
        name
        for name in RUNTIME | DEVELOPMENT
        if IMPORT_NAMES.get(name, name.replace("-", "_")) not in used
    ]
    assert not idle, (
        f"no one imports or calls {idle}: drop them from pyproject.toml and environment.yml"
    )


def test_every_import_is_declared():
    declared = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in RUNTIME | DEVELOPMENT}
    files = [
        path
        for folder in ("tests", "benchmarks", "workflow")
        for path in (ROOT / folder).rglob("*.py")
    ]
    own = {*PACKAGES, *(path.stem for path in files), *(path.parent.name for path in files)}
    undeclared = imported_modules() - declared - own - IMPLIED - set(sys.stdlib_module_names)
    assert not undeclared, f"imported but not in pyproject.toml: {sorted(undeclared)}"


def test_version_is_one():
    from s2l_core import __version__

    citation = re.search(r"(?m)^version: (.+)$", (ROOT / "CITATION.cff").read_text()).group(1)
    assert PROJECT["version"] == __version__ == citation
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_a_changed_lock_or_project_is_installed_again():
    """`make` reinstalls when the lock or the project is newer than the last complete installation, else not."""
    base = ["make", "--no-print-directory", "--dry-run", "install"]
    stale = subprocess.run(
        [*base, "--what-if=requirements.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "-r requirements.lock" in stale.stdout
    assert "--no-deps" in stale.stdout


def test_markers_are_understood():
    assert Marker('python_full_version < "3.11.5"').evaluate({"python_full_version": "3.11.2"})
    old = locked({"python_full_version": "3.11.2", "python_version": "3.11"})
    assert old["soupsieve"] < Version("4"), (
        "soupsieve 4 asks for Python 3.11.5, and Debian 12 ships 3.11.2"
    )
    assert "aiohttp" in locked({"python_full_version": "3.12.4", "python_version": "3.12"})
