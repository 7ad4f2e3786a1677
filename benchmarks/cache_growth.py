"""Time, bytes written and memory of a feature cache as the number of its images grows.

The claim is that a cache grows linearly: an image costs as much in a cache of a million as in one
of a hundred thousand. Each size is written in a new process, in shards of 4,096 images, as
`preprocess` and `cache import` do. Then, each in a new
process: the cache is opened for writing and one shard is added; it is opened, and the vectors of
1,000 images are read.

Times are those of the processor, of all threads together, because other work may share it; the
first one and the last one are given on the clock as well, which includes waiting for the disk.

"Written" counts what the process wrote, as the kernel counts it. Memory is the growth of the
process's peak over that of a process that does the same with one shard.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measurement import flags, memory, options, parse, print_machine, print_table

from multispace.data.cache.format.manifest import NAME
from multispace.data.cache.format.spec import IMPORTED_UNSEEN, FeatureSpec
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache

SIZES = (100_000, 400_000)
SHARD = 4096
QUICK = {"sizes": [6_000, 12_000], "dimension": 8}


def spec_of(args: argparse.Namespace) -> FeatureSpec:
    """Return a spec of vectors that were made elsewhere."""
    return FeatureSpec(
        architecture="none",
        weights_sha256="unknown, named none",
        transform=None,
        decode="unknown",
        pooling="unknown",
        dimension=args.dimension,
        weights="none",
        dtype=args.dtype,
        precision="unknown",
        origin=IMPORTED_UNSEEN,
    )


def append(root: Path, args: argparse.Namespace, first: int, count: int) -> None:
    """Add ``count`` vectors to the cache at ``root``."""
    spec = spec_of(args)
    rows = np.random.default_rng(0).normal(size=(SHARD, args.dimension)).astype(args.dtype)
    digests = np.zeros((SHARD, 32), np.uint8)
    with write_cache(root) as writer:
        for start in range(first, first + count, SHARD):
            here = min(SHARD, first + count - start)
            keys = [f"images/{number:09d}.jpg" for number in range(start, start + here)]
            writer.append(spec, keys, digests[:here], rows[:here], {})


def work(root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Do one piece of work; return its seconds and bytes. Call it in a new process."""
    began, used, written = time.perf_counter(), time.process_time(), bytes_written()
    if args.work == "write":
        append(root, args, 0, args.sizes[0])
    elif args.work == "add":
        append(root, args, args.sizes[0], SHARD)
    else:
        keys = np.random.default_rng(1).integers(0, args.sizes[0], 1000).tolist()
        Cache.open(root).features([f"images/{number:09d}.jpg" for number in keys])
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - used,
        "written": bytes_written() - written,
        "peak": memory()["VmHWM"],
    }


def bytes_written() -> int:
    """Return how many bytes this process has passed to the kernel."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


def in_fresh_process(
    name: str, root: Path, size: int, args: argparse.Namespace
) -> dict[str, float]:
    """Return :func:`work` of a new process."""
    values = [f"--sizes={size}", *flags(args, "dimension", "dtype")]
    command = [sys.executable, __file__, f"--work={name}", f"--root={root}", *values]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="images")
    parser.add_argument("--dimension", type=int, default=128, help="numbers in a vector")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--folder", type=Path, help="where the caches are made and removed")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parse(parser, argv, QUICK)
    if args.work:
        print(json.dumps(work(args.root, args)))
        return
    print_machine(args, f"{args.dimension} {args.dtype} numbers a vector, {SHARD} images a shard")
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder) / "cache"
        base = {name: in_fresh_process(name, root, SHARD, args)["peak"] for name in WORK}
        for size in args.sizes:
            shutil.rmtree(root)
            found = {name: in_fresh_process(name, root, size, args) for name in WORK}
            rows.append(_row(size, root, found, base))
    print_table(HEAD, *rows)


WORK = ("write", "add", "read")
HEAD = (
    "images",
    "us per image, CPU",
    "us per image, clock",
    "cache, MB",
    "written / cache",
    "bytes of memory per image, writing",
    "CPU s to add 4,096",
    "bytes of memory per image, adding",
    "CPU s to read 1,000",
    "s to read 1,000, clock",
    "cache.json, kB",
)


def _row(
    size: int, root: Path, found: dict[str, dict[str, float]], base: dict[str, float]
) -> tuple[str, ...]:
    """Return a row of the table; the cache has one shard more than was written first."""
    total = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    first = total * size / (size + SHARD)
    extra = {name: (found[name]["peak"] - base[name]) / size for name in WORK}
    return (
        f"{size:,}",
        f"{1e6 * found['write']['cpu'] / size:.1f}",
        f"{1e6 * found['write']['seconds'] / size:.1f}",
        f"{first / 1e6:,.0f}",
        f"{found['write']['written'] / first:.3f}",
        f"{extra['write']:.0f}",
        f"{found['add']['cpu']:.2f}",
        f"{extra['add']:.0f}",
        f"{found['read']['cpu']:.2f}",
        f"{found['read']['seconds']:.2f}",
        f"{(root / NAME).stat().st_size / 1e3:.0f}",
    )


if __name__ == "__main__":
    main()
