"""Time of a training step and memory of `train` as the collection grows.

The claim is that a step takes as long with 400,000 captions as with 10,000. Each size has its own
cache, and `train base` runs on it in a new process per round. The time of a step is that of a
batch of captions of mean length, computed from the speed in the run's log. Memory is the peak of
the process minus that of its imports. It includes the network, the optimizer and a batch, which
do not depend on the size, and the features, which stay in memory; the rest is given as well.
"""

import argparse
import json
import statistics
import subprocess
import sys
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
from training import ours
from workload import CAPTIONS, FEATURES, workload

from multispace.data.cache.reader import Cache

SIZES = (10_000, 50_000, 100_000, 200_000, 400_000)
QUICK = {"rounds": 1, "batch_size": 8, "steps": 2, "warm_up": 1, "sizes": [1_000, 2_000]}
MEGABYTE = 1e6


def one_size(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Train on a cache; return tokens per second and bytes. Call it in a new process."""
    before = memory()["VmHWM"]
    pace = ours("base", root, args)
    return {"tokens/s": pace, "peak": memory()["VmHWM"] - before}


def in_fresh_process(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Return :func:`one_size` of a new process."""
    values = flags(args, "batch_size", "steps", "warm_up", "device", "precision", "threads")
    command = [sys.executable, __file__, f"--one-size={root}", *values]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="captions")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument(
        "--warm-up", type=int, default=5, help="steps before them; must divide --steps"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--one-size", type=Path, help=argparse.SUPPRESS)
    args = parse(parser, argv, QUICK)
    if args.one_size:
        print(json.dumps(one_size(args.one_size, args)))
        return

    images = {size: round(size * IMAGES / CAPTIONS) for size in args.sizes}
    roots = {size: workload(args.workloads, count).root for size, count in images.items()}
    found: dict[int, list[dict[str, float]]] = {size: [] for size in args.sizes}

    def measure(size: int) -> float:
        found[size].append(in_fresh_process(roots[size], args))
        return found[size][-1]["tokens/s"]

    print_machine(args, f"batches of {args.batch_size}, {args.steps} steps")
    interleave({str(size): partial(measure, size) for size in args.sizes}, args.rounds)
    rows = []
    first = 0.0
    for size in args.sizes:
        captions = Cache.open(roots[size]).captions("train")
        tokens = args.batch_size * (1 + len(captions.tokens) / len(captions.texts))
        steps = [1000 * tokens / one["tokens/s"] for one in found[size]]
        peaks = [one["peak"] / MEGABYTE for one in found[size]]
        features = 2 * FEATURES * images[size] / MEGABYTE
        first = first or statistics.median(steps)
        rows.append(
            (
                f"{len(captions.texts):,}",
                f"{images[size]:,}",
                spread(steps),
                f"{statistics.median(steps) / first:.2f}",
                spread(peaks),
                f"{features:,.0f}",
                f"{statistics.median(peaks) - features:,.0f}",
            )
        )
    print_table(
        (
            "captions",
            "images",
            "ms per step",
            "ratio to the first size",
            "peak memory, MB",
            "features, MB",
            "the rest, MB",
        ),
        *rows,
    )


if __name__ == "__main__":
    main()
