"""Worker threads that turn image files into features, batch by batch.

On a CPU each worker uses one core: it reads, decodes and resizes the images of a batch, then runs
the network on them with a single thread. Workers never wait for each other, so all cores stay
busy whether decoding or the network takes longer. On a GPU the workers decode in parallel, and
each submits its batches to a CUDA stream of its own.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import local

import numpy as np
import torch
from PIL import Image

from multispace.data.image_inputs import ImageSource, open_source, read_source
from multispace.data.images import digest
from multispace.errors import ImageError
from multispace.model.backbone.resnet import Backbone, Together

BATCH = 8  # small enough that the maps of a layer stay in a core's cache
GPU_BATCH = 64  # large enough to keep a GPU busy

ShardImages = Sequence[tuple[str, Path]]  # key and file of each image of one shard
Sources = Sequence[tuple[str, ImageSource]]  # likewise, for images that need not be files
Look = Callable[[str, Image.Image], None]  # with the key and the upright RGB image


@dataclass
class Timings:
    """Seconds that workers spent, by kind of work."""

    disk: float = 0.0
    decoding: float = 0.0
    network: float = 0.0

    def add(self, other: "Timings") -> None:
        """Add the seconds of another."""
        self.disk += other.disk
        self.decoding += other.decoding
        self.network += other.network

    def __str__(self) -> str:
        """Return the kind of work that takes most of the time, with its percentage."""
        kinds = vars(self)
        name = max(kinds, key=lambda kind: kinds[kind])
        total = sum(kinds.values())
        return f"bottleneck: {name} ({kinds[name] / total:.0%})" if total else ""


@dataclass
class Extracted:
    """Features of the images that could be read, and reasons for the others.

    ``keys``, ``digests`` and the rows of ``features`` are in the same order.
    """

    keys: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)  # each float32 (n, D)
    failures: dict[str, str] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)

    def add(self, other: "Extracted") -> None:
        """Append the images of another."""
        self.keys += other.keys
        self.digests += other.digests
        self.features += other.features
        self.failures.update(other.failures)
        self.timings.add(other.timings)


def batch_size(device: torch.device) -> int:
    """Return the number of images that the network always processes at a time."""
    return GPU_BATCH if device.type == "cuda" else BATCH


def split_into_batches(shards: Iterable[Sources], size: int) -> Iterator[Sources]:
    """Split each shard into batches of ``size`` images; no batch spans two shards."""
    for shard in shards:
        for start in range(0, len(shard), size):
            yield shard[start : start + size]


@contextmanager
def extracted_batches(
    shards: Iterable[Sources],
    backbone: Backbone | Together,
    workers: int,
    look: Look | None = None,
) -> Iterator[Iterator[Extracted]]:
    """Yield an iterator over the batches of ``shards``, in order, that workers extract.

    Workers are at most two batches each ahead of the consumer, so that memory does not grow with
    the number of batches. Leaving the context cancels batches that have not started.

    :param workers: number of threads
    :param look: called by the workers with each image that could be read
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # new threads inherit this number
    pool = ThreadPoolExecutor(workers)
    worker = _Worker(backbone, look)
    batches = split_into_batches(shards, batch_size(backbone.device))
    try:
        yield _in_order(pool, worker, batches, ahead=2 * workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(threads)


def _in_order(
    pool: ThreadPoolExecutor, worker: "_Worker", batches: Iterator[Sources], ahead: int
) -> Iterator[Extracted]:
    waiting: deque[Future[Extracted]] = deque(
        pool.submit(worker.run, batch) for batch in islice(batches, ahead)
    )
    while waiting:
        extracted = waiting.popleft().result()
        waiting.extend(pool.submit(worker.run, batch) for batch in islice(batches, 1))
        yield extracted


class _Worker(local):
    """The state that each thread keeps between batches: a pixel buffer and a CUDA stream."""

    def __init__(self, backbone: Backbone | Together, look: Look | None) -> None:
        self.backbone, self.look = backbone, look
        side = backbone.prepare.crop
        gpu = backbone.device.type == "cuda"
        shape = (batch_size(backbone.device), side, side, 3)
        # Copies from pinned memory to the GPU run while the CPU continues.
        self.pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=gpu)
        self.stream = torch.cuda.Stream(backbone.device) if gpu else None

    def run(self, batch: Sources) -> Extracted:
        """Extract the features of a batch.

        The network always processes a full buffer, so that the features of an image do not
        depend on the number of images in its batch.
        """
        extracted = Extracted()
        for key, source in batch:
            self._prepare(key, source, extracted)
        if extracted.keys:
            started = time.perf_counter()
            with torch.cuda.stream(self.stream) if self.stream else nullcontext():
                features = self.backbone.of_pixels(self.pixels)
            extracted.features.append(features[: len(extracted.keys)].numpy())
            extracted.timings.network += time.perf_counter() - started
        return extracted

    def _prepare(self, key: str, source: ImageSource, extracted: Extracted) -> None:
        """Put the pixels of an image into the next place of the buffer."""
        started = time.perf_counter()
        read = started
        try:
            content = read_source(source)
            read = time.perf_counter()
            image = open_source(content, source)
            pixels = self.backbone.prepare.cut(image)
        except ImageError as error:
            extracted.failures[key] = error.what
        else:
            self.pixels[len(extracted.keys)] = torch.from_numpy(pixels)
            extracted.keys.append(key)
            identity = content if isinstance(content, bytes) else image.tobytes()
            extracted.digests.append(digest(identity))
            if self.look is not None:
                self.look(key, image)
        extracted.timings.disk += read - started
        extracted.timings.decoding += time.perf_counter() - read
