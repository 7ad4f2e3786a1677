"""torchvision's models and transforms, importable with any build of torch.

torchvision's wheels are built for CUDA. With a CPU build of torch their compiled library does not
load, and ``import torchvision`` then fails: it attaches metadata to two operators that do not
exist ("operator torchvision::nms does not exist"). Models and transforms need neither operator.
This module declares the two, without an implementation, where they are missing.
"""

import importlib.util
from pathlib import Path

import torch


def _declare_missing_operators() -> None:
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        return  # the import below raises
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
