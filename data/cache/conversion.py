"""Conversion of a cache of version 1 of the format to version 2.

Shards stay as they are. Whatever version 2 keeps elsewhere is written under a new name, and no
listed file is changed, so that the cache is whole in version 1 until the manifest of version 2
is written, and whole in version 2 from then on.
"""

from dataclasses import replace
from pathlib import Path

from multispace.data.cache.format.failure_list import write_failures
from multispace.data.cache.format.listed_file import Entry, read_entry, write_named
from multispace.data.cache.format.manifest import VERSION, Manifest
from multispace.data.cache.format.shard import ShardEntry, open_shard


def convert(root: Path, manifest: Manifest) -> Manifest:
    """Return the manifest with all that it lists in version 2; write the files that this takes.

    :param manifest: of version 1, of version 2, or of files of both
    :raises DamagedFileError: a listed file is missing or damaged.
    :raises ShardError: a shard does not keep to the format.
    """
    vocabulary = manifest.vocabulary
    if vocabulary is not None and vocabulary.file == "vocabulary.json":
        vocabulary = write_named(root, "vocabulary", ".json", read_entry(root, vocabulary))
    captions = {
        split: write_named(root, f"captions/{split}", ".h5", read_entry(root, entry))
        if entry.file == f"captions/{split}.h5"
        else entry
        for split, entry in manifest.captions.items()
    }
    return Manifest(
        spec=manifest.spec,
        shards=tuple(
            shard if shard.keys is not None else with_keys(root, shard) for shard in manifest.shards
        ),
        failures=manifest.failures or write_failures(root, manifest.failures_1),
        vocabulary=vocabulary,
        captions=captions,
        version=VERSION,
    )


def with_keys(root: Path, entry: ShardEntry) -> ShardEntry:
    """Write the key list of a shard that has none, and return the entry of version 2."""
    shard = open_shard(root, entry)
    keys = write_key_list(root, entry, shard.key_list)
    return replace(entry, keys=keys, dtype=shard.spec.dtype)


def write_key_list(root: Path, shard: Entry, content: bytes) -> Entry:
    """Write the key list of a shard next to it, under the same number, and return its entry."""
    return write_named(root, shard.file.rsplit("-", 1)[0], ".txt", content)
