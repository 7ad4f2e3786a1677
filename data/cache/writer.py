"""The one writer that may extend a feature cache."""

import errno
import hashlib
import os
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from multispace.data.cache.encoded_captions import Captions, save_captions
from multispace.data.cache.listed_file import Entry, describe
from multispace.data.cache.manifest import (
    NAME,
    SHARD_FILE,
    SPLIT_NAME,
    Manifest,
    read_manifest,
    write_manifest,
)
from multispace.data.cache.reader import _index, _same_meaning
from multispace.data.cache.shard import (
    Shard,
    ShardEntry,
    open_shard,
    read_shard,
    write_shard,
)
from multispace.data.cache.spec import FeatureSpec
from multispace.data.cache.vocabulary import Vocabulary
from multispace.data.files import atomic_write, remove_partial, sync_folder
from multispace.errors import (
    CacheError,
    DamagedFileError,
    ShardError,
)

LAST_SHARD = 999_999_999  # the format has nine digits for it


# Another file system, one without hard links, or one that refuses them: a copy does as well.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


class CacheWriter:
    """The one process that extends a cache; made by :func:`write_cache`."""

    def __init__(self, root: Path, manifest: Manifest, shards: Sequence[Shard]) -> None:
        self.root = root
        self.manifest = manifest
        self.digests = {
            key: digest.tobytes()
            for shard in shards
            for key, digest in zip(shard.keys, shard.image_sha256, strict=True)
        }

    def begin(self, spec: FeatureSpec) -> None:
        """Say how the rows to come are made.

        :raises CacheError: the cache holds rows of another meaning; names the fields.
        """
        held = self.manifest.spec
        if held is not None and held.fingerprint != spec.fingerprint:
            raise CacheError(
                f"{self.root}: its vectors were made otherwise: "
                f"{'; '.join(held.differences(spec))} (cache and command); use another --cache"
            )
        self.manifest = replace(self.manifest, spec=held or spec)

    def append(
        self,
        spec: FeatureSpec,
        keys: Sequence[str],
        image_sha256: np.ndarray,
        features: np.ndarray,
        failures: Mapping[str, str],
    ) -> None:
        """Add rows as one shard, and what failed beside them, then list both.

        :param image_sha256: uint8 (N, 32)
        :param features: float (N, D)
        :raises CacheError: a key has a row already, or the spec is of another meaning.
        :raises ShardError: a row cannot be stored.
        """
        self._expect(spec, keys)
        if keys:
            folder = self.root / "features"
            entry = write_shard(folder, self._next, spec, keys, image_sha256, features)
            self._list(entry, keys, image_sha256)
        failures = _without(self.digests, {**self.manifest.failures, **failures})
        self.manifest = replace(self.manifest, failures=failures)
        self.save()

    def take(self, shard: Shard, entry: ShardEntry) -> bool:
        """Add a checked shard of another cache whole, under the next number.

        Return whether it is a hard link to the other's file, and no copy. A link is as safe as
        a copy: shards are never written again in place.

        :param entry: what the other cache lists it as.
        :raises CacheError: a key has a row already, or the spec is of another meaning.
        """
        self._expect(shard.spec, shard.keys)
        file = f"features/{self._next:05d}-{entry.sha256[:8]}.h5"
        linked = _link_or_copy(shard.path, self.root / file)
        self._list(replace(entry, file=file), shard.keys, shard.image_sha256)
        self.manifest = replace(
            self.manifest, failures=_without(self.digests, self.manifest.failures)
        )
        self.save()
        return linked

    @property
    def _next(self) -> int:
        number = 1 + max((_number(s.file) for s in self.manifest.shards), default=-1)
        if number > LAST_SHARD:
            raise CacheError(f"{self.root}: no shard can follow {LAST_SHARD}; merge it anew")
        return number

    def _expect(self, spec: FeatureSpec, keys: Sequence[str]) -> None:
        self.begin(spec)
        if held := [key for key in keys if key in self.digests]:
            raise CacheError(f"{self.root}: {held[0]} has a vector already; leave it out")

    def _list(self, entry: ShardEntry, keys: Sequence[str], image_sha256: np.ndarray) -> None:
        self.manifest = replace(self.manifest, shards=(*self.manifest.shards, entry))
        self.digests.update(zip(keys, map(bytes, image_sha256), strict=True))

    def put_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Store the vocabulary; captions of another one are no longer listed."""
        path = self.root / "vocabulary.json"
        vocabulary.save(path)
        self.manifest = replace(self.manifest, vocabulary=describe(self.root, path), captions={})
        self.save()

    def put_captions(self, captions: Captions) -> None:
        """Store the encoded captions of a split."""
        path = self.root / "captions" / f"{check_split_name(captions.split)}.h5"
        save_captions(captions, path)
        self.manifest = self.manifest.with_captions(captions.split, describe(self.root, path))
        self.save()

    def save(self) -> None:
        """Write the list of keys, if it is another now, and then the manifest that lists it."""
        self.manifest = replace(self.manifest, keys=self._put_keys())
        write_manifest(self.root, self.manifest)

    def _put_keys(self) -> Entry | None:
        if not self.manifest.shards:
            return None
        content = "".join(f"{key}\n" for key in self.digests).encode()  # by shard, then by row
        sha256 = hashlib.sha256(content).hexdigest()
        entry = Entry(f"keys-{sha256[:8]}.txt", sha256, len(content))
        if not (self.root / entry.file).exists():
            with atomic_write(self.root / entry.file) as file:
                file.write(content)
        return entry


@contextmanager
def write_cache(root: Path) -> Iterator[CacheWriter]:
    """Open or make the cache at ``root`` for writing, alone.

    What a killed run left behind is put right first: partial files are removed and whole
    shards that the manifest does not list yet are taken in. A listed shard whose bytes are
    wrong is dropped, so that its images count as missing.

    :raises CacheError: another process writes to it, or its manifest is damaged.
    :raises ShardError: a shard is damaged in a way that no killed run leaves behind.
    """
    with lock_cache(root):
        for folder in (root, root / "features", root / "captions"):
            remove_partial(folder)
        manifest = read_manifest(root) if (root / NAME).exists() else Manifest()
        settled, shards = _settle(root, manifest)
        writer = CacheWriter(root, settled, shards)
        if settled != manifest or (settled.shards and settled.keys is None):
            writer.save()
        yield writer


@contextmanager
def lock_cache(root: Path) -> Iterator[None]:
    """Hold the writer's lock of the folder ``root``, which is made if need be.

    :raises CacheError: another process holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock")  # held by the kernel for the process: a dead one frees it
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CacheError(
            f"{root}: another process is writing to this cache; wait until it ends"
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_split_name(name: str) -> str:
    """Return ``name`` if a split may be called so.

    :raises CacheError: it would not do as a file name.
    """
    if not SPLIT_NAME.fullmatch(name):
        raise CacheError(f"split {name!r}: use letters, digits, '-', '_' and '.' (64 at most)")
    return name


def _settle(root: Path, manifest: Manifest) -> tuple[Manifest, list[Shard]]:
    """Bring the manifest and the shards on disk together."""
    shards, entries = [], []
    for entry in manifest.shards:
        try:
            shards.append(open_shard(root, entry))
        except DamagedFileError:
            (root / entry.file).unlink(missing_ok=True)  # its images are extracted again
        else:
            entries.append(entry)
    listed = {entry.file for entry in entries}
    for path in sorted((root / "features").glob("*.h5")):
        name = f"features/{path.name}"
        if name in listed or not SHARD_FILE.fullmatch(name):
            continue
        if path.is_symlink() or not path.is_file():
            raise ShardError(f"{path}: not listed, and not a plain file; delete it")
        found = describe(root, path)
        if not path.stem.endswith(found.sha256[:8]):
            raise ShardError(f"{path}: not listed, and its bytes do not match its name; delete it")
        shard = read_shard(path)
        entries.append(ShardEntry(found.file, found.sha256, found.bytes, len(shard.keys)))
        shards.append(shard)
    spec = manifest.spec or (shards[0].spec if shards else None)
    for shard in shards:
        assert spec is not None
        _same_meaning(spec, shard)
    failures = _without(_index(shards), manifest.failures)
    return replace(manifest, spec=spec, shards=tuple(entries), failures=failures), shards


def _without(keys: Container[str], failures: Mapping[str, str]) -> dict[str, str]:
    return {key: reason for key, reason in failures.items() if key not in keys}


def _link_or_copy(source: Path, path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        with source.open("rb") as held, atomic_write(path) as file:
            shutil.copyfileobj(held, file, 1 << 20)
        return False
    sync_folder(path.parent)
    return True


def _number(file: str) -> int:
    return int(file.removeprefix("features/").split("-")[0])
