"""What every test shares: markers that say what did not run, no network, deterministic examples."""

import importlib.util
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("MPLBACKEND", "Agg")
# Tests run side by side, so each of them, and what it starts, computes on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# no time limits, however busy the machine; in CI the same examples every time:
# a red run there must be repeatable
SUPPRESSED = [
    HealthCheck.too_slow,
    HealthCheck.function_scoped_fixture,
]  # folders of tests are written over
settings.register_profile(
    "s2l", deadline=None, suppress_health_check=SUPPRESSED, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("s2l")


def repository_files(*patterns: str) -> list[Path]:
    """Files that git holds or would hold after `git add -A`; outside a checkout,
    all that is no cache.
    """
    command = [
        "git",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        *patterns,
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [path for pattern in patterns or ("**/*",) for path in ROOT.glob(pattern)]
        found = [
            p
            for p in found
            if not {".venv", ".git", "__pycache__", ".snakemake"} & set(p.relative_to(ROOT).parts)
        ]
    return sorted({path for path in found if path.is_file()})


def raises_fault(*codes: str, file: str = "", naming: str = ""):
    """Expects a fault of one of these kinds, however it is worded.

    Args:
        codes: keys of `input_faults.toml`.
        file: the end of the path that the fault is about.
        naming: what it has to show of the file's content.
    """
    from s2l_images.faults import Fault

    def fits(fault):
        return fault.finding.code in codes and str(fault.finding.file).endswith(file)

    return pytest.raises(Fault, match=re.escape(naming) if naming else None, check=fits)


def script(name: str):
    """A script of the repository that is in no package, such as `data/make_scribbles.py`,
    as a module.
    """
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Files that take longest, the longest first; all others take less than about 20 s.
LONGEST_FILES = (
    "test_browser",
    "test_workflow",
    "test_benchmarks",
    "test_resume",
    "test_annotators",
    "test_rounds",
    "test_batch_faults",
    "test_paths",
    "test_board_alive",
    "test_running",
    "test_site",
    "test_statistics",
    "test_papermill",
    "test_widget",
)


def pytest_collection_modifyitems(items):
    """Files that take longest come first, so that no worker is left alone with one at the end."""
    last = len(LONGEST_FILES)
    order = {name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, last))  # a stable sort


def pytest_runtest_setup(item):
    """Skips what this machine cannot run, with the reason that the summary prints."""
    if item.get_closest_marker("real") and not os.environ.get("S2L_DATA"):
        pytest.skip("S2L_DATA is not set: tests on real images did not run")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device: tests on a GPU did not run")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """A test that reaches for the network fails;
    notebook kernels on this machine stay reachable.
    """
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise AssertionError(f"a test tried to connect to {address}: tests run offline")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def one_thread():
    """Tiny work on several cores is mostly waiting for one another,
    and may differ in its last digits.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
