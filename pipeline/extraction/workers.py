"""Lanes: threads that each take a batch of images from the file to the vectors.

On processors a lane is one core: it reads, decodes and resizes its images, then runs the network
on them with one thread of arithmetic. No core ever waits for another, so that all of them are
busy whatever the share of decoding is. On a GPU the lanes decode side by side, and each queues
its batch on a stream of its own.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import local

import numpy as np
import torch

from multispace.data.images import decode, digest, read_bytes
from multispace.errors import ImageError
from multispace.model.backbone.resnet import Backbone, Together

BATCH = 8  # so small that a layer's maps stay near the core
GPU_BATCH = 64  # so large that a GPU has enough to do

Part = Sequence[tuple[str, Path]]  # the images of one shard: key and file


@dataclass
class Effort:
    """Seconds that lanes spent, by kind of work."""

    disk: float = 0.0
    decoding: float = 0.0
    network: float = 0.0

    def add(self, other: "Effort") -> None:
        """Count another's seconds too."""
        self.disk += other.disk
        self.decoding += other.decoding
        self.network += other.network

    def __str__(self) -> str:
        """Name the kind that takes most, and its share."""
        kinds = vars(self)
        name = max(kinds, key=lambda kind: kinds[kind])
        whole = sum(kinds.values())
        return f"bottleneck: {name} ({kinds[name] / whole:.0%})" if whole else ""


@dataclass
class Rows:
    """Pictures whose vectors are there, and those that failed."""

    keys: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)  # each float32 (n, D)
    failures: dict[str, str] = field(default_factory=dict)
    effort: Effort = field(default_factory=Effort)

    def add(self, other: "Rows") -> None:
        """Put another's rows after these."""
        self.keys += other.keys
        self.digests += other.digests
        self.features += other.features
        self.failures.update(other.failures)
        self.effort.add(other.effort)


def batch_size(device: torch.device) -> int:
    """Return how many images the network sees at a time, always."""
    return GPU_BATCH if device.type == "cuda" else BATCH


def batches(parts: Iterable[Part], size: int) -> Iterator[Part]:
    """Cut each part into batches of ``size``; none goes across two parts."""
    for part in parts:
        for start in range(0, len(part), size):
            yield part[start : start + size]


@contextmanager
def lanes(
    parts: Iterable[Part], backbone: Backbone | Together, workers: int
) -> Iterator[Iterator[Rows]]:
    """Give the rows of :func:`batches`, in order, as ``workers`` lanes make them.

    Few batches are ahead of the one that is taken, so that memory does not grow with their
    number. On leaving, what has not begun is given up.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # what threads that start from here on compute with
    pool = ThreadPoolExecutor(workers)
    lane = _Lane(backbone)
    try:
        yield _in_order(pool, lane, batches(parts, batch_size(backbone.device)), ahead=2 * workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(before)


def _in_order(
    pool: ThreadPoolExecutor, lane: "_Lane", wanted: Iterator[Part], ahead: int
) -> Iterator[Rows]:
    waiting: deque[Future[Rows]] = deque(pool.submit(lane.run, b) for b in islice(wanted, ahead))
    while waiting:
        rows = waiting.popleft().result()
        waiting.extend(pool.submit(lane.run, batch) for batch in islice(wanted, 1))
        yield rows


class _Lane(local):
    """What a thread keeps from batch to batch: the pixels' memory, and its stream on a GPU."""

    def __init__(self, backbone: Backbone | Together) -> None:
        self.backbone = backbone
        side = backbone.prepare.crop
        gpu = backbone.device.type == "cuda"
        shape = (batch_size(backbone.device), side, side, 3)
        # Pinned memory is copied to the GPU while the processor goes on.
        self.pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=gpu)
        self.stream = torch.cuda.Stream(backbone.device) if gpu else None

    def run(self, batch: Part) -> Rows:
        """Make the rows of a batch.

        The network always sees the same number of images, so that a vector never depends on
        how many happened to be beside it.
        """
        rows = Rows()
        effort = rows.effort
        for key, path in batch:
            began = time.perf_counter()
            read = began
            try:
                content = read_bytes(path)
                read = time.perf_counter()
                cut = self.backbone.prepare.cut(decode(content, path))
            except ImageError as error:
                rows.failures[key] = str(error).removeprefix(f"{path}: ")
            else:
                self.pixels[len(rows.keys)] = torch.from_numpy(cut)
                rows.keys.append(key)
                rows.digests.append(digest(content))
            effort.disk += read - began
            effort.decoding += time.perf_counter() - read
        if rows.keys:
            began = time.perf_counter()
            with torch.cuda.stream(self.stream) if self.stream else nullcontext():
                features = self.backbone.of_pixels(self.pixels)
            rows.features.append(features[: len(rows.keys)].numpy())
            effort.network += time.perf_counter() - began
        return rows
