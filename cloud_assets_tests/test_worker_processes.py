"""Worker processes: ordered results, one thread each, deaths that are told and touch no other process."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from cloud_assets.errors import InvalidData, TrainingFailed
from cloud_assets.worker_processes import WorkerProcesses, map_in_processes

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def described(number: int) -> tuple[int, int, int]:
    """The number, the process, and its largest number of computing threads."""
    np.ones((4, 4)) @ np.ones((4, 4))
    time.sleep(0.05 * (number % 3))
    return number, os.getpid(), max(each["num_threads"] for each in threadpool_info())


def fails_at(bad: int, kind: str, number: int) -> int:
    if number == bad and kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if number == bad:
        raise InvalidData(f"number {number} is bad")
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_from_processes_of_one_thread(workers: int) -> None:
    results = list(map_in_processes(described, iter(range(9)), 9, workers=workers))
    assert [number for number, _, _ in results] == list(range(9))
    assert {threads for _, _, threads in results} == {1}
    processes = {process for _, process, _ in results}
    assert processes == {os.getpid()} if workers == 1 else len(processes - {os.getpid()}) == 3


def test_an_error_arrives_as_it_was_raised_and_a_death_with_its_exit_code() -> None:
    with pytest.raises(InvalidData, match="number 3 is bad"):
        list(map_in_processes(partial(fails_at, 3, "raise"), range(6), 6, workers=2))
    with pytest.raises(TrainingFailed, match=r"SIGKILL.*fewer workers"):
        list(map_in_processes(partial(fails_at, 3, "die"), range(6), 6, workers=2))


def test_a_process_that_dies_takes_no_other_with_it_and_is_replaced() -> None:
    with WorkerProcesses(2) as processes:
        slow = processes.submit(time.sleep, 1.5)
        calls = [processes.submit(fails_at, 1, "die", number) for number in range(4)]
        failed = [call.exception() for call in calls]
        assert [error is None for error in failed] == [True, False, True, True]
        assert slow.exception() is None


def test_leaving_kills_what_still_runs() -> None:
    started = time.monotonic()
    with WorkerProcesses(1) as processes:
        processes.submit(abs, 1).result()
        processes.submit(time.sleep, 600)
    assert time.monotonic() - started < 30


def test_a_script_needs_no_main_guard_and_its_workers_end_with_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            from cloud_assets_tests.test_worker_processes import described
            from cloud_assets.worker_processes import WorkerProcesses

            with WorkerProcesses(1) as processes:
                print(processes.submit(described, 0).result()[1], flush=True)
                processes.submit(time.sleep, 600)
                time.sleep(600)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = Path("/proc") / parent.stdout.readline().decode().strip()
        assert worker.name.isdigit()
        assert worker.exists()
        parent.kill()
    deadline = time.monotonic() + 20
    while worker.exists():
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def test_loky_is_imported_before_threads_call_it() -> None:
    # Two threads that imported it at the same time found it half initialised, and its processes were never ended.
    code = """
        import sys
        from cloud_assets.worker_processes import WorkerProcesses
        assert "joblib" not in sys.modules
        with WorkerProcesses(2):
            assert "joblib.externals.loky.process_executor" in sys.modules
            assert "joblib.externals.loky.backend.resource_tracker" in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=ROOT, timeout=120)
