"""Processes that train a study's trials side by side, one thread each.

They are started afresh (spawned), because a forked copy of a process that has used torch may hang. Only the parent
process speaks to the study's storage: it sends a recipe, gets the metrics of each epoch, and answers whether to go on.
A worker ends itself when its parent is gone, so a killed study leaves no training behind.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cloud_assets.families import family_of
from cloud_assets.learning.training_run import TrainingRun

if TYPE_CHECKING:
    from cloud_assets.learning.recipe import Recipe

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_FAREWELL_SECONDS = 5.0


@dataclass(frozen=True)
class TrialOrder:
    """What a worker is asked to train."""

    number: int
    """The trial's number."""
    recipe: "Recipe"
    """How."""
    workspace: Path
    """The trial's folder for checkpoints."""


@dataclass(frozen=True)
class EpochEnd:
    """A worker has finished an epoch and waits for an answer."""

    number: int
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrialEnd:
    """A worker has finished a trial."""

    number: int
    history: Sequence[Mapping[str, float]] = ()
    """Metrics of each epoch, those before an interruption included; empty if it was told to stop."""
    error: str = ""
    """What went wrong, if anything."""


@dataclass(frozen=True)
class WorkerDied:
    """A worker's process is gone in the middle of a trial."""

    number: int
    exit_code: int | None


Event = EpochEnd | TrialEnd | WorkerDied


class _Stopped(Exception):
    """Unwinds a training that the parent has no further use for."""


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    order: TrialOrder | None = None
    since: float = field(default_factory=time.monotonic)


class TrialWorkers:
    """Context manager that keeps worker processes as long as they are needed.

    Args:
        run: Task, variant and data of the trainings.
        count: How many trials may be trained at the same time.
    """

    def __init__(self, run: TrainingRun, count: int) -> None:
        self.run = run
        self.count = count
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._idle:
            worker.connection.send(None)
        for worker in self._busy.values():
            worker.process.kill()
        for worker in (*self._idle, *self._busy.values()):
            worker.process.join(_FAREWELL_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
            worker.connection.close()

    @property
    def free(self) -> int:
        """How many more trials may be begun."""
        return self.count - len(self._busy)

    @property
    def running(self) -> dict[int, float]:
        """Seconds that each running trial has taken so far, by its number."""
        now = time.monotonic()
        return {number: now - worker.since for number, worker in self._busy.items()}

    def begin(self, order: TrialOrder) -> None:
        """Gives a trial to an idle worker, or to a new one."""
        worker = self._idle.pop() if self._idle else self._start()
        worker.order, worker.since = order, time.monotonic()
        worker.connection.send(order)
        self._busy[order.number] = worker

    def events(self, timeout: float | None) -> list[Event]:
        """Waits until a worker has something to say.

        Args:
            timeout: Longest time to wait, seconds; None: as long as it takes.

        Returns:
            What happened; empty after the timeout. Each :class:`EpochEnd` has to be answered.
        """
        places: dict[Connection | int, int] = {}
        for number, worker in self._busy.items():
            places[worker.connection] = number
            places[worker.process.sentinel] = number
        ready = {places[each] for each in wait(list(places), timeout)}  # type: ignore[index]
        return [self._read(number) for number in sorted(ready)]

    def answer(self, number: int, go_on: bool) -> None:
        """Answers an :class:`EpochEnd`; a worker that is told to stop then sends its :class:`TrialEnd`."""
        self._busy[number].connection.send(go_on)

    def kill(self, number: int) -> None:
        """Ends a trial's process at once."""
        worker = self._busy.pop(number)
        worker.process.kill()
        worker.process.join()
        worker.connection.close()

    def _read(self, number: int) -> Event:
        worker = self._busy[number]
        try:
            if not worker.connection.poll() and not worker.process.is_alive():
                raise EOFError
            event: Event = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            self.kill(number)
            return WorkerDied(number, worker.process.exitcode)
        if isinstance(event, TrialEnd):
            worker.order = None
            self._idle.append(self._busy.pop(number))
        return event

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        run = self.run
        # Without the run's own listener, which need not survive the way into another process.
        process = context.Process(target=_work, args=(theirs, replace(run, on_epoch=TrainingRun.on_epoch)))
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))  # read once, when the libraries are loaded
        try:
            process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        return _Worker(process, ours)


def _work(connection: Connection, run: TrainingRun) -> None:
    """Body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        while (order := connection.recv()) is not None:
            connection.send(_train(order, connection, run))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody is left to tell; the checkpoints are written atomically


def _train(order: TrialOrder, connection: Connection, run: TrainingRun) -> TrialEnd:
    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        connection.send(EpochEnd(order.number, epoch, {name: float(value) for name, value in metrics.items()}))
        if not connection.recv():
            raise _Stopped

    recipe: Any = order.recipe
    # Simulated patches and the like are made once for all trials.
    cache = run.cache or run.workspace / "cache"
    try:
        bundle = family_of(recipe).train(
            recipe, replace(run, workspace=order.workspace, on_epoch=on_epoch, progress=False, cache=cache)
        )
    except _Stopped:
        return TrialEnd(order.number)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # whatever a training dies of is that trial's result, not the study's end
        return TrialEnd(order.number, error=f"{type(error).__name__}: {error}")
    return TrialEnd(order.number, history=[dict(row) for row in bundle.card.training.history])
