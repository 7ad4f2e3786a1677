"""Speed from image files to verified shards: ours, the usual loop, and the machine's bound.

The images are JPEGs of COCO's size, 640 x 480: those of --images, enlarged, or generated ones.
The usual loop runs torchvision's network and transform on one image at a time in float32. Ours
is the extraction of `preprocess` into a new cache, followed by `cache verify`. The bound is

    cores / (core-seconds per image of the network + of decoding and resizing)

with both terms measured here, on one core. The table also shows processor seconds per image.
Compare only these where other programs share the machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measurement import (
    flags,
    interleave,
    memory,
    options,
    parse,
    print_machine,
    print_table,
    spread,
)
from PIL import Image
from torch import nn
from workload import make_images

from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.images import decode
from multispace.data.maintenance.verify import verify_cache
from multispace.model.backbone.layouts import ImageNetwork
from multispace.model.backbone.resnet import Backbone, load_backbone
from multispace.model.backbone.torchvision_compat import models
from multispace.model.backbone.weights import fit, locate, random_state, read_network
from multispace.model.device import choose_device, choose_precision, cores
from multispace.pipeline.extraction.extract import extract
from multispace.pipeline.extraction.workers import batch_size

QUICK = {"rounds": 1, "count": 4, "backbone": "resnet18", "looped": 2}

Files = Mapping[str, Path]


def plain_network(architecture: str, weights: str) -> nn.Module:
    """Return torchvision's own network, without the classifier."""
    named = weights.startswith("random")
    found = (
        ImageNetwork(random_state(architecture, weights))
        if named
        else read_network(locate(weights, {}))
    )
    network = models.get_model(architecture, weights=None)
    network.fc = nn.Identity()
    network.load_state_dict(fit(found, network.state_dict(), weights))
    return network.eval()


@torch.inference_mode()
def usual_loop(network: nn.Module, prepare: Callable, files: Files) -> np.ndarray:
    """Return the vectors of ``files``, computed as in common scripts."""
    vectors = []
    for path in files.values():
        image = prepare(Image.open(path).convert("RGB")).unsqueeze(0)
        vectors.append(network(image).squeeze().numpy())
    return np.stack(vectors)


def to_verified_shards(backbone: Backbone, files: Files, dtype: str = "float16") -> np.ndarray:
    """Extract ``files`` into a new cache, verify it, and return its vectors."""
    with tempfile.TemporaryDirectory() as folder:
        with write_cache(Path(folder)) as writer:
            extract(writer, files, backbone, dtype=dtype)
        faults = verify_cache(Path(folder)).faults
        assert not faults, faults
        return np.array(Cache.open(Path(folder)).features(list(files)))


def bare_network(backbone: Backbone) -> float:
    """Return core-seconds per image of the network alone."""
    side = backbone.prepare.crop
    count = batch_size(backbone.device)
    pixels = torch.zeros((count, side, side, 3), dtype=torch.uint8)
    return on_one_core(lambda: backbone.of_pixels(pixels)) / count


def bare_decoding(backbone: Backbone, files: Files) -> float:
    """Return core-seconds per image of decoding and resizing alone."""
    contents = [path.read_bytes() for path in list(files.values())[:16]]

    def work() -> None:
        for content in contents:
            backbone.prepare.cut(decode(content, Path("x.jpg")))

    return on_one_core(work) / len(contents)


def on_one_core(work: Callable[[], object]) -> float:
    """Return the processor seconds of ``work`` with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.process_time()
    work()
    took = time.process_time() - began
    torch.set_num_threads(before)
    return took


def peak_memory(args: argparse.Namespace, images: int) -> float:
    """Return the peak memory in bytes of an extraction in a new process."""
    values = [f"--peak-of={images}", *flags(args, "backbone", "weights")]
    done = subprocess.run(
        [sys.executable, __file__, *values], check=True, stdout=subprocess.PIPE, timeout=600
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--images", type=Path, help="folder of real images")
    parser.add_argument("--count", type=int, default=64, help="images per round, ours")
    parser.add_argument("--looped", type=int, default=16, help="images per round, usual loop")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="random:0", help="as for `preprocess`")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    args = parse(parser, argv, QUICK)
    device = choose_device(args.device)
    backbone = load_backbone(
        args.backbone,
        args.weights,
        device=device,
        precision=choose_precision(args.precision, device),
    )
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder), args.peak_of or args.count, args.images)
        if args.peak_of:
            to_verified_shards(backbone, files)
            print(json.dumps(memory()["VmHWM"]))
        else:
            compare(args, backbone, files)


def compare(args: argparse.Namespace, backbone: Backbone, files: Files) -> None:
    """Measure all contestants in alternating rounds and print the tables."""
    network = plain_network(args.backbone, args.weights)
    kinds = models.get_model_weights(args.backbone)
    loop = partial(usual_loop, network, kinds["IMAGENET1K_V1"].transforms())
    looped = dict(list(files.items())[: args.looped])
    busy: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[Files], object], given: Files) -> float:
        began, used = time.perf_counter(), time.process_time()
        work(given)
        busy.setdefault(name, []).append((time.process_time() - used) / len(given))
        return len(given) / (time.perf_counter() - began)

    contestants = {
        "usual loop": partial(timed, "usual loop", loop, looped),
        "ours": partial(timed, "ours", partial(to_verified_shards, backbone), files),
        "network": partial(bare_network, backbone),
        "decoding": partial(bare_decoding, backbone, files),
    }
    print_machine(args, f"{cores()} workers", f"{len(files)} images", f"{args.weights}")
    loop(dict(list(looped.items())[:1]))  # warm up
    bare_network(backbone)
    figures = interleave(contestants, args.rounds)
    middle = {name: statistics.median(values) for name, values in figures.items()}
    seconds = {name: statistics.median(values) for name, values in busy.items()}
    core_seconds = middle["network"] + middle["decoding"]
    bound = cores() / core_seconds
    parts = f"{middle['network']:.4f} network + {middle['decoding']:.4f} decoding"
    print_table(
        ("", "images/s", "ratio to the loop", "of the bound", "processor seconds per image"),
        ("usual loop", spread(figures["usual loop"], "{:.2f}"), "1.0", "",
         f"{seconds['usual loop']:.4f}"),
        ("ours", spread(figures["ours"], "{:.2f}"), f"{middle['ours'] / middle['usual loop']:.2f}",
         f"{middle['ours'] / bound:.0%}", f"{seconds['ours']:.4f}"),
        ("bound", f"{bound:.2f}", "", "", parts),
    )  # fmt: skip
    expected, found = loop(looped), to_verified_shards(backbone, looped, "float32")
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = (found * expected).sum(1) / lengths
    error = abs(found - expected).mean() / abs(expected).mean()
    print_table(
        ("compared with torchvision in float32", "min cosine", "mean relative error"),
        ("ours", f"{cosine.min():.7f}", f"{error:.1e}"),
    )
    peaks = [(f"{n:,}", f"{peak_memory(args, n) / 1e6:,.0f}") for n in
             (len(files), 4 * len(files))]  # fmt: skip
    print_table(("images", "peak memory, MB"), *peaks)


if __name__ == "__main__":
    main()
