"""What a run notes of where it was made: versions, machine, time, memory and commit."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys

from s2l_paper import paths

PACKAGES = (
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "numpy",
    "scipy",
    "scikit-image",
    "scikit-learn",
)


def environment(seconds: float, warmup_seconds: float = 0.0) -> dict:
    """What `env.json` holds; the commit is provenance only.

    Args:
        seconds: wall time of the run, over all its resumes.
        warmup_seconds: wall time of the warm-up, which other runs may share.
    """
    torch = sys.modules.get("torch")
    unit = 1024 if sys.platform == "linux" else 1024**2  # kilobytes there, bytes on a Mac
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": torch.get_num_threads() if torch else 1,
        "seconds": round(seconds, 1),
        "warmup_seconds": round(warmup_seconds, 1),
        "peak_memory_mib": round(peak),
        "commit": _commit(),
    }


def _commit() -> str:
    command = ["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
