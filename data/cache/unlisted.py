"""Files that a killed writer left and did not list."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from multispace.data.cache.format.listed_file import (
    UNLINK_HINT,
    Entry,
    check_digest,
    check_size,
    describe,
)
from multispace.data.cache.format.manifest import SHARD_FILE, Manifest
from multispace.data.cache.format.shard import Shard, ShardEntry, open_shard, read_shard
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.key_index import KeyIndex
from multispace.data.cache.shard_index import HINT, add_key_list, add_keys, check_fingerprint
from multispace.errors import DamagedFileError, ShardError

MAX_HASHED = 4 << 30  # bytes of shards that are hashed when a cache is opened for writing

_TEXT_FILE = re.compile(
    r"(?P<what>captions/(?P<split>.+)|features/(?P<number>[0-9]{5,9})|vocabulary|failures|keys)"
    r"-(?P<digest>[0-9a-f]{8})\.\w+"
)


def list_shards(root: Path, manifest: Manifest) -> tuple[Manifest, KeyIndex]:
    """Return the manifest with all whole shards on disk listed, and the index of their keys.

    Of the listed shards the key lists are read, and the sizes are checked; if all shards together
    have at most MAX_HASHED bytes, so are their digests. Shards of version 1 have no key list and
    are read themselves. Nothing is written, and nothing is removed.

    :raises DamagedFileError: a listed shard or key list is missing or damaged.
    :raises ShardError: a shard does not keep to the format or does not fit the others, or a
        shard that is not listed is damaged.
    """
    entries, spec, index = list(manifest.shards), manifest.spec, KeyIndex(manifest.rows)
    check_shards(root, [entry for entry in entries if entry.keys is not None])
    for entry in entries:
        if entry.keys is not None:
            add_key_list(index, root, entry)
        else:
            spec = _add_shard(index, spec, open_shard(root, entry))
    for path in unlisted_shards(root, manifest):
        if what := unlisted_damage(root, path):
            hint = UNLINK_HINT if path.is_symlink() else HINT
            raise ShardError(f"not listed, and {what}", where=path, hint=hint)
        found = describe(root, path)
        shard = read_shard(root, found)
        entries.append(ShardEntry(found.file, found.sha256, found.bytes, len(shard)))
        spec = _add_shard(index, spec, shard)
    return replace(manifest, spec=spec, shards=tuple(entries)), index


def check_shards(root: Path, entries: Sequence[ShardEntry]) -> None:
    """Check the digests of listed shards, or only their sizes if they have too many bytes to hash.

    :raises DamagedFileError: a shard is missing or is not the bytes that the manifest lists.
    """
    small = sum(entry.bytes for entry in entries) <= MAX_HASHED
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(partial(check_digest if small else check_size, root), entries):
            pass


def _add_shard(index: KeyIndex, spec: FeatureSpec | None, shard: Shard) -> FeatureSpec:
    spec = spec or shard.spec
    check_fingerprint(spec, shard.spec, shard.path)
    add_keys(index, shard)
    return spec


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


def remove_replaced(root: Path, before: Manifest, after: Manifest) -> None:
    """Remove the files other than shards that ``before`` lists and ``after`` does not."""
    listed = {entry.file for entry in after.files()}
    for entry in before.small_files():
        if entry.file not in listed:
            (root / entry.file).unlink(missing_ok=True)


def remove_left_behind(root: Path, manifest: Manifest) -> None:
    """Remove what a killed writer wrote and did not list, or replaced and did not remove.

    A file is removed only if its name and the digest in it show that this software wrote it,
    and if the manifest lists another file in its place; or if it is a file of version 1 with the
    bytes of a listed one. Shards are never removed.
    """
    listed = {entry.file for entry in manifest.files()}
    patterns = ("*.json", "keys-*.txt", "captions/*.h5", "features/*.txt")
    for path in [path for pattern in patterns for path in root.glob(pattern)]:
        file = path.relative_to(root).as_posix()
        if file not in listed and _is_replaced(root, file, manifest):
            path.unlink()


def _is_replaced(root: Path, file: str, manifest: Manifest) -> bool:
    name, of_1 = _TEXT_FILE.fullmatch(file), _of_version_1(file, manifest)
    if of_1 is None and (name is None or not _has_another(name, manifest)):
        return False
    try:
        found = describe(root, root / file).sha256
    except DamagedFileError:
        return False
    if of_1 is not None:
        return found == of_1.sha256
    return name is not None and found.startswith(name["digest"])


def _of_version_1(file: str, manifest: Manifest) -> Entry | None:
    """Return the listed file that has the content of a file of version 1, if it is there."""
    if file == "vocabulary.json":
        return manifest.vocabulary
    return next((e for s, e in manifest.captions.items() if file == f"captions/{s}.h5"), None)


def _has_another(name: re.Match[str], manifest: Manifest) -> bool:
    """Whether the manifest has a file in place of one that is named by its digest."""
    if name["split"]:
        return name["split"] in manifest.captions
    if name["number"]:
        numbers = (SHARD_FILE.fullmatch(shard.file) for shard in manifest.shards)
        return any(number and number[1] == name["number"] for number in numbers)
    if name["what"] == "vocabulary":
        return manifest.vocabulary is not None
    return name["what"] == "failures" or manifest.version > 1 or manifest.key_list_1 is not None
