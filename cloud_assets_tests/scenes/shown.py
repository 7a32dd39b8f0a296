"""The viewer's server as ``cloud-assets show`` starts it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def shown(folder: Path) -> Iterator[str]:
    """The viewer's address while a ``with`` block runs."""
    command = [sys.executable, "-m", "cloud_assets.command_line", "show", str(folder), "--port", "0", "--no-open"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert address is not None, said + server.stdout.read()
            yield address.group()
        finally:
            server.terminate()
