"""Threads that compute beside the training, each on one core."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


def on_one_core_each(count: int) -> ThreadPoolExecutor:
    """A pool of so many threads, whose operations of PyTorch take one core each.

    An operation in a thread of its own would bring a second team of OpenMP threads, and where two
    teams share the cores, each delays the other. The calling thread keeps the number it has.
    """
    threads = torch.get_num_threads()
    started = Barrier(count)

    def start(_: int) -> None:
        started.wait()  # so that every thread gets one of these calls
        torch.get_num_threads()  # takes over the process's number now, not after the next line
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(count)
    list(pool.map(start, range(count)))
    torch.set_num_threads(threads)
    return pool
