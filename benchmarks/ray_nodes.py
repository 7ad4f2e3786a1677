"""Extraction on a Ray cluster of 1, 2 and 4 nodes of one core, all of them on this machine.

    python benchmarks/ray_nodes.py --images DIR --weights package:imgsim/model.pth

Each node is a Ray node of its own with one worker, as another machine would be. Each round starts
the cluster anew for each number of nodes, extracts one shard per node so that all workers have
loaded the network, and then measures. The baseline is extraction in this process with one worker.
Efficiency is relative to the baseline times the nodes, or times the cores where these are fewer.
It needs the extra `ray`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from measurement import ROOT, interleave, options, parse, print_machine, print_table, spread
from workload import make_images

from multispace.data.cache.writer import write_cache
from multispace.model.backbone.resnet import Backbone, load_backbone
from multispace.model.device import choose_device, cores
from multispace.pipeline.extraction.extract import RemoteExtraction, extract

Files = dict[str, Path]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
QUICK = {"rounds": 1, "count": 2, "shard_size": 1, "nodes": [1], "backbone": "resnet18"}


@contextmanager
def cluster_of(nodes: int) -> Iterator[RemoteExtraction]:
    """Start a cluster of nodes of one core, and connect to it."""
    import ray
    from ray.cluster_utils import Cluster

    from multispace.pipeline.extraction.ray_cluster import connect

    with patch.dict(os.environ, {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}):
        started = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            for _ in range(nodes - 1):
                started.add_node(**NODE)
            ray.init(started.address, log_to_driver=False)
            with connect("auto") as cluster:
                yield cluster.extract
        finally:
            ray.shutdown()
            started.shutdown()


def extracted(
    files: Files, backbone: Backbone, shard_size: int, remote: RemoteExtraction | None
) -> float:
    """Extract ``files`` into a new cache; return the images per second."""
    with tempfile.TemporaryDirectory() as folder, write_cache(Path(folder)) as writer:
        began = time.perf_counter()
        extract(writer, files, backbone, shard_size=shard_size, workers=1, remote=remote)
        return len(files) / (time.perf_counter() - began)


def on_nodes(nodes: int, files: Files, backbone: Backbone, shard_size: int) -> float:
    """Return the images per second of a cluster of ``nodes`` nodes."""
    first = dict(list(files.items())[:nodes])
    with cluster_of(nodes) as remote:
        extracted(first, backbone, 1, remote)
        return extracted(files, backbone, shard_size, remote)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--images", type=Path, help="folder of real images")
    parser.add_argument("--count", type=int, default=128, help="images per round")
    parser.add_argument("--shard-size", type=int, default=8, help="images of a task")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="random:0", help="as for `preprocess`")
    args = parse(parser, argv, QUICK)
    backbone = load_backbone(args.backbone, args.weights, device=choose_device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder), args.count, args.images)
        print_machine(args, f"{len(files)} images, {args.shard_size} a shard", args.weights)
        contestants = {
            "one process": partial(extracted, files, backbone, args.shard_size, None),
            **{str(n): partial(on_nodes, n, files, backbone, args.shard_size) for n in args.nodes},
        }
        figures = interleave(contestants, args.rounds)
    print_table(("nodes", "images/s", "ratio to one process", "efficiency"), *_rows(args, figures))


def _rows(args: argparse.Namespace, figures: dict[str, list[float]]) -> Iterator[tuple[str, ...]]:
    one = statistics.median(figures["one process"])
    yield "none: one process, one worker", spread(figures["one process"], "{:.2f}"), "1.00", ""
    for nodes in args.nodes:
        ratio = statistics.median(figures[str(nodes)]) / one
        efficiency = f"{ratio / min(nodes, cores()):.0%}"
        yield str(nodes), spread(figures[str(nodes)], "{:.2f}"), f"{ratio:.2f}", efficiency


if __name__ == "__main__":
    main()
