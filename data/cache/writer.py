"""Writing to a feature cache: one process at a time extends it."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from multispace.data.cache.conversion import convert, write_key_list
from multispace.data.cache.feature_rows import FeatureRows
from multispace.data.cache.format.failure_list import read_failures, write_failures
from multispace.data.cache.format.image_digests import ImageDigests
from multispace.data.cache.format.keys import format_key_list
from multispace.data.cache.format.listed_file import write_named
from multispace.data.cache.format.manifest import NAME, SPLIT_NAME, Manifest, write_manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.format.shard import Shard, ShardEntry, open_shard, write_shard
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.key_index import KeyIndex
from multispace.data.cache.lock import FOLDERS, lock_cache, make_folders
from multispace.data.cache.unlisted import list_shards, remove_left_behind, remove_replaced
from multispace.data.captions.encoded_captions import Captions, captions_bytes
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.files import atomic_write, remove_partial, sync_folder
from multispace.errors import CacheError, ShardError

LAST_SHARD = 999_999_999  # the format has nine digits for it

# What grows is written again when a part of it is new, so that all writes together stay linear.
_FAILURES_PART = 4  # more than one failure in four
_SHARDS_PART = 16  # more than one shard for sixteen that are listed

# Another file system, one without hard links, or one that refuses them: then a copy is made.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


class CacheWriter:
    """Extends a cache; :func:`write_cache` makes one.

    ``digests`` maps the key of each vector to the SHA-256 of its image (32 bytes), and
    ``failures`` the key of each image that has none to the reason.

    :param index: the keys of the shards of ``manifest``
    :param written: the manifest on disk
    """

    def __init__(
        self, root: Path, manifest: Manifest, index: KeyIndex, written: Manifest | None
    ) -> None:
        self.root = root
        self.manifest = manifest
        self.index = index
        self.digests = ImageDigests(index, self._open)
        recorded = read_failures(root, manifest)
        self.failures = {key: why for key, why in recorded.items() if key not in index}
        self._changes = len(recorded) - len(self.failures)  # of failures, since they were written
        self._written = written
        self._next = 1 + max((_number(shard.file) for shard in manifest.shards), default=-1)
        self._features: dict[int, FeatureRows] = {}

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
        """Add vectors as one shard, and record the images that failed.

        The manifest lists both at the latest when the writer is closed. If the process is killed
        before, the shard is listed when the cache is opened for writing again.

        :param image_sha256: uint8 (N, 32)
        :param features: float (N, D)
        :param failures: the reason of each image that has no vector, by its key
        :raises CacheError: a key has a vector already, or the spec has another fingerprint.
        :raises ShardError: a vector cannot be stored.
        """
        self._expect(spec, keys)
        if keys:
            folder = self.root / "features"
            entry = write_shard(folder, self._next_number(), spec, keys, image_sha256, features)
            self._list(entry, keys)
        self._put_failures(failures)
        self._save_if_much_is_new()

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
        file = f"features/{self._next_number():05d}-{entry.sha256[:8]}.h5"
        linked = _link_or_copy(shard, self.root / file)
        listed = replace(entry, file=file, keys=None, dtype=shard.spec.dtype)
        self._list(listed, shard.keys)
        self._save_if_much_is_new()
        return linked

    def _next_number(self) -> int:
        """Return the number of the next shard."""
        if self._next > LAST_SHARD:
            raise CacheError(
                f"no shard can follow number {LAST_SHARD}",
                where=self.root,
                hint="merge the cache into a new one",
            )
        return self._next

    def _open(self, number: int) -> Shard:
        return open_shard(self.root, self.manifest.shards[number])

    def _expect(self, spec: FeatureSpec, keys: Sequence[str]) -> None:
        self.begin(spec)
        if (held := np.flatnonzero(self.index.find(keys)[:, 0] >= 0)).size:
            raise CacheError(
                f"{keys[int(held[0])]} has a vector already", where=self.root, hint="leave it out"
            )

    def _list(self, shard: ShardEntry, keys: Sequence[str]) -> None:
        key_list = format_key_list(keys)
        entry = replace(shard, keys=write_key_list(self.root, shard, key_list))
        self.manifest = replace(self.manifest, shards=(*self.manifest.shards, entry))
        self._next += 1
        self.index.add(key_list)
        for key in self.failures.keys() & keys:
            del self.failures[key]
            self._changes += 1

    def _put_failures(self, failures: Mapping[str, str]) -> None:
        for key, reason in failures.items():
            if key not in self.index and self.failures.get(key) != reason:
                self.failures[key] = reason
                self._changes += 1

    def vector(self, key: str) -> np.ndarray:
        """Return the vector (D,) of a key that has one."""
        number, row = self.index[key]
        if number not in self._features:
            self._features[number] = self._open(number).features
        return np.asarray(self._features[number][row])

    def put_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Store the vocabulary; captions of another one are no longer listed."""
        entry = write_named(self.root, "vocabulary", ".json", vocabulary.to_bytes())
        self.manifest = replace(self.manifest, vocabulary=entry, captions={})
        self.save()

    def put_captions(self, captions: Captions) -> None:
        """Store the encoded captions of a split."""
        stem = f"captions/{check_split_name(captions.split)}"
        entry = write_named(self.root, stem, ".h5", captions_bytes(captions))
        self.manifest = self.manifest.with_captions(captions.split, entry)
        self.save()

    def save(self) -> None:
        """Write the manifest, and remove files that it no longer lists.

        A cache of version 1 is converted. The file of failures is written again if many of them
        have changed.
        """
        if self.manifest.version == 1 or self._many_failures_changed:
            self._save_failures()
        self.manifest = convert(self.root, self.manifest)
        write_manifest(self.root, self.manifest)
        if self._written is not None:
            remove_replaced(self.root, self._written, self.manifest)
        self._written = self.manifest

    def _save_if_much_is_new(self) -> None:
        if self._new_shards * _SHARDS_PART > self._listed or self._many_failures_changed:
            self.save()

    @property
    def _listed(self) -> int:
        return len(self._written.shards) if self._written else 0

    @property
    def _new_shards(self) -> int:
        return len(self.manifest.shards) - self._listed

    @property
    def _many_failures_changed(self) -> bool:
        return self._changes * _FAILURES_PART > len(self.failures)

    def close(self) -> None:
        """Write what is not written yet."""
        if self._changes:
            self._save_failures()
            self.save()
        elif self._new_shards:
            self.save()

    def _save_failures(self) -> None:
        entry = write_failures(self.root, self.failures)
        self.manifest = replace(self.manifest, failures=entry, failures_1={})
        self._changes = 0


@contextmanager
def write_cache(root: Path) -> Iterator[CacheWriter]:
    """Open or create the cache at ``root`` for writing, alone.

    What a killed run left is completed first: partial files are removed, and whole shards that
    the manifest does not list yet are listed. A listed file is never removed or rewritten here.

    :raises CacheError: another process writes to it, its manifest is damaged, or a link leads
        out of it.
    :raises DamagedFileError: a listed shard or key list is missing or damaged. The digests of
        shards are checked if all of them have at most 4 GiB, else only their sizes.
    :raises ShardError: a shard does not keep to the format or does not fit the others.
    """
    with lock_cache(root):
        make_folders(root)
        for folder in (root, *(root / name for name in FOLDERS)):
            remove_partial(folder)
        written = read_manifest(root) if os.path.lexists(root / NAME) else None
        if written is not None:
            remove_left_behind(root, written)
        settled, index = list_shards(root, written or Manifest())
        writer = CacheWriter(root, settled, index, written)
        if settled != (written or Manifest()):
            writer.save()
        try:
            yield writer
        finally:
            writer.close()


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
