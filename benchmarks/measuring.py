"""What a piece of work takes: time by the clock, processor time, and memory over what the process held before."""

import gc
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measured(work: Callable[[], object]) -> dict[str, float]:
    """``seconds`` and ``cpu`` of some work, ``peak`` and ``total`` of memory in MB.

    ``peak`` is what the work needed over what was resident before. On Linux the kernel's peak is reset first, so that a
    model's conversion does not count; elsewhere it counts from the start of the process.
    """
    gc.collect()  # or what earlier work left is given back in the midst of this one
    if _RESET.exists():
        _RESET.write_text("5")
    before = resident()
    started, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    total = peak()
    return {"seconds": seconds, "cpu": cpu, "peak": total - before, "total": total}


def resident() -> float:
    """Memory of this process now, MB."""
    return _status("VmRSS") or peak()


def peak() -> float:
    """Its most since the last reset, MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _status(name: str) -> float | None:
    if not _STATUS.exists():
        return None
    found = [line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 / 1e6 if found else None


def apart(script: str, *words: object) -> str:
    """The last line that a script prints in a process of its own, where memory is not that of what ran before."""
    command = [sys.executable, script, *map(str, words)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return finished.stdout.splitlines()[-1]
