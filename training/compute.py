"""Where a training computes, and in which numbers."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from curation.errors import ConfigError


def device_of(name: str) -> torch.device:
    """The device that a setting means: ``auto`` takes a GPU where there is one.

    Raises:
        ConfigError: A GPU is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no GPU that torch can use", where="device", mend="device=cpu")
    return torch.device(name)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """Type of matrix products: bfloat16 when told, and with ``auto`` where the device is quick."""
    known = getattr(torch.cpu, "get_capabilities", dict)
    able = device.type == "cuda" or known().get("avx512_bf16", False)
    half = name == "bfloat16" or (name == "auto" and able)
    return torch.bfloat16 if half else torch.float32


def autocast_of(name: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Computing in the type of :func:`dtype_of`; may be entered again and again."""
    dtype = dtype_of(name, device)
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)
