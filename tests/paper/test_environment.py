"""pyproject.toml, environment.yml and requirements.lock say the same; each package imports no more
than its extra brings. That nothing is left out or idle is seen to by deptry, in `make lint`.
"""

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

from conftest import ROOT, repository_files

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
CONDA_NAMES = {  # conda's name -> ours
    "pytorch": "torch",
    "huggingface_hub": "huggingface-hub",
    "snakemake-minimal": "snakemake",
}
# PyTorch for CUDA, which a Mac has no wheel of
PLATFORM_BOUND = re.compile(r"nvidia-|cuda-|triton$")


def bounds(requirements):
    """name -> lower bound, of requirements that each carry `>=` and nothing else; our own extras
    among them are left out.
    """
    parsed = [Requirement(text) for text in requirements]
    parsed = [requirement for requirement in parsed if requirement.name != PROJECT["name"]]
    assert all([spec.operator for spec in r.specifier] == [">="] for r in parsed), (
        "expected one `>=` bound each"
    )
    return {canonicalize_name(r.name): Version(next(iter(r.specifier)).version) for r in parsed}


CORE = bounds(PROJECT["dependencies"])
EXTRAS = {
    name: bounds(listed)
    for name, listed in PROJECT["optional-dependencies"].items()
    if name != "bioimageio"  # not locked: it and the lock's Pydantic do not fit (docs/elsewhere.md)
}
RUNTIME = CORE | EXTRAS["images"] | EXTRAS["paper"]
EVERYTHING = RUNTIME | EXTRAS["encoders"] | EXTRAS["dev"]


def lock_lines():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def locked(environment=None):
    """name -> pinned version on this machine,
    or where `environment` overrides the marker variables.
    """
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


def test_a_wheel_holds_every_file_of_the_packages():
    """Scripts, styles and texts are left out of a wheel unless a pattern names them."""
    for package in SETUPTOOLS["packages"]:
        patterns = ["*.py", *SETUPTOOLS["package-data"].get(package, [])]
        for file in repository_files(f"{package}/*"):
            assert file.parent.name == package, f"{file}: setuptools looks in no folder below"
            assert any(file.match(pattern) for pattern in patterns), f"{file}: add it to pyproject"


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
    assert {name: Version(bound) for name, bound in conda.items()} == EVERYTHING


def test_lock_satisfies_the_bounds():
    pins = locked()
    for name, bound in EVERYTHING.items():
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
    """Each locked package that is installed at its pin finds all its own requirements, met,
    in the lock.
    """
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


def with_all_they_need(requirements):
    """Names of the distributions that installing some of them brings, themselves included."""
    found, waiting = set(), [(name, frozenset()) for name in requirements]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        for needed in map(Requirement, importlib.metadata.requires(name) or []):
            asked = [{"extra": extra} for extra in extras or [""]]
            if needed.marker is None or any(map(needed.marker.evaluate, asked)):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return {name for name, _ in found}


IMPORTING = """
import importlib, json, pkgutil, sys
from importlib.machinery import PathFinder

package, blocked = sys.argv[1], set(json.load(sys.stdin))


class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in blocked:
            return super().find_spec(name, path, target)


sys.meta_path = [Installed if finder is PathFinder else finder for finder in sys.meta_path]
for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
    importlib.import_module(module.name)
    print(module.name.rpartition(".")[2])
"""


@pytest.mark.parametrize(
    ("package", "requirements"),
    [("s2l_core", CORE), ("s2l_images", CORE | EXTRAS["images"])],
)
def test_a_package_imports_no_more_than_its_extra_brings(package, requirements):
    """Every module of it is imported where no other distribution can be."""
    brought = with_all_they_need(requirements)
    owners = importlib.metadata.packages_distributions()
    blocked = [
        module
        for module, names in owners.items()
        if not brought & set(map(canonicalize_name, names)) and not module.startswith("s2l_")
    ]
    assert {"matplotlib", "pandas", "pytest"} <= set(blocked)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, package],
        input=json.dumps(blocked),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    modules = {path.stem for path in (ROOT / package).rglob("*.py")} - {"__init__"}
    assert set(done.stdout.split()) >= modules


def test_version_is_one():
    from s2l_core import __version__

    citation = re.search(r"(?m)^version: (.+)$", (ROOT / "CITATION.cff").read_text()).group(1)
    assert PROJECT["version"] == __version__ == citation
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_a_changed_lock_or_project_is_installed_again():
    """`make` reinstalls when the lock or the project is newer than the last complete installation,
    else not.
    """
    base = ["make", "--no-print-directory", "--dry-run", "install"]
    stale = subprocess.run(
        [*base, "--what-if=requirements.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "-r requirements.lock" in stale.stdout
    assert "--no-deps" in stale.stdout


def test_a_variable_that_make_does_not_have_is_answered_with_the_nearest():
    for word, meant in {"DATASET=dsb-bf": "DATASETS", "methods=otsu": "METHODS"}.items():
        command = ["make", "--no-print-directory", "--dry-run", "reproduce"]
        command += ["OMP_NUM_THREADS=1", word]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and not done.stdout
        assert f"no variable {word.split('=')[0]}. Did you mean {meant}?" in done.stderr

    # What `make help` names is known, and what a command reads from its environment passes.
    text = (ROOT / "Makefile").read_text()
    known = re.search(r"(?m)^KNOWN = (.+)$", text).group(1).split()
    assert {*re.findall(r"(?m)^([A-Z]+) *=.*?#  ", text)} <= {*known}
    given = [f"{name}={'2 3' if name == 'SEEDS' else '1'}" for name in known if name != "PYTHON"]
    command = ["make", "help", *given, "OMP_NUM_THREADS=1", "S2L_HOME=a", "S2L_PLAIN=1"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


def test_markers_are_understood():
    assert Marker('python_full_version < "3.11.5"').evaluate({"python_full_version": "3.11.2"})
    old = locked({"python_full_version": "3.11.2", "python_version": "3.11"})
    assert old["soupsieve"] < Version("4"), (
        "soupsieve 4 asks for Python 3.11.5, and Debian 12 ships 3.11.2"
    )
    assert "aiohttp" in locked({"python_full_version": "3.12.4", "python_version": "3.12"})
