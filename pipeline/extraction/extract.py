"""Extraction of the features of images into the shards of one or several caches."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.writer import CacheWriter
from multispace.data.images import NO_FILE, digest, read_bytes
from multispace.errors import ImageError
from multispace.model.backbone.resnet import Backbone, Together
from multispace.model.device import cores
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.extraction.backbone_spec import spec_of
from multispace.pipeline.extraction.workers import (
    Extracted,
    ShardImages,
    Timings,
    batch_size,
    extracted_batches,
)

# Extracts shards on other machines, and passes each, in order, to the function.
RemoteExtraction = Callable[
    [Sequence[ShardImages], Backbone, FeatureSpec, Callable[[Extracted], None]], None
]


def extract(
    writer: CacheWriter,
    images: Mapping[str, Path],
    backbone: Backbone,
    *,
    others: Sequence[tuple[CacheWriter, Backbone]] = (),
    dtype: str = "float16",
    shard_size: int = 4096,
    workers: int | None = None,
    remote: RemoteExtraction | None = None,
) -> None:
    """Add the features of ``images`` to a cache, shard by shard.

    An image that cannot be read gets no features; its reason is recorded. If extraction is
    interrupted, the features that are complete are written first.

    :param images: key -> file
    :param others: further caches and their backbones, filled from the same decoded images; a
        cache keeps the features that it already has
    :param workers: threads; one per core by default
    :param remote: extracts on other machines instead of this process, for one cache
    """
    filled = ((writer, backbone), *others)
    caches = [(cache, spec_of(network, dtype)) for cache, network in filled]
    for cache, spec in caches:
        cache.begin(spec)
    present = sorted(key for key, path in images.items() if path.exists())
    if absent := dict.fromkeys(images.keys() - set(present), NO_FILE):
        _store(caches, Extracted(failures=absent))
    files = [(key, images[key]) for key in present]
    shards = [files[start : start + shard_size] for start in range(0, len(files), shard_size)]
    timings = Timings()

    def count(extracted: Extracted) -> None:
        timings.add(extracted.timings)
        progress.advance(len(extracted.keys) + len(extracted.failures))

    def store(extracted: Extracted) -> None:
        _store(caches, extracted)

    def store_and_count(extracted: Extracted) -> None:
        store(extracted)
        count(extracted)

    with Progress(len(files), "images", "features", lambda: str(timings)) as progress:
        if remote is not None:
            remote(shards, backbone, caches[0][1], store_and_count)
            return
        network = Together(tuple(made for _, made in filled)) if others else backbone
        _extract_here(shards, network, workers or cores(), store, count)


def _extract_here(
    shards: Sequence[ShardImages],
    backbone: Backbone | Together,
    workers: int,
    store: Callable[[Extracted], None],
    count: Callable[[Extracted], None],
) -> None:
    """Extract shards in this process.

    :param store: receives each shard
    :param count: receives each batch
    """
    size = batch_size(backbone.device)
    with extracted_batches(shards, backbone, workers) as batches:
        for images in shards:
            shard = Extracted()
            try:
                for batch in islice(batches, -(-len(images) // size)):
                    shard.add(batch)
                    count(batch)
            finally:  # an interruption costs the batches in progress, not the shard
                store(shard)


def _store(caches: Sequence[tuple[CacheWriter, FeatureSpec]], extracted: Extracted) -> None:
    """Write to each cache its own columns of the features that it does not have yet."""
    start = 0
    for writer, spec in caches:
        columns = slice(start, start + spec.dimension)
        start = columns.stop
        new = [n for n, key in enumerate(extracted.keys) if key not in writer.digests]
        if new or extracted.failures:
            keys = [extracted.keys[number] for number in new]
            digests = np.frombuffer(b"".join(extracted.digests), np.uint8).reshape(-1, 32)[new]
            blank = np.empty((0, columns.stop), np.float32)
            features = np.concatenate(extracted.features or [blank])
            writer.append(spec, keys, digests, features[new, columns], extracted.failures)


def changed_images(writer: CacheWriter, images: Mapping[str, Path]) -> list[str]:
    """Return the files that differ from those that the cache's features were extracted from.

    A file that no longer exists has not changed.

    :param images: key -> file
    """
    known = [(writer.digests[key], path) for key, path in images.items() if key in writer.digests]
    with ThreadPoolExecutor() as pool:
        same = pool.map(lambda pair: not pair[1].exists() or _has_digest(*pair), known)
        return [str(path) for (_, path), is_same in zip(known, same, strict=True) if not is_same]


def _has_digest(expected: bytes, path: Path) -> bool:
    try:
        return digest(read_bytes(path)) == expected
    except ImageError:
        return False
