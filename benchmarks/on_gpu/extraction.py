"""Speed of ResNet features: of the network alone, of decoding alone, and from JPEG files.

The weights are random. The files are generated JPEGs of COCO's size, 640 x 480 pixels, each read
several times. Extraction is that of `preprocess` up to the vectors in memory, without shards. It
cannot be faster than its cores decode: the bound is

    cores / (seconds to read, decode and resize an image on one core)

measured here, with one thread and nothing else running.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measurement import interleave, print_table, spread
from workload import make_images

from multispace.data.image_inputs import open_source, read_source
from multispace.model.backbone.resnet import Backbone, load_backbone
from multispace.model.device import choose_precision, cores
from multispace.pipeline.extraction.workers import batch_size, extracted_batches
from on_gpu.timing import peak, reset_peak, timed

NETWORKS = ("resnet50", "resnet101", "resnet152")
LOOKED_AT = 32  # images that decoding is timed on


def measure(args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure, print and return the rows."""
    backbones = {
        name: load_backbone(
            name, "random:0", device=device, precision=choose_precision("auto", device)
        )
        for name in args.networks
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = list(make_images(Path(folder), args.files, None).values())
        files = {f"{n:06d}.jpg": paths[n % len(paths)] for n in range(args.extracted)}
        first = next(iter(backbones.values()))
        contestants = {f"{name}, network": partial(_network, b) for name, b in backbones.items()}
        contestants["decoding on one core"] = partial(_decoding, first, files)
        contestants |= {
            f"{name}, from files": partial(_from_files, backbone, files)
            for name, backbone in backbones.items()
        }
        for backbone in backbones.values():
            _network(backbone)  # warm-up
        reset_peak(device)
        figures = interleave(contestants, args.rounds)
    bound = cores() * statistics.median(figures["decoding on one core"])
    rows = [
        {"what": what, "images_per_second": paces, "cores": cores(), "decoder_bound": bound,
         "peak_memory": peak(device)}
        for what, paces in figures.items()
    ]  # fmt: skip
    print_table(
        ("extraction", "images/s", f"of the bound of {cores()} cores, {bound:,.0f} images/s"),
        *(
            (
                row["what"],
                spread(row["images_per_second"]),
                f"{statistics.median(row['images_per_second']) / bound:.0%}"
                if "files" in row["what"]
                else "",
            )
            for row in rows
        ),
    )
    print(f"peak memory of the device: {peak(device) / 1e6:,.0f} MB\n")
    return rows


def _network(backbone: Backbone, batches: int = 20) -> float:
    """Return images per second of the network alone, pixels and vectors on the device."""
    side, size, device = backbone.prepare.crop, batch_size(backbone.device), backbone.device
    pixels = torch.zeros((size, 3, side, side), device=device).to(
        backbone.precision, memory_format=torch.channels_last
    )
    count = batches if device.type == "cuda" else 1

    @torch.inference_mode()
    def work() -> None:
        for _ in range(count):
            backbone.network(pixels)

    return count * size / timed(work, device)


def _decoding(backbone: Backbone, files: Mapping[str, Path]) -> float:
    """Return images per second that one thread reads, decodes and resizes."""
    paths = list(files.values())[:LOOKED_AT]

    def work() -> None:
        for path in paths:
            backbone.prepare.cut(open_source(read_source(path), path))

    return len(paths) / timed(work, torch.device("cpu"))


def _from_files(backbone: Backbone, files: Mapping[str, Path]) -> float:
    """Return images per second from files to vectors."""

    def work() -> None:
        with extracted_batches([list(files.items())], backbone, cores()) as batches:
            found = sum(len(batch.keys) for batch in batches)
        assert found == len(files), f"{len(files) - found} images could not be read"

    return len(files) / timed(work, backbone.device)
