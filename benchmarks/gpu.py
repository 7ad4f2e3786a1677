"""A GPU in a few minutes: correctness, training, decoding and extraction, in one command.

    python benchmarks/gpu.py --json gpu.json

It needs PyTorch, torchvision, h5py, click, Pillow and safetensors, and nothing else of what the
project uses. All data are generated. The parts are:

- correctness: losses, gradients and captions of the GPU, compared with the CPU's in float32
- train: training steps of `base`, `multispace` and `joint`, compared with plain PyTorch with cuDNN
  and with the same matrix products alone, and the epoch of MS-COCO that they amount to
- decode: captions of 5,000 images, greedy and with a beam
- extract: ResNet-50, 101 and 152 alone and from JPEG files, compared with the bound of the cores

``--only train,decode`` runs some of them. Without a GPU, ``--quick --device cpu`` tests the script.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measurement import IMAGES, device_name, options, parse, print_machine

from multispace.model.device import choose_device, choose_precision
from multispace.model.systems import SYSTEMS

PARTS = {
    "correctness": "on_gpu.correctness",
    "train": "on_gpu.training",
    "decode": "on_gpu.decoding",
    "extract": "on_gpu.extraction",
}
QUICK = {
    "rounds": 1,
    "images": 60,
    "batch_sizes": [8],
    "steps": 2,
    "products": 1,
    "systems": ["base", "joint"],
    "compared": 4,
    "captioned": 12,
    "networks": ["resnet18"],
    "files": 3,
    "extracted": 5,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--only", type=_parts, default=list(PARTS), metavar="PART,PART", help="parts to run"
    )
    parser.add_argument("--json", type=Path, help="write all figures to a file")
    parser.add_argument("--images", type=int, default=IMAGES, help="images of the epoch")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--steps", type=int, default=60, help="training steps of a round")
    parser.add_argument("--products", type=int, default=20, help="repetitions of the products")
    parser.add_argument(
        "--systems", nargs="+", default=list(SYSTEMS), help="systems of the correctness part"
    )
    parser.add_argument("--compared", type=int, default=64, help="images of the correctness part")
    parser.add_argument("--captioned", type=int, default=5000, help="images to decode")
    parser.add_argument("--networks", nargs="+", default=["resnet50", "resnet101", "resnet152"])
    parser.add_argument("--files", type=int, default=256, help="JPEG files to generate")
    parser.add_argument("--extracted", type=int, default=4096, help="images of an extraction")
    args = parse(parser, argv, QUICK)
    device = choose_device(args.device)
    precision = str(choose_precision("auto", device)).removeprefix("torch.")
    print_machine(
        args,
        f"device {device_name(device)}, CUDA {torch.version.cuda}, training in {precision}",
    )
    found: dict[str, Any] = {
        "device": device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "precision": precision,
        "seconds": {},
    }
    for part in args.only:
        began = time.perf_counter()
        print(f"### {part}\n", flush=True)
        found[part] = importlib.import_module(PARTS[part]).measure(args, device)
        found["seconds"][part] = time.perf_counter() - began
        print(f"{part}: {found['seconds'][part]:.0f} s", file=sys.stderr, flush=True)
        if args.json:  # after each part, so that an interruption loses one at most
            args.json.write_text(json.dumps(found, indent=1))


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: use some of {', '.join(PARTS)}"
        )
    return chosen


if __name__ == "__main__":
    main()
