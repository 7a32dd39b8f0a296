"""Choice of the device and the arithmetic of a network."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from cloud_assets.errors import InvalidRecipe

Precision = Literal["auto", "32", "bf16", "16"]


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:<number>``.

    Raises:
        InvalidRecipe: If a GPU is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidRecipe("device 'cuda' was asked for, but torch finds no GPU; use 'auto' or 'cpu'.")
    return device


def choose_precision(precision: Precision, device: torch.device) -> Literal["32", "bf16", "16"]:
    """Resolves ``auto``: bf16 where the processor has instructions for it, 16 on older GPUs, else 32.

    Raises:
        InvalidRecipe: If 16 is asked for without a GPU.
    """
    if precision == "16" and device.type != "cuda":
        raise InvalidRecipe("precision '16' needs a GPU; use 'auto', 'bf16' or '32' on a processor.")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "16"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """A context in which convolutions run with the given arithmetic."""
    chosen = choose_precision(precision, device)
    dtype = torch.float16 if chosen == "16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=chosen != "32")
