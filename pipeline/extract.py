"""Pictures to rows of shards: decoding in threads beside the network."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.cache import CacheWriter
from data.errors import PictureError
from data.pictures import DECODING, NO_FILE, decode, digest, read_bytes
from data.spec import FeatureSpec, Transform
from model.backbone import POOLING, Backbone
from pipeline.progress import Progress

BATCH = 32


@dataclass
class Rows:
    """The shard in hand: only pictures whose vectors are there, and those that failed."""

    keys: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)  # each float32 (n, D)
    failures: dict[str, str] = field(default_factory=dict)


Part = Sequence[tuple[str, Path]]  # the pictures of one shard: key and file
# Gives the rows of each part, in order, to the function at the end.
Elsewhere = Callable[[Sequence[Part], Backbone, FeatureSpec, Callable[[Rows], None]], None]


def describe(backbone: Backbone, dtype: str) -> FeatureSpec:
    """Return the feature spec of what ``backbone`` makes."""
    prepare = backbone.prepare
    return FeatureSpec(
        architecture=backbone.architecture,
        weights_sha256=backbone.weights_sha256,
        transform=Transform(
            resize=prepare.resize,
            crop=prepare.crop,
            interpolation=prepare.interpolation,
            antialias=prepare.antialias,
            mean=prepare.mean,
            std=prepare.std,
        ),
        decode=DECODING,
        pooling=POOLING,
        dimension=backbone.dimension,
        weights=backbone.weights,
        dtype=dtype,
        precision=str(backbone.precision).removeprefix("torch."),
        versions={n: metadata.version(n) for n in ("torch", "torchvision", "pillow", "numpy")},
    )


def extract(
    writer: CacheWriter,
    pictures: Mapping[str, Path],
    backbone: Backbone,
    *,
    dtype: str = "float16",
    shard_size: int = 4096,
    workers: int | None = None,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Add the vectors of ``pictures`` (key to file) to the cache, shard by shard.

    A picture that cannot be read is recorded with its reason and gets no row. On an
    interruption the rows that are ready are written before it goes on its way.

    :param elsewhere: makes the rows in place of this process.
    """
    spec = describe(backbone, dtype)
    writer.begin(spec)
    keys = sorted(key for key, path in pictures.items() if path.exists())
    if absent := dict.fromkeys(pictures.keys() - set(keys), NO_FILE):
        _store(writer, spec, Rows(failures=absent))
    named = [(key, pictures[key]) for key in keys]
    parts = [named[start : start + shard_size] for start in range(0, len(keys), shard_size)]
    with Progress(len(keys), "pictures", "features") as progress:

        def store(rows: Rows) -> None:
            _store(writer, spec, rows)
            progress.advance(len(rows.keys) + len(rows.failures))

        if elsewhere is not None:
            elsewhere(parts, backbone, spec, store)
            return
        for part in parts:
            rows = Rows()
            try:
                fill(rows, part, backbone, workers or os.cpu_count() or 1, progress.advance)
            finally:  # an interruption costs the batch in hand, not the shard
                _store(writer, spec, rows)


def fill(
    rows: Rows,
    part: Part,
    backbone: Backbone,
    workers: int,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Put the pictures of ``part`` into ``rows``, in order.

    :param workers: threads that decode.
    :param advance: called once a picture.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        ready: list[_Decoded] = []
        for one in _in_order(pool, backbone, part, ahead=2 * BATCH + workers):
            advance()
            if one.pixels is None:
                rows.failures[one.key] = one.reason
                continue
            ready.append(one)
            if len(ready) == BATCH:
                _run(rows, ready, backbone)
                ready.clear()
        _run(rows, ready, backbone)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Decoded:
    key: str
    digest: bytes
    pixels: Tensor | None  # float32 (3, crop, crop), or None with the reason
    reason: str = ""


def _in_order(
    pool: ThreadPoolExecutor,
    backbone: Backbone,
    part: Part,
    ahead: int,
) -> Iterator[_Decoded]:
    """Decode in threads, at most ``ahead`` pictures in memory, and yield in order."""
    waiting: deque[Future[_Decoded]] = deque()
    for key, path in part:
        waiting.append(pool.submit(_decode, key, path, backbone))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _decode(key: str, path: Path, backbone: Backbone) -> _Decoded:
    try:
        content = read_bytes(path)
        pixels = backbone.prepare(decode(content, path))
    except PictureError as error:
        return _Decoded(key, b"", None, str(error).removeprefix(f"{path}: "))
    return _Decoded(key, digest(content), pixels)


def _run(rows: Rows, batch: Sequence[_Decoded], backbone: Backbone) -> None:
    """Put a batch through the network.

    It is filled up to one fixed size, so that a vector never depends on how many pictures
    happened to be beside it.
    """
    if not batch:
        return
    pixels = torch.stack([one.pixels for one in batch if one.pixels is not None])
    filler = pixels.new_zeros(BATCH - len(pixels), *pixels.shape[1:])
    rows.features.append(backbone(torch.cat((pixels, filler)))[: len(pixels)].numpy())
    rows.keys += [one.key for one in batch]
    rows.digests += [one.digest for one in batch]


def _store(writer: CacheWriter, spec: FeatureSpec, rows: Rows) -> None:
    if rows.keys or rows.failures:
        digests = np.frombuffer(b"".join(rows.digests), np.uint8).reshape(-1, 32)
        features = np.concatenate(rows.features or [np.empty((0, spec.dimension), np.float32)])
        writer.append(spec, rows.keys, digests, features, rows.failures)


def changed_pictures(writer: CacheWriter, pictures: Mapping[str, Path]) -> list[str]:
    """Return the keys whose files are no longer the bytes that the cache's rows came from.

    A picture that is in the cache and no longer on disk has not changed.
    """
    held = [(writer.digests[key], path) for key, path in pictures.items() if key in writer.digests]
    with ThreadPoolExecutor() as pool:
        same = pool.map(lambda pair: not pair[1].exists() or _is(*pair), held)
        return [str(path) for (_, path), is_same in zip(held, same, strict=True) if not is_same]


def _is(known: bytes, path: Path) -> bool:
    try:
        return digest(read_bytes(path)) == known
    except PictureError:
        return False
