"""Functions run side by side in worker processes of one computing thread each."""

import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from cloud_assets.errors import TrainingFailed
from cloud_assets.progress import progress_bar

Job = TypeVar("Job")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_DEFAULT_WORKERS = 2
_QUEUED_JOBS_PER_WORKER = 2
_PARENT_POLL_SECONDS = 0.5


class WorkerDied(TrainingFailed):
    """A worker process was killed or crashed."""


class WorkerProcesses:
    """Context manager around worker processes; each takes one call at a time, and fails alone.

    The processes are started with loky: unlike those of ``multiprocessing`` they do not import the main module, so
    notebooks and scripts without a main guard may use them, and they are not forks of a process that holds threads.
    They end themselves when their parent process is gone. A process that died is replaced at the next call.
    """

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, "worker_processes")
        # Made here, not by the threads: those that import loky at the same time find it half initialised.
        self._executors = [_one_process() for _ in range(count)]
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for executor in self._executors:
            self._idle.put(executor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Kills what still runs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for executor in list(self._executors):
            executor.shutdown(kill_workers=True)
        self._threads.shutdown()

    def submit(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Calls a function in one of the processes.

        Its future raises :class:`WorkerDied` if the process died, otherwise whatever the function raises.
        """
        return self._threads.submit(self._call, function, arguments)

    def _call(self, function: Callable[..., Result], arguments: Sequence[Any]) -> Result:
        from joblib.externals.loky.process_executor import BrokenProcessPool

        executor = self._idle.get()
        try:
            result: Result = executor.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            self._executors.remove(executor)
            executor.shutdown(kill_workers=True)
            executor = _one_process()
            self._executors.append(executor)
            found = re.search(r"\{(.*)\}", str(error))
            raise WorkerDied(
                f"a worker process ended unexpectedly (exit code {found[1] if found else error}). Its own message, if "
                "any, is above; without one it was killed, usually for want of memory: use fewer workers."
            ) from error
        finally:
            self._idle.put(executor)
        return result


def _one_process() -> Any:
    """An executor of one process, which starts at its first call."""
    from joblib.externals.loky import ProcessPoolExecutor

    # Read once, when the libraries are loaded. What torch advises is not heeded on purpose.
    environment = {**dict.fromkeys(_THREAD_VARIABLES, "1"), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return ProcessPoolExecutor(1, env=environment, initializer=_prepare, initargs=(os.getpid(),))


def map_in_processes(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    count: int,
    *,
    workers: int | None = None,
    label: str = "",
    progress: bool = False,
) -> Generator[Result, None, None]:
    """Applies a function to jobs in worker processes, with one computing thread each; yields in their order.

    Args:
        function: A function that can be imported by its name.
        jobs: The jobs; only as many are taken ahead as keep the workers busy.
        count: How many there are.
        workers: Number of processes; None: what the machine has, at most two. One: the calling process does the work,
            in one thread too, so that results are the same bit by bit.
        label: Shown at the progress bar.
        progress: Whether to show one.

    Raises:
        TrainingFailed: If a process died.
    """
    workers = min(workers or min(os.cpu_count() or 1, _DEFAULT_WORKERS), count)
    results = _in_this_process(function, jobs) if workers <= 1 else _in_order(function, jobs, workers)
    with closing(results), progress_bar(label, count, "items", progress) as bar:
        for result in results:
            yield result
            bar.update()


def _in_this_process(function: Callable[[Job], Result], jobs: Iterable[Job]) -> Generator[Result, None, None]:
    from threadpoolctl import ThreadpoolController

    threads = ThreadpoolController()
    for job in jobs:
        with threads.limit(limits=1):
            result = function(job)
        yield result


def _in_order(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Generator[Result, None, None]:
    with WorkerProcesses(workers) as processes:
        pending: deque[Future[Result]] = deque()
        for job in jobs:
            pending.append(processes.submit(function, job))
            if len(pending) >= _QUEUED_JOBS_PER_WORKER * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _prepare(parent: int) -> None:
    """First thing that a worker does."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what ends
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(1)
