"""Writing to a feature cache: one process at a time extends it."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from multispace.data.cache.encoded_captions import Captions, save_captions
from multispace.data.cache.keys import format_key_list
from multispace.data.cache.listed_file import Entry, describe
from multispace.data.cache.lock import FOLDERS, lock_cache, make_folders
from multispace.data.cache.manifest import (
    NAME,
    SPLIT_NAME,
    Manifest,
    read_manifest,
    write_manifest,
)
from multispace.data.cache.shard import Shard, ShardEntry, write_shard
from multispace.data.cache.spec import FeatureSpec
from multispace.data.cache.unlisted import list_shards
from multispace.data.cache.vocabulary import Vocabulary
from multispace.data.files import atomic_write, remove_partial, sync_folder
from multispace.errors import CacheError, ShardError

LAST_SHARD = 999_999_999  # the format has nine digits for it

# Another file system, one without hard links, or one that refuses them: then a copy is made.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


class CacheWriter:
    """Extends a cache; :func:`write_cache` makes one.

    ``digests`` maps the key of each vector to the SHA-256 of its image (32 bytes).
    """

    def __init__(
        self, root: Path, manifest: Manifest, shards: Sequence[Shard], written: Manifest | None
    ) -> None:
        self.root = root
        self._written = written  # as on disk
        self.manifest = manifest
        self.digests = {
            key: digest.tobytes()
            for shard in shards
            for key, digest in zip(shard.keys, shard.image_sha256, strict=True)
        }

    def begin(self, spec: FeatureSpec) -> None:
        """Declare how the vectors that are added next are made.

        :raises CacheError: the cache holds vectors of another fingerprint; names the fields.
        """
        held = self.manifest.spec
        if held is not None and held.fingerprint != spec.fingerprint:
            raise CacheError(
                f"its vectors were made differently: {'; '.join(held.differences(spec))} "
                "(cache and command)",
                where=self.root,
                hint="use another --cache",
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
        """Add vectors as one shard, and the images that failed, then list both.

        :param image_sha256: uint8 (N, 32)
        :param features: float (N, D)
        :param failures: the reason of each image that has no vector, by its key
        :raises CacheError: a key has a vector already, or the spec has another fingerprint.
        :raises ShardError: a vector cannot be stored.
        """
        self._expect(spec, keys)
        if keys:
            folder = self.root / "features"
            entry = write_shard(folder, self._next, spec, keys, image_sha256, features)
            self._list(entry, keys, image_sha256)
        self._put_failures({**self.manifest.failures, **failures})
        self.save()

    def take(self, shard: Shard, entry: ShardEntry) -> bool:
        """Add a shard of another cache whole, under the next number.

        Return whether it is a hard link to the other's file and not a copy. A link is as safe as
        a copy: shards are never written in place.

        :param entry: how the other cache lists it
        :raises CacheError: a key has a vector already, or the spec has another fingerprint.
        :raises ShardError: a vector is not finite.
        :raises DamagedFileError: the file was changed since it was checked.
        """
        self._expect(shard.spec, shard.keys)
        if (bad := shard.features.non_finite()).size:
            raise ShardError(
                f"the vector of {shard.keys[bad[0]]} is not finite",
                where=shard.path,
                hint="run `multispace cache repair` on its cache",
            )
        file = f"features/{self._next:05d}-{entry.sha256[:8]}.h5"
        linked = _link_or_copy(shard, self.root / file)
        self._list(replace(entry, file=file), shard.keys, shard.image_sha256)
        self._put_failures(self.manifest.failures)
        self.save()
        return linked

    @property
    def _next(self) -> int:
        number = 1 + max((_number(s.file) for s in self.manifest.shards), default=-1)
        if number > LAST_SHARD:
            raise CacheError(
                f"no shard can follow number {LAST_SHARD}",
                where=self.root,
                hint="merge the cache into a new one",
            )
        return number

    def _expect(self, spec: FeatureSpec, keys: Sequence[str]) -> None:
        self.begin(spec)
        if held := [key for key in keys if key in self.digests]:
            raise CacheError(
                f"{held[0]} has a vector already", where=self.root, hint="leave it out"
            )

    def _put_failures(self, failures: Mapping[str, str]) -> None:
        kept = {key: reason for key, reason in failures.items() if key not in self.digests}
        self.manifest = replace(self.manifest, failures=kept)

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
        """Write the key list, if it has changed, and then the manifest that lists it."""
        self.manifest = replace(self.manifest, keys=self._put_keys())
        write_manifest(self.root, self.manifest, self._written)
        self._written = self.manifest

    def _put_keys(self) -> Entry | None:
        if not self.manifest.shards:
            return None
        content = format_key_list(self.digests)  # by shard, then by row
        sha256 = hashlib.sha256(content).hexdigest()
        entry = Entry(f"keys-{sha256[:8]}.txt", sha256, len(content))
        if not (self.root / entry.file).exists():
            with atomic_write(self.root / entry.file) as file:
                file.write(content)
        return entry


@contextmanager
def write_cache(root: Path) -> Iterator[CacheWriter]:
    """Open or create the cache at ``root`` for writing, alone.

    What a killed run left is completed first: partial files are removed, and whole shards that
    the manifest does not list yet are listed. A listed file is never removed or rewritten here.

    :raises CacheError: another process writes to it, its manifest is damaged, or a link leads
        out of it.
    :raises DamagedFileError: a listed shard is missing or damaged.
    :raises ShardError: a shard does not keep to the format or does not fit the others.
    """
    with lock_cache(root):
        make_folders(root)
        for folder in (root, *(root / name for name in FOLDERS)):
            remove_partial(folder)
        written = read_manifest(root) if os.path.lexists(root / NAME) else None
        manifest = written or Manifest()
        settled, shards = list_shards(root, manifest)
        writer = CacheWriter(root, settled, shards, written)
        if settled != manifest or (settled.shards and settled.keys is None):
            writer.save()
        yield writer


def check_split_name(name: str) -> str:
    """Return ``name`` if it can be the name of a split.

    :raises CacheError: it cannot be a file name.
    """
    if not SPLIT_NAME.fullmatch(name):
        raise CacheError(
            "not a name for a split",
            where=f"--split {name!r}",
            hint="use letters, digits, '-', '_' and '.' (64 at most)",
        )
    return name


def _link_or_copy(shard: Shard, path: Path) -> bool:
    """Make ``path`` a hard link to a shard's file, or a copy of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with shard.features.file.open() as held:
        try:
            os.link(shard.path, path)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        else:
            if os.path.samestat(path.lstat(), os.fstat(held.fileno())):
                sync_folder(path.parent)
                return True
            path.unlink()  # another file has taken the name since it was opened
        with atomic_write(path) as file:
            shutil.copyfileobj(held, file, 1 << 20)
    return False


def _number(file: str) -> int:
    return int(file.removeprefix("features/").split("-")[0])
