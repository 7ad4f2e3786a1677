"""Faults put into the files of a cache."""

from dataclasses import replace

import h5py

from multispace.data.cache.conversion import convert, with_keys
from multispace.data.cache.format.failure_list import write_failures
from multispace.data.cache.format.listed_file import describe
from multispace.data.cache.format.manifest import write_manifest
from multispace.data.cache.format.shard import ShardEntry, write_shard
from multispace.data.cache.reader import Cache
from support.rows import SPEC, digests, vectors


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def list_anew(root, *, failures=None, **changes):
    """Rewrite the manifest with ``changes``, so that only the structure can tell."""
    if failures is not None:
        changes["failures"] = write_failures(root, failures)
    write_manifest(root, convert(root, replace(Cache.open(root).manifest, **changes)))


def plain_shard(root, number, keys, features, spec=SPEC):
    """Write a shard that need not have finite features."""
    entry = write_shard(root / "features", number, spec, keys, digests(keys), vectors(keys))
    path = root / entry.file
    with h5py.File(path, "r+") as file:
        file["features"][:] = features
    named = describe(root, path)
    path = path.rename(path.with_name(f"{number:05d}-{named.sha256[:8]}.h5"))
    named = describe(root, path)
    return with_keys(root, ShardEntry(named.file, named.sha256, named.bytes, len(keys)))
