"""Measurements: alternating rounds, memory, and Markdown tables with a line on the machine.

Every script imports this module first: it makes the project importable from a clone. It imports
torch, which takes seconds, only where it is used: many measurements are in new processes.
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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

IMAGES = 82_783  # in MS-COCO train2014
WORKLOADS = Path(tempfile.gettempdir()) / "multispace-workloads"


def options(description: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of all scripts."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="each figure is the median of its rounds"
    )
    parser.add_argument("--threads", type=int, help="threads of torch; its own default if left out")
    parser.add_argument(
        "--workloads",
        type=Path,
        default=WORKLOADS,
        help="folder of the generated caches; existing ones are reused",
    )
    parser.add_argument("--quick", action="store_true", help="smoke test; its figures mean nothing")
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, quick: Mapping[str, Any]
) -> argparse.Namespace:
    """Parse the arguments, and set torch's threads if they are given.

    :param quick: the defaults of ``--quick``
    """
    args = parser.parse_args(argv)
    if args.quick:
        parser.set_defaults(**quick)
        args = parser.parse_args(argv)
    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
    return args


def flags(args: argparse.Namespace, *names: str) -> list[str]:
    """Return arguments that give a new process the same values; None is left out.

    :param names: as they are in ``args``, for example batch_size
    """
    values = {name: getattr(args, name) for name in names}
    return [f"--{name.replace('_', '-')}={v}" for name, v in values.items() if v is not None]


def interleave(
    contestants: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Call all contestants once in each round, so that other load affects all of them alike.

    :returns: the figures by name, one per round
    """
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        for name, measure in contestants.items():
            figures[name].append(measure())
            done = f"round {number} of {rounds}: {name}: {figures[name][-1]:.4g}"
            print(done, file=sys.stderr, flush=True)
    return figures


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock time of ``work``."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def spread(values: Sequence[float], form: str = "{:,.0f}") -> str:
    """Return the median with the minimum and the maximum."""
    middle, low, high = (
        form.format(v) for v in (statistics.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def memory() -> dict[str, int]:
    """Return this process's memory in bytes, by the names of the Linux kernel.

    ``VmHWM`` is the peak since the program was loaded (``ru_maxrss`` would include that of the
    parent process), ``RssAnon`` private memory, ``RssFile`` pages of mapped files.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = (line.split(":") for line in lines if line.startswith(("VmHWM", "VmRSS", "Rss")))
    return {name: int(value.split()[0]) * 1024 for name, value in fields}


def print_machine(args: argparse.Namespace, *more: str) -> None:
    """Print one line about the machine and the settings."""
    import torch

    parts = [
        f"{_processor()}, {os.cpu_count()} cores",
        f"{torch.get_num_threads()} threads",
        f"load {os.getloadavg()[0]:.1f} before",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"medians of {args.rounds} rounds (min to max)",
        *(["--quick: THESE FIGURES MEAN NOTHING"] if args.quick else []),
        *more,
    ]
    print("; ".join(parts) + "\n")


def print_table(*rows: Sequence[str]) -> None:
    """Print rows as a Markdown table; the first one is the header."""
    head, *body = rows
    for row in (head, ["---"] * len(head), *body):
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def device_name(device: "torch.device") -> str:
    """Return the name of a device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _processor() -> str:
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    # Older releases of torch do not report capabilities.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    known = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")
    present = [name for name in known if capabilities.get(name)]
    return f"{names[0] if names else platform.machine()} ({', '.join(present)})"
