"""How long does it take until anything happens? Importing the definitions, dagster alone, and `cloud-assets --help`.

    python benchmarks/starting.py [--rounds 5]

Each in fresh processes that take turns; medians by the clock and of the processor (the aims: definitions 1.5 times
`import dagster`, help under 0.4 s). A first round, which fills the caches of the disk, does not count.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

import numpy as np

_COMMANDS = {
    "python alone": ["-c", "pass"],
    "import dagster": ["-c", "import dagster"],
    "import the definitions": ["-c", "import cloud_assets.definitions"],
    "import cloud_assets": ["-c", "import cloud_assets"],
    "cloud-assets --help": ["-m", "cloud_assets.command_line", "--help"],
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _COMMANDS}
    for turn in range(rounds + 1):
        for name, words in _COMMANDS.items():
            taken = started(words)
            if turn:
                found[name].append(taken)
    medians = {name: np.median(taken, axis=0) for name, taken in found.items()}
    print("what", "seconds by the clock", "processor seconds", "times import dagster (processor)", sep=" | ")
    for name, (clock, processor) in medians.items():
        share = processor / medians["import dagster"][1]
        print(name, f"{clock:.2f}", f"{processor:.2f}", f"{share:.2f}", sep=" | ")


def started(words: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of the processor that a command of Python takes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "DAGSTER_DISABLE_TELEMETRY": "1"}
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
