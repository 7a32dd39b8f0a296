"""The device, arithmetic, threads and memory that networks run with; torch is imported when it is needed."""

import ctypes
import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cloud_assets.errors import InvalidRecipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import torch

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "32", "bf16", "16"]
BackEndName = Literal["auto", "torch", "onnxruntime", "openvino"]
MOST_WORKERS = 4
"""Calls of a network at once, on machines with many cores."""
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_TOP_PAD_BYTES = 64 * 2**20


def choose_device(name: str = "auto") -> "torch.device":
    """The device to compute on: ``auto`` (``cuda`` if there is one), ``cpu``, ``cuda``, ``cuda:<number>`` or ``mps``.

    Raises:
        InvalidRecipe: If a GPU is asked for and there is none.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if present["cuda"] else "cpu")
    device = torch.device(name)
    if not present.get(device.type, True):
        raise InvalidRecipe(f"device {name!r} was asked for, but torch finds no such GPU; use 'auto' or 'cpu'.")
    return device


def choose_precision(precision: Precision, device: "torch.device") -> Literal["32", "bf16", "16"]:
    """Resolves ``auto``: bf16 where the processor has instructions for it, 16 on older GPUs, else 32.

    Raises:
        InvalidRecipe: If 16 is asked for without a GPU.
    """
    import torch

    if precision == "16" and device.type != "cuda":
        raise InvalidRecipe("precision '16' needs a GPU; use 'auto', 'bf16' or '32' on a processor.")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "16"
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32"


def autocast(precision: Precision, device: "torch.device") -> "AbstractContextManager[None]":
    """A context in which convolutions run with the given arithmetic."""
    import torch

    chosen = choose_precision(precision, device)
    dtype = torch.float16 if chosen == "16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=chosen != "32")


@dataclass(frozen=True)
class Parallelism:
    """How the processor is shared out among calls of a network.

    A call with two threads waits for the slower one after each layer, and collapses when anything else uses a core; two
    calls with one thread each never wait for each other. So several threads call a network, one a worker.
    """

    workers: int  # calls of the network at once
    threads: int  # threads of each call

    @classmethod
    def of_machine(cls) -> "Parallelism":
        """One call a core, up to the four that memory is planned for; further cores are shared among these."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, MOST_WORKERS)
        return cls(workers, max(1, cores // workers))


@contextmanager
def torch_threads(count: int | None) -> "Iterator[None]":
    """A context in which each call of PyTorch takes as many threads, not the whole processor; None: as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory(*, one_arena: bool = False) -> bool:
    """Tells glibc to keep freed memory for reuse; without glibc nothing happens, and the answer is False.

    It otherwise returns large activations to the kernel and faults them in again. Measured on two cores: 1.4 to 1.5
    times the training speed of a U-Net, 2 to 3 times that of large inference batches. With ``one_arena`` threads use
    what others have freed: whole scenes take 0.1 to 1 GB less in the same time, trainings are a little slower.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    arenas = {_M_ARENA_MAX: 1} if one_arena else {}
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: _TOP_PAD_BYTES} | arenas
    return all(ctypes.CDLL(None).mallopt(*setting) == 1 for setting in settings.items())


def give_back_freed_memory() -> None:
    """Returns to the kernel what :func:`keep_freed_memory` kept."""
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
