"""The limit of the shards that are fetched for single images, and their removal.

A mark, an empty file ``features/.fetched-NUMBER-XXXXXXXX`` beside a shard, says that the shard was
fetched for some of its images; the time of the mark is that of its last use. Only marked shards
are counted and removed, and none that the manifest of its folder lists: whole copies stay.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from multispace.data.cache.format.manifest import NAME, SHARD_FILE
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.format.shard import ShardEntry
from multispace.data.cache.lock import lock_cache
from multispace.data.cache.unlisted import unlisted_damage
from multispace.errors import CacheError

VARIABLE = "MULTISPACE_CACHE_LIMIT"
DEFAULT_LIMIT = "20GB"

_MARK = ".fetched-"
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Kept:
    """A marked shard on disk.

    :param root: the folder of the local copy that it belongs to
    :param used: the time of its last use, in nanoseconds
    """

    root: Path
    file: str
    bytes: int
    used: int


def size_limit() -> int:
    """Return how many bytes of marked shards are kept, in all local copies together.

    :raises CacheError: the environment variable is no size.
    """
    text = os.environ.get(VARIABLE) or DEFAULT_LIMIT
    parts = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(MB|GB|TB)", text.strip().upper())
    if parts is None:
        raise CacheError(
            "not a size", where=f"{VARIABLE}={text}", hint=f"for example {VARIABLE}={DEFAULT_LIMIT}"
        )
    return int(float(parts[1]) * _UNITS[parts[2]])


def mark(root: Path, shards: Sequence[ShardEntry]) -> None:
    """Mark the shards that are not there and are fetched next; call it under the lock."""
    (root / "features").mkdir(exist_ok=True)
    for shard in shards:
        place = _mark_of(root, shard.file)
        if not os.path.lexists(root / shard.file) and not os.path.lexists(place):
            place.touch()


def note_use(root: Path, shards: Sequence[ShardEntry]) -> None:
    """Set the time of use of those shards that are marked."""
    for shard in shards:
        try:
            os.utime(_mark_of(root, shard.file), follow_symlinks=False)
        except OSError:  # not marked, or in a folder of someone else
            continue


def make_room(root: Path, needed: Sequence[ShardEntry], limit: int) -> None:
    """Remove marked shards, the longest unused first, until ``needed`` fits the limit too.

    Call it under the lock of ``root``. A shard of another local copy is removed under the lock of
    that copy. If another process holds that lock, the shards of that copy stay, above the limit if
    need be, until the next call: a process that fetches is neither disturbed nor waited for.

    :param root: the local copy that ``needed`` is fetched into
    :param limit: bytes
    :raises CacheError: ``needed`` alone exceeds it.
    """
    files = {shard.file for shard in needed}
    kept = [held for place in root.parent.iterdir() for held in _kept(place)]
    here = {held.file for held in kept if held.root == root}
    fetched = [s for s in needed if s.file in here or not os.path.lexists(root / s.file)]
    total = sum(shard.bytes for shard in fetched)
    if total > limit:
        raise CacheError(
            f"{len(needed)} shards with {total / 1e6:.1f} MB are needed, and at most "
            f"{limit / 1e6:.1f} MB are kept",
            where=root,
            hint=f"ask for fewer images at a time, set {VARIABLE}, or fetch the whole cache with "
            "`multispace cache pull`",
        )
    others = [held for held in kept if held.root != root or held.file not in files]
    total += sum(held.bytes for held in others)
    for held in sorted(others, key=lambda held: held.used):
        if total <= limit:
            return
        if _remove(held, locked=held.root == root):
            total -= held.bytes


def _kept(root: Path) -> Iterator[Kept]:
    """Yield the marked shards of a local copy that its manifest does not list."""
    folder = root / "features"
    if root.is_symlink() or folder.is_symlink() or not folder.is_dir():
        return
    marks = list(folder.glob(f"{_MARK}*"))
    listed = _listed(root) if marks else frozenset()
    for place in marks:
        file = f"features/{place.name.removeprefix(_MARK)}.h5"
        if not SHARD_FILE.fullmatch(file) or listed is None or file in listed:
            continue
        try:
            shard, status = (root / file).lstat(), place.lstat()
        except OSError:  # removed meanwhile
            continue
        if stat.S_ISREG(shard.st_mode) and stat.S_ISREG(status.st_mode) and not status.st_size:
            yield Kept(root, file, shard.st_size, status.st_mtime_ns)


def _listed(root: Path) -> frozenset[str] | None:
    """Return the shards that the manifest of a folder lists; None if it cannot be read."""
    if not os.path.lexists(root / NAME):
        return frozenset()
    try:
        return frozenset(shard.file for shard in read_manifest(root).shards)
    except CacheError:
        return None


def _remove(held: Kept, *, locked: bool) -> bool:
    """Remove a marked shard, and return whether it counts no longer.

    It stays and counts where another process holds the lock. It stays and does not count where its
    bytes are not those of its name, because someone replaced it, or where it was listed meanwhile.

    :param locked: whether the caller holds the lock of its folder
    """
    if not locked:
        try:
            with lock_cache(held.root):
                return _remove(held, locked=True)
        except (CacheError, OSError):  # in use, or not ours to lock
            return False
    path = held.root / held.file
    kept = {other.file for other in _kept(held.root)}
    if held.file in kept and not unlisted_damage(held.root, path):
        path.unlink(missing_ok=True)
        _mark_of(held.root, held.file).unlink(missing_ok=True)
    return True


def _mark_of(root: Path, file: str) -> Path:
    path = root / file
    return path.with_name(_MARK + path.stem)
