"""Kernels compiled for one network: what that needs, and what becomes of it."""

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from multispace.model.backbone.resnet import Backbone
from multispace.model.device import native_bfloat16

COMPILER = "inductor"
LONG = 20_000  # images that repay minutes of compilation


@functools.cache
def cpp_compiler() -> Path | None:
    """Return the C++ compiler that works: ``$CXX``, g++ or clang++."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (found := shutil.which(name)):
            asked = [found, "-x", "c++", "-fsyntax-only", "-"]
            done = subprocess.run(asked, input=b"#include <cmath>\n", capture_output=True)
            if done.returncode == 0:
                return Path(found)
    return None


def repays(backbone: Backbone, images: int) -> bool:
    """Say whether compilation is likely to save more time than it takes.

    Where the processor multiplies bfloat16 itself, what is around the multiplications counts.
    In float32 they are nearly all, and compiled kernels bring too little (docs/results.md).
    """
    narrow = backbone.precision == torch.bfloat16 and native_bfloat16(backbone.device)
    return narrow and backbone.device.type == "cpu" and images >= LONG


def compile_backbone(backbone: Backbone, batch: int) -> tuple[Backbone, str]:
    """Return the backbone with compiled kernels, or as it was, and a line that says which.

    Weights are frozen into the kernels; inductor keeps them between runs (in
    ``$TORCHINDUCTOR_CACHE_DIR``). They are made for one thread of arithmetic, as a lane has it.

    :param batch: images at a time, which never changes.
    """
    if sys.platform == "win32" or cpp_compiler() is None:
        return backbone, "not compiled: no C++ compiler here; install g++"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network = torch.compile(backbone.network, options={"freezing": True})
        compiled = replace(backbone, network=cast(nn.Module, network), compiled=COMPILER)
        side = backbone.prepare.crop
        compiled.of_pixels(torch.zeros((batch, side, side, 3), dtype=torch.uint8))
    except (RuntimeError, ImportError, OSError) as error:  # dynamo's and inductor's are the first
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        return backbone, f"not compiled: {type(error).__name__}: {reason}"
    finally:
        torch.set_num_threads(before)
    return compiled, f"kernels compiled by {COMPILER}"
