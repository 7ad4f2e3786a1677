"""Pictures to the shards of a cache, by lanes of this process or elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import islice
from pathlib import Path

import numpy as np

from multispace.data.cache.spec import FeatureSpec, Transform
from multispace.data.cache.writer import CacheWriter
from multispace.data.images import DECODING, NO_FILE, digest, read_bytes
from multispace.errors import ImageError
from multispace.model.backbone.compilation import compile_backbone
from multispace.model.backbone.resnet import POOLING, Backbone, Together, load_backbone
from multispace.model.device import choose_device, choose_precision, cores
from multispace.model.options import PRECISIONS
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.extraction.workers import Effort, Part, Rows, batch_size, lanes

MIRRORED = ", mean with the mirror image"
COMPILED = "compiled"  # in the spec's versions, if the kernels were

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
        decode=DECODING + MIRRORED * backbone.flip,
        pooling=backbone.pooling,
        dimension=backbone.dimension,
        weights=backbone.weights,
        dtype=dtype,
        precision=str(backbone.precision).removeprefix("torch."),
        versions={
            **{n: metadata.version(n) for n in ("torch", "torchvision", "pillow", "numpy")},
            **({COMPILED: backbone.compiled} if backbone.compiled else {}),
        },
    )


def backbone_of(
    spec: FeatureSpec, *, weights: str | None = None, device: str, compiled: bool = False
) -> Backbone:
    """Load the backbone that a spec describes; the caller compares fingerprints.

    :param weights: where they are now, if not where the spec says.
    :param compiled: compile it as the spec's was, if it was.
    """
    assert spec.transform is not None, "imported vectors have no backbone"
    place = choose_device(device)
    precision = spec.precision if spec.precision in PRECISIONS else "auto"
    backbone = load_backbone(
        spec.architecture,
        weights or spec.weights,
        device=place,
        precision=choose_precision(precision, place),
        resize=spec.transform.resize,
        crop=spec.transform.crop,
        pool="average" if spec.pooling == POOLING else "grid",
        flip=spec.decode.endswith(MIRRORED),
    )
    if compiled and COMPILED in spec.versions:
        return compile_backbone(backbone, batch_size(place))[0]
    return backbone


def extract(
    writer: CacheWriter,
    images: Mapping[str, Path],
    backbone: Backbone,
    *,
    beside: Sequence[tuple[CacheWriter, Backbone]] = (),
    dtype: str = "float16",
    shard_size: int = 4096,
    workers: int | None = None,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Add the vectors of ``pictures`` (key to file) to the cache, shard by shard.

    An image that cannot be read is recorded with its reason and gets no row. On an
    interruption the rows that are ready are written before it goes on its way.

    :param beside: further caches with the backbones that fill them, from the same decoded
        images; what one of them holds already is left as it is.
    :param workers: lanes; one a core if not given.
    :param elsewhere: makes the rows in place of this process, for one cache.
    """
    filled = [(writer, backbone), *beside]
    specs = [describe(made, dtype) for _, made in filled]
    for (cache, _), spec in zip(filled, specs, strict=True):
        cache.begin(spec)
    effort, size = Effort(), batch_size(backbone.device)

    def store(rows: Rows) -> None:
        start = 0
        for (cache, _), spec in zip(filled, specs, strict=True):
            _store(cache, spec, rows, slice(start, start + spec.dimension))
            start += spec.dimension

    keys = sorted(key for key, path in images.items() if path.exists())
    if absent := dict.fromkeys(images.keys() - set(keys), NO_FILE):
        store(Rows(failures=absent))
    named = [(key, images[key]) for key in keys]
    parts = [named[start : start + shard_size] for start in range(0, len(keys), shard_size)]
    with Progress(len(keys), "images", "features", lambda: str(effort)) as progress:

        def count(rows: Rows) -> None:
            effort.add(rows.effort)
            progress.advance(len(rows.keys) + len(rows.failures))

        if elsewhere is not None:

            def take(rows: Rows) -> None:
                store(rows)
                count(rows)

            elsewhere(parts, backbone, specs[0], take)
            return
        network = Together(tuple(made for _, made in filled)) if beside else backbone
        with lanes(parts, network, workers or cores()) as made:
            for part in parts:
                rows = Rows()
                try:
                    for batch in islice(made, -(-len(part) // size)):
                        rows.add(batch)
                        count(batch)
                finally:  # an interruption costs the batches in hand, not the shard
                    store(rows)


def _store(writer: CacheWriter, spec: FeatureSpec, rows: Rows, columns: slice) -> None:
    """Write the rows that the cache does not hold yet, of the columns that are its own."""
    new = [number for number, key in enumerate(rows.keys) if key not in writer.digests]
    if new or rows.failures:
        keys = [rows.keys[number] for number in new]
        digests = np.frombuffer(b"".join(rows.digests), np.uint8).reshape(-1, 32)[new]
        features = np.concatenate(rows.features or [np.empty((0, columns.stop), np.float32)])
        writer.append(spec, keys, digests, features[new, columns], rows.failures)


def changed_images(writer: CacheWriter, images: Mapping[str, Path]) -> list[str]:
    """Return the keys whose files are no longer the bytes that the cache's rows came from.

    An image that is in the cache and no longer on disk has not changed.
    """
    held = [(writer.digests[key], path) for key, path in images.items() if key in writer.digests]
    with ThreadPoolExecutor() as pool:
        same = pool.map(lambda pair: not pair[1].exists() or _is(*pair), held)
        return [str(path) for (_, path), is_same in zip(held, same, strict=True) if not is_same]


def _is(known: bytes, path: Path) -> bool:
    try:
        return digest(read_bytes(path)) == known
    except ImageError:
        return False
