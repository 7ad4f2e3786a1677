"""torchvision's models and transforms, importable beside any build of torch.

torchvision's wheels are built against CUDA. Beside a CPU build of torch the compiled part cannot
load, and the import then fails because it attaches metadata to two operators that are not there
("operator torchvision::nms does not exist"). Models and transforms need neither, so the two are
declared here, without a kernel, only where they are missing.
"""

import importlib.util
from pathlib import Path

import torch


def _declare_missing_operators() -> None:
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        return  # the import below says so
    for library in Path(package.submodule_search_locations[0]).glob("_C.*"):
        try:
            torch.ops.load_library(library)
        except OSError:
            continue
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )


_declare_missing_operators()

from torchvision import models  # noqa: E402  (only now can it be imported)
from torchvision.transforms import functional  # noqa: E402

__all__ = ["functional", "models"]
