"""How the processor is shared out among calls of a network.

A call with two threads waits for the slower one after each layer, and collapses when anything else uses a core; two
calls with one thread each never wait for each other. So a network is called from as many threads as there are workers.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_MOST_WORKERS = 4


@dataclass(frozen=True)
class Parallelism:
    """How the processor is shared out."""

    workers: int
    """Calls of the network at once."""
    threads: int
    """Threads of each call."""

    @classmethod
    def of_machine(cls) -> "Parallelism":
        """One call a core, up to the four that memory is planned for; further cores are shared among these."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, _MOST_WORKERS)
        return cls(workers, max(1, cores // workers))


@contextmanager
def threads_of_each_call(parallelism: Parallelism) -> Iterator[None]:
    """A context in which each call of PyTorch takes its share of the processor, not all of it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(parallelism.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
