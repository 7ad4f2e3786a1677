"""Importing feature vectors that other software made into a cache.

Nothing is known of imported vectors but what the user states. Their spec says so, and its
fingerprint is never that of extracted vectors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from multispace.data.cache.format.keys import check_keys
from multispace.data.cache.format.spec import IMPORTED, IMPORTED_UNSEEN, FeatureSpec
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import CacheWriter, write_cache
from multispace.data.external_vectors.import_options import UNKNOWN, ImportOptions
from multispace.data.external_vectors.missing_vectors import missing_note
from multispace.data.external_vectors.vector_files import FORMS, Vectors, open_vectors
from multispace.data.external_vectors.vector_names import map_names
from multispace.data.external_vectors.vector_shapes import Pooling
from multispace.data.images import digest, read_bytes
from multispace.data.watch import Watch, counter
from multispace.errors import CacheError

MEAN_OVER_REGIONS = ", mean over regions"  # in the spec, after how the network pooled

_NO_DIGEST = bytes(32)


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    :param already: vectors that the cache had before, with the same values
    :param notes: images of the cache's captions that have no vector
    """

    into: str
    fingerprint: str
    origin: str
    dimension: int
    dtype: str
    added: int
    already: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "notes": list(self.notes)}

    def render(self) -> str:
        """Return what was added, and what is known of it."""
        return (
            f"{self.added} vectors of {self.dimension} numbers ({self.dtype}) added to "
            f"{self.into}, {self.already} were there already\n"
            f"{self.origin}; fingerprint {self.fingerprint}"
        )


def import_features(options: ImportOptions, watch: Watch | None = None) -> Imported:
    """Make or extend a cache from vectors in files.

    A killed import is completed by the same call.

    :param watch: called with the number of vectors
    :raises CacheError: the source is not of a known form, a name has no key, a key cannot be
        stored or occurs twice, a vector has another shape or is not finite, or the cache has
        other vectors.
    :raises ImageError: ``images`` is given and the image of a key is not there.
    """
    pooling = Pooling(regions=options.mean_over_regions)
    with open_vectors(options.source, options.names, pooling) as vectors:
        keys = _keys(vectors.names, options)
        first = vectors.read(0)
        spec = _spec(options, len(first))
        count = counter(len(keys), watch)
        with write_cache(options.into) as writer:
            writer.begin(spec)
            captioned = _captioned(Cache(options.into, writer.manifest))
            before = len(writer.digests)
            for start in range(0, len(keys), options.shard_size):
                part = range(start, min(start + options.shard_size, len(keys)))
                _append(writer, spec, options, vectors, {n: keys[n] for n in part}, count)
            added = len(writer.digests) - before
            note = missing_note(captioned, writer.digests)
    return Imported(
        into=str(options.into),
        fingerprint=spec.fingerprint,
        origin=spec.origin,
        dimension=spec.dimension,
        dtype=spec.dtype,
        added=added,
        already=len(keys) - added,
        notes=(note,) if note else (),
    )


def _captioned(cache: Cache) -> Sequence[str]:
    """Return the keys of the images that have captions in the cache."""
    keys = (key for split in cache.manifest.captions for key in cache.captions(split).keys)
    return list(dict.fromkeys(keys))


def _spec(options: ImportOptions, dimension: int) -> FeatureSpec:
    """Return the spec of the vectors; what is not known is recorded as unknown."""
    return FeatureSpec(
        architecture=options.architecture,
        weights=options.weights,
        # The name stands in for the digest: weights of another name are not mixed with these.
        weights_sha256=options.weights_sha256 or f"{UNKNOWN}, named {options.weights}",
        transform=None,
        decode=UNKNOWN,
        pooling=options.pooling + MEAN_OVER_REGIONS * options.mean_over_regions,
        dimension=dimension,
        dtype=options.dtype,
        precision=UNKNOWN,
        versions={"numpy": np.__version__},
        origin=IMPORTED if options.images else IMPORTED_UNSEEN,
    )


def _keys(names: Sequence[str], options: ImportOptions) -> list[str]:
    """Return the keys of the vectors."""
    if not names:
        raise CacheError("holds no vectors", where=options.source, hint=f"expected {FORMS}")
    keys = map_names(
        [name + options.extension for name in names], options.name_pattern, options.name_map
    )
    try:
        check_keys(keys)
    except ValueError as error:
        raise CacheError(
            str(error), where=options.name_map or options.names or options.source, hint="rename it"
        ) from error
    return keys


def _append(
    writer: CacheWriter,
    spec: FeatureSpec,
    options: ImportOptions,
    vectors: Vectors,
    part: Mapping[int, str],
    count: Callable[[int], None],
) -> None:
    """Read the vectors ``part`` (number to key), check them, and add those that are new."""
    keys, digests, features = [], [], []
    for number, key in part.items():
        vector = vectors.read(number)
        if len(vector) != spec.dimension:
            raise CacheError(
                f"the vector of {key} has {len(vector)} numbers, the first one {spec.dimension}",
                where=options.source,
                hint="import them into separate caches",
            )
        if not np.isfinite(vector).all():
            raise CacheError(
                f"the vector of {key} holds NaN or infinity",
                where=options.source,
                hint="correct or remove it",
            )
        count(1)
        image = digest(read_bytes(options.images / key)) if options.images else _NO_DIGEST
        if key in writer.digests:
            there = writer.vector(key)
            with np.errstate(over="ignore"):
                same = np.array_equal(there, vector.astype(there.dtype))
            if not same or writer.digests[key] != image:
                raise CacheError(
                    f"{key} has another vector or image already",
                    where=options.into,
                    hint="use another --into",
                )
            continue
        keys.append(key)
        digests.append(image)
        features.append(vector.astype(np.float64))
    if keys:
        rows = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        writer.append(spec, keys, rows, np.stack(features), {})
