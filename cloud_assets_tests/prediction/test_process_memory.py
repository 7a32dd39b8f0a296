import platform
import subprocess
import sys

import pytest

from cloud_assets.inference.device import keep_freed_memory

_ARENAS = """
import ctypes, sys, tempfile, threading
from cloud_assets.inference.device import keep_freed_memory
keep_freed_memory(one_arena=sys.argv[1] == "one")
meeting = threading.Barrier(4)
def allocate():
    meeting.wait()
    bytearray(1 << 20)
    meeting.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as told:
    stream = ctypes.c_void_p(libc.fdopen(told.fileno(), b"w"))
    libc.malloc_info(0, stream)
    libc.fflush(stream)
    print(open(told.name).read().count("<heap nr="))
"""


def test_it_is_accepted_by_glibc_and_harmless_elsewhere() -> None:
    is_glibc = platform.libc_ver()[0] == "glibc"
    assert keep_freed_memory() == keep_freed_memory(one_arena=True) == is_glibc


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
@pytest.mark.parametrize("arenas", ["one", "several"])
def test_threads_share_one_arena_where_asked(arenas: str) -> None:
    done = subprocess.run([sys.executable, "-c", _ARENAS, arenas], capture_output=True, text=True, check=True)
    assert (int(done.stdout) == 1) == (arenas == "one")
