"""Shards that a killed writer finished and did not list."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from multispace.data.cache.listed_file import UNLINK_HINT, describe
from multispace.data.cache.manifest import SHARD_FILE, Manifest
from multispace.data.cache.shard import Shard, ShardEntry, open_shard, read_shard
from multispace.data.cache.shard_index import HINT, check_fingerprint, index_rows
from multispace.errors import DamagedFileError, ShardError


def list_shards(root: Path, manifest: Manifest) -> tuple[Manifest, list[Shard]]:
    """Return the manifest with all whole shards on disk listed, and those shards, opened.

    Nothing is written, and nothing is removed.

    :raises DamagedFileError: a listed shard is missing or damaged.
    :raises ShardError: a shard does not keep to the format or does not fit the others, or a
        shard that is not listed is damaged.
    """
    entries = list(manifest.shards)
    shards = [open_shard(root, entry) for entry in entries]
    for path in unlisted_shards(root, manifest):
        if what := unlisted_damage(root, path):
            hint = UNLINK_HINT if path.is_symlink() else HINT
            raise ShardError(f"not listed, and {what}", where=path, hint=hint)
        found = describe(root, path)
        shard = read_shard(root, found)
        entries.append(ShardEntry(found.file, found.sha256, found.bytes, len(shard.keys)))
        shards.append(shard)
    spec = manifest.spec or (shards[0].spec if shards else None)
    for shard in shards:
        assert spec is not None
        check_fingerprint(spec, shard)
    rows = index_rows(shards)
    failures = {key: reason for key, reason in manifest.failures.items() if key not in rows}
    return replace(manifest, spec=spec, shards=tuple(entries), failures=failures), shards


def unlisted_shards(root: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield what is named as a shard under ``root`` and is not listed, in order of the names."""
    listed = {entry.file for entry in manifest.shards}
    for path in sorted((root / "features").glob("*.h5")):
        name = f"features/{path.name}"
        if name not in listed and SHARD_FILE.fullmatch(name):
            yield path


def unlisted_damage(root: Path, path: Path) -> str:
    """Say what is wrong with a shard whose only digest is the one in its name, or return ""."""
    try:
        found = describe(root, path)
    except DamagedFileError:
        return "not a plain file"
    return "" if path.stem.endswith(found.sha256[:8]) else "its bytes do not match its name"
