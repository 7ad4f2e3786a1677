"""Where the arithmetic runs, and in which precision."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from multispace.errors import ModelError
from multispace.model.options import PRECISIONS

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds, and in how many


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` takes a GPU where there is one.

    :raises ModelError: the device is unknown or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # names that torch knows need not compute
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ModelError(f"--device {name}: not usable here ({reason}); use cpu") from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the arithmetic type called ``name``.

    ``auto`` takes bfloat16 only where the hardware multiplies it natively: elsewhere it is
    emulated, many times slower than float32.

    :raises ModelError: the name is unknown.
    """
    if name == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise ModelError(f"--precision {name}: use one of {', '.join(PRECISIONS)}")
    return getattr(torch, name)


def native_bfloat16(device: torch.device) -> bool:
    """Say whether the hardware multiplies bfloat16 itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # Older releases of torch cannot tell; float32 is never wrong.
        able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    return False


def cores() -> int:
    """Return how many cores this process may use, within a container's quota."""
    able = getattr(os, "sched_getaffinity", None)
    count = len(able(0)) if able else os.cpu_count() or 1
    if QUOTA.is_file():
        most, _, period = QUOTA.read_text().partition(" ")
        if most.isdecimal():
            count = min(count, -(-int(most) // int(period)))
    return max(count, 1)
