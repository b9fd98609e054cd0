"""A fold of five methods that share a warm-up, beside the same five trained apart."""

import json
import os
import shutil
import statistics
import tempfile
from functools import partial
from unittest.mock import patch

from benchmarks.harness import Row, Scale, ratio, seconds
from s2l_core.config import METHODS, TABLE1_METHODS, RunConfig
from s2l_paper import paths
from s2l_paper.running import results
from s2l_paper.running.runs import train, warm_up


def measure(scale: Scale) -> list[Row]:
    """Whole runs, tests and files included. Apart, each of the four has a warm-up of its own;
    W and M are theirs.

    The ideal is (2 W + 5 M) / (5 W + 5 M), W a run's warm-up and M all else it does: supervised
    training has nothing to share, so a fold warms up twice.
    """
    settings = scale.pick({"profile": "smoke"}, {"warmup_steps": 40, "main_steps": 120}) | {
        "dataset": "synthetic-fluo"
    }
    methods = scale.pick(("s2l", "supervised"), TABLE1_METHODS)
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, S2L_HOME=home):
        configs = {method: RunConfig(method=method, **settings) for method in methods}
        together = seconds(partial(warm_up, configs["s2l"], progress=False))
        apart, warmups = 0.0, []
        for method, config in configs.items():
            spent, times = trained(config)
            apart += spent
            if METHODS[method].forks:
                warmups.append(times["warmup_seconds"])
                spent, _ = trained(config, warmup=warm_up(config))
            together += spent
    saved = statistics.mean(warmups) * (len(warmups) - 1)
    ideal = (apart - saved) / apart
    name = (
        f"{len(methods)} methods, {config.dataset}, {config.warmup_steps} + {config.main_steps}"
        " steps"
    )
    return [
        ratio(f"{name}: wall time", [together], "apart", [apart]),
        ratio(
            f"{name}: share of the time apart", [together / apart], "ideal", [ideal], "<= 1.03", ""
        ),
    ]


def trained(config: RunConfig, **options) -> tuple[float, dict]:
    """Wall time of one run from nothing, and what its env.json says."""
    folder = paths.run_folder(config.profile, results.run_id(config))
    shutil.rmtree(folder, ignore_errors=True)
    spent = seconds(partial(train, config, progress=False, **options))
    return spent, json.loads((folder / "env.json").read_text())
