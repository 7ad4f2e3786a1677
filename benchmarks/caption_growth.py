"""Time and memory of reading, counting and encoding captions as their number grows.

The claim is that both grow linearly. Each size is a file of annotations in COCO form, five captions
per image, that `preprocess --captions-only` reads in a new process. Memory is the growth of the
process's peak over that of the smallest size; the file itself counts, while it is in memory.
Times are those of the processor, because other work may share it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measurement import memory, options, parse, print_machine, print_table

import multispace

SIZES = (10_000, 100_000, 400_000, 1_600_000)
QUICK = {"sizes": [500]}
PER_IMAGE = 5
WORDS = 30_000  # different words, with frequencies as Zipf's law has them
LENGTH = 10.5  # words of a caption, on average
BLOCK = 100_000  # captions that are made together


def write_annotations(path: Path, count: int) -> None:
    """Write ``count`` captions of images, drawn from a seed, as COCO's files have them."""
    generator = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(WORDS)])
    shares = 1 / np.arange(1, WORDS + 1)
    with path.open("w") as file:
        names = (f"COCO_train2014_{image:012d}.jpg" for image in range(-(-count // PER_IMAGE)))
        images = (f'{{"id": {image}, "file_name": "{name}"}}' for image, name in enumerate(names))
        file.write(f'{{"images": [{", ".join(images)}], "annotations": [')
        for first in range(0, count, BLOCK):
            lengths = np.maximum(generator.poisson(LENGTH, min(BLOCK, count - first)), 1)
            drawn = words[generator.choice(WORDS, lengths.sum(), p=shares / shares.sum())]
            for offset, caption in enumerate(np.split(drawn, np.cumsum(lengths)[:-1])):
                number = first + offset
                one = {"image_id": number // PER_IMAGE, "id": number, "caption": " ".join(caption)}
                file.write((", " if number else "") + json.dumps(one))
        file.write("]}")


def one_size(annotations: Path) -> dict[str, float]:
    """Read annotations into a cache; return seconds and bytes. Call it in a new process."""
    began = time.process_time()
    with tempfile.TemporaryDirectory(dir=annotations.parent) as folder:
        multispace.preprocess(
            annotations=annotations, cache=Path(folder) / "cache", captions_only=True
        )
    return {"cpu": time.process_time() - began, "peak": memory()["VmHWM"]}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="captions")
    parser.add_argument("--one-size", type=Path, help=argparse.SUPPRESS)
    args = parse(parser, argv, QUICK)
    if args.one_size:
        print(json.dumps(one_size(args.one_size)))
        return
    print_machine(args, f"{PER_IMAGE} captions per image, {LENGTH} words per caption")
    rows, least = [], None
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            path = Path(folder) / "captions_train2014.json"
            write_annotations(path, size)
            command = [sys.executable, __file__, f"--one-size={path}"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found = json.loads(done.stdout.splitlines()[-1])
            least = least or (size, found["peak"])
            rows.append(_row(size, path.stat().st_size, found, least))
    print_table(
        ("captions", "file, MB", "us per caption, CPU", "bytes of memory per caption"), *rows
    )


def _row(
    size: int, length: int, found: dict[str, float], least: tuple[int, float]
) -> tuple[str, ...]:
    """Return a row of the table; ``least`` has the smallest size and its peak."""
    more = size - least[0]
    grown = f"{(found['peak'] - least[1]) / more:.0f}" if more else "-"
    return f"{size:,}", f"{length / 1e6:,.1f}", f"{1e6 * found['cpu'] / size:.1f}", grown


if __name__ == "__main__":
    main()
