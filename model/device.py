"""Devices and the precision of their arithmetic."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from multispace.errors import ModelError
from multispace.model.options import PRECISIONS

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # CPU quota of a container: microseconds per period


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``.

    :param name: a device name of torch, or ``auto`` for a GPU if there is one
    :raises ModelError: the device is unknown or unavailable
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a known name may still be unusable
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ModelError(
            f"not usable here ({reason})", where=f"--device {name}", hint="use cpu"
        ) from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the arithmetic type called ``name``.

    ``auto`` takes bfloat16 only if the hardware supports it. Emulated bfloat16 is many times
    slower than float32.

    :raises ModelError: the name is unknown
    """
    if name == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise ModelError(f"use one of {', '.join(PRECISIONS)}", where=f"--precision {name}")
    return getattr(torch, name)


def native_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # Older releases of torch do not report capabilities; float32 is always right.
        capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def autocast_type(device: torch.device) -> torch.dtype | None:
    """Return the type of products on a device under autocast; None without autocast."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast on a device."""
    if autocast_type(device) is None:
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def is_gpu(device: torch.device) -> bool:
    """Return whether a device starts operations and computes them later.

    On such a device many small operations are slow, and so is any operation whose result decides
    what the CPU does next. ``meta``, which has shapes and no numbers, counts as one: it refuses
    the latter, so that tests find them without a GPU.
    """
    return device.type != "cpu"


def cores() -> int:
    """Return how many cores this process may use, considering a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    if QUOTA.is_file():
        quota, _, period = QUOTA.read_text().partition(" ")
        if quota.isdecimal():
            count = min(count, -(-int(quota) // int(period)))
    return max(count, 1)
