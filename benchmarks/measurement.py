"""A measurement: rounds in turn, memory, and a Markdown table with the machine above it.

Every script imports this first: it makes the project importable from a clone.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

IMAGES = 82_783  # of MS-COCO train2014
WORKLOADS = Path(tempfile.gettempdir()) / "multispace-workloads"


def options(description: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="each figure is their median")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="torch's threads"
    )
    parser.add_argument(
        "--workloads",
        type=Path,
        default=WORKLOADS,
        help="folder of the generated caches; they are used again when there",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures say nothing")
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, quick: Mapping[str, Any]
) -> argparse.Namespace:
    """Parse; with ``--quick`` the values of ``quick`` are the defaults. Set torch's threads."""
    args = parser.parse_args(argv)
    if args.quick:
        parser.set_defaults(**quick)
        args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    return args


def interleave(
    contestants: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Call the contestants in turn, once a round, so that a busy spell meets all of them."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        for name, measure in contestants.items():
            figures[name].append(measure())
            done = f"round {number} of {rounds}: {name}: {figures[name][-1]:.4g}"
            print(done, file=sys.stderr, flush=True)
    return figures


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes by the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def spread(values: Sequence[float], form: str = "{:,.0f}") -> str:
    """Return the median with the least and the greatest value."""
    middle, low, high = (
        form.format(v) for v in (statistics.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def memory() -> dict[str, int]:
    """Return this process's memory in bytes, by the kernel's names (Linux).

    ``VmHWM`` is the peak since the program was loaded (``ru_maxrss`` would count its parent's
    too); ``RssAnon`` is the process's own part, ``RssFile`` pages of mapped files.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = (line.split(":") for line in lines if line.startswith(("VmHWM", "VmRSS", "Rss")))
    return {name: int(value.split()[0]) * 1024 for name, value in fields}


def print_machine(args: argparse.Namespace, *more: str) -> None:
    """Print where and with what this was measured, a line."""
    parts = [
        f"{_processor()}, {os.cpu_count()} cores",
        f"{args.threads} threads",
        f"load {os.getloadavg()[0]:.1f} before",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"medians of {args.rounds} rounds (least to greatest)",
        *(["--quick: THESE FIGURES SAY NOTHING"] if args.quick else []),
        *more,
    ]
    print("; ".join(parts) + "\n")


def print_table(*rows: Sequence[str]) -> None:
    """Print rows, the first of which is the head, as a Markdown table."""
    head, *body = rows
    for row in (head, ["---"] * len(head), *body):
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def device_name(device: torch.device) -> str:
    """Return what a device is, for the machine's line."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    able = torch.cpu.get_capabilities()
    kinds = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(name)]
    return f"{names[0] if names else platform.machine()} ({', '.join(kinds)})"
