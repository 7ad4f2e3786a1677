"""Speed of the batch pipeline alone, and the time from a cache on disk to the first batch.

The pipeline makes and discards every batch of an epoch. Its speed is given in tokens per second
(EOS included) and as a multiple of the speed of `train base`. The time to the first batch is
measured in a new process per round, with the cache's files in the page cache: the process opens
the cache, loads the split, orders an epoch and packs its first batch. `train` also computes the
moments of the features. Memory is the peak of the process minus that of the interpreter with all
modules loaded, relative to the size of the features. It includes pages of mapped shards, which
the kernel may reclaim at any time; the memory held at the end is also given without them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from measurement import (
    IMAGES,
    flags,
    interleave,
    memory,
    options,
    parse,
    print_machine,
    print_table,
    spread,
)
from workload import workload

from multispace.data.batches import Pairs, feature_moments, load_pairs
from multispace.data.cache.reader import Cache

QUICK = {"rounds": 1, "images": 200, "batch_size": 8, "steps": 2, "warm_up": 1}
MEGABYTE = 1e6


def first_batch(root: Path, batch_size: int, moments: bool) -> dict[str, float]:
    """Open the cache and make a batch; return seconds and bytes. Call it in a new process."""
    before = memory()
    began, busy = time.perf_counter(), time.process_time()
    pairs = load_pairs(Cache.open(root), "train")
    if moments:
        feature_moments(pairs.features)
    pairs.batch(pairs.epoch(batch_size, 0, 0)[0])
    took, busy = time.perf_counter() - began, time.process_time() - busy
    after = memory()
    return {
        "seconds": took,
        "processor": busy,
        "peak": after["VmHWM"] - before["VmHWM"],
        "held": after["RssAnon"] - before["RssAnon"],
        "features": pairs.features.nbytes,
    }


def in_fresh_process(root: Path, args: argparse.Namespace, moments: bool) -> dict[str, float]:
    """Return :func:`first_batch` of a new process, with its time including imports."""
    values = flags(args, "batch_size", "threads")
    command = [sys.executable, __file__, f"--first-batch={root}", *values]
    began = time.time()
    done = subprocess.run(
        [*command, *(["--moments"] if moments else [])], check=True, stdout=subprocess.PIPE
    )
    figures = json.loads(done.stdout)
    return {**figures, "with imports": figures.pop("ended") - began}


def pipeline_pace(pairs: Pairs, batch_size: int) -> float:
    """Return the tokens per second of an epoch of batches, including its ordering."""
    began, tokens = time.perf_counter(), 0
    for captions in pairs.epoch(batch_size, 0, 0):
        tokens += pairs.batch(captions).tokens
    return tokens / (time.perf_counter() - began)


def training_pace(root: Path, args: argparse.Namespace) -> float:
    """Return the tokens per second of `train base`."""
    from training import ours  # imported late: it loads much that the first batch does not need

    return ours("base", root, args)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--training-rate", type=float, help="tokens/s; do not measure it")
    parser.add_argument("--steps", type=int, default=10, help="steps of the training")
    parser.add_argument(
        "--warm-up", type=int, default=5, help="steps before them; must divide --steps"
    )
    parser.add_argument("--device", default="auto", help="device of the training")
    parser.add_argument("--precision", default="auto", help="precision of the training")
    parser.add_argument("--first-batch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--moments", action="store_true", help=argparse.SUPPRESS)
    args = parse(parser, argv, QUICK)
    if args.first_batch:
        figures = first_batch(args.first_batch, args.batch_size, args.moments)
        print(json.dumps({**figures, "ended": time.time()}))
        return

    root = workload(args.workloads, args.images).root
    pairs = load_pairs(Cache.open(root), "train")
    fresh: dict[bool, list[dict[str, float]]] = {False: [], True: []}

    def measure_first(moments: bool) -> float:
        fresh[moments].append(in_fresh_process(root, args, moments))
        return fresh[moments][-1]["seconds"]

    contestants = {
        "pipeline": partial(pipeline_pace, pairs, args.batch_size),
        "first batch": partial(measure_first, False),
        "moments": partial(measure_first, True),
    }
    if args.training_rate is None:
        contestants["training"] = partial(training_pace, root, args)
    print_machine(args, f"{args.images:,} images, batches of {args.batch_size}")
    figures = interleave(contestants, args.rounds)

    trained = figures.get("training", [args.training_rate])
    times = statistics.median(figures["pipeline"]) / statistics.median(trained)
    print_table(
        ("", "tokens/s", "multiple of training"),
        ("`train base`" + (" (given)" if args.training_rate else ""), spread(trained), "1.0"),
        ("batch pipeline alone", spread(figures["pipeline"]), f"{times:.1f}"),
    )
    rows = []
    for moments, name in ((False, "first batch"), (True, "first batch and moments")):
        columns = {key: [one[key] for one in fresh[moments]] for key in fresh[moments][0]}
        size = columns["features"][0]
        rows.append(
            (
                name,
                spread(columns["seconds"], "{:.2f}"),
                spread(columns["processor"], "{:.2f}"),
                spread(columns["with imports"], "{:.2f}"),
                f"{size / MEGABYTE:,.0f}",
                spread([value / MEGABYTE for value in columns["peak"]]),
                f"{statistics.median(columns['peak']) / size:.2f}",
                f"{statistics.median(columns['held']) / size:.2f}",
            )
        )
    print_table(
        (
            "until",
            "seconds",
            "processor seconds",
            "seconds with imports",
            "features, MB",
            "peak memory, MB",
            "ratio to the features",
            "held at the end without mapped pages, ratio to the features",
        ),
        *rows,
    )


if __name__ == "__main__":
    main()
