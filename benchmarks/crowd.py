"""Eq. 4 in tiles beside the matrix of all pairs, on a machine that other processes keep busy.

Threads that share an operation wait for each other at its end, and a thread that has lost its core
to another process keeps them waiting. So here it counts how often threads meet.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.harness import Row, Scale, ratio
from benchmarks.loss import embeddings, plain_loss, value_and_gradient
from s2l_core.losses import contrastive_loss

BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


def measure(scale: Scale) -> list[Row]:
    """Forward and backward at the paper's 6000 regions of each class, beside two busy processes
    for each core.
    """
    count, crowd = scale.pick(300, 6000), 2 * (os.cpu_count() or 1)
    cases = {
        "plain": partial(value_and_gradient, plain_loss, *embeddings(count)),
        "ours": partial(value_and_gradient, contrastive_loss, *embeddings(count)),
    }
    with busy(crowd):
        times = scale.turns(cases)
    name = f"2 x {count}, beside {crowd} busy processes"
    return [ratio(name, times["ours"], "plain Eq. 4", times["plain"], ">= 8")]


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Runs so many other processes meanwhile, each of which would take a core."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
