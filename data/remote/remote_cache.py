"""A cache at a URL of which only the files that are asked for are fetched."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from multispace.data.cache.format.listed_file import Entry, check_fits_memory
from multispace.data.cache.key_index import KeyIndex
from multispace.data.cache.lock import lock_cache
from multispace.data.cache.reader import Cache
from multispace.data.captions.encoded_captions import Captions
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.remote.downloads import THREADS, fetch_all, is_listed_size, is_whole
from multispace.data.remote.eviction import make_room, mark, note_use, size_limit
from multispace.data.remote.local_copy import copy_folder, local_copy
from multispace.data.remote.pull import Announce
from multispace.data.remote.remote_manifest import fetch_manifest
from multispace.data.remote.store import Store
from multispace.data.watch import Watch
from multispace.errors import DamagedFileError

Watching = Callable[[], AbstractContextManager[Watch | None]]
"""Makes what shows the progress of one fetch of shards."""


@dataclass(frozen=True)
class RemoteCache(Cache):
    """A cache whose ``root`` is a local copy with a part of its files.

    ``manifest`` is that of the URL. What is read is fetched first, unless it is there, and checked
    against the manifest. Fetched files stay in the local copy, where a whole pull finds them.

    :param url: may contain a password
    """

    url: str = field(repr=False)
    watching: Watching = field(repr=False)

    @cached_property
    def rows(self) -> KeyIndex:
        """Map each key to its shard number and row number; fetches the key lists."""
        self._need(*(shard.keys for shard in self.manifest.shards))
        return super().rows

    @cached_property
    def failures(self) -> dict[str, str]:
        """Map the key of each image that has no vector to the reason."""
        self._need(self.manifest.failures)
        return super().failures

    def vocabulary(self) -> Vocabulary:
        """Return the cache's vocabulary."""
        self._need(self.manifest.vocabulary)
        return super().vocabulary()

    def captions(self, split: str) -> Captions:
        """Return the encoded captions of ``split``."""
        self._need(self.manifest.captions.get(split))
        return super().captions(split)

    def read(self, keys: Sequence[str], places: np.ndarray) -> np.ndarray:
        """Return the vectors of ``keys``, whose places are known; fetches only their shards.

        :raises CacheError: the shards take more space than is allowed, or the cache holds
            captions only.
        :raises DamagedFileError: a shard at the URL is not the bytes that the manifest lists.
        """
        needed = [self.manifest.shards[number] for number in np.unique(places[:, 0]).tolist()]
        note_use(self.root, needed)  # before they are read: shards in use are not removed
        if all(is_listed_size(self.root, shard) for shard in needed):
            with suppress(DamagedFileError):  # removed by another process since, or damaged
                return super().read(keys, places)
        with lock_cache(self.root, wait=True):  # until it is read, nobody removes a shard
            make_room(self.root, needed, size_limit())
            mark(self.root, needed)
            with self.watching() as watch:
                fetch_all(Store(self.url), self.root, needed, THREADS, watch)
            return super().read(keys, places)

    def _need(self, *entries: Entry | None) -> None:
        """Fetch the small files that are not whole here."""
        listed = [entry for entry in entries if entry is not None]
        if missing := [entry for entry in listed if not is_whole(self.root, entry)]:
            with lock_cache(self.root, wait=True):
                fetch_all(Store(self.url), self.root, missing, THREADS, None)


def open_remote(
    where: str | os.PathLike[str],
    cache_root: Path | None = None,
    *,
    watching: Watching = nullcontext,
    announce: Announce | None = None,
) -> Cache:
    """Open a cache at a folder or a URL. Of a URL only manifest and key lists are fetched.

    Caches of version 1, which need not list keys, are fetched whole.

    :param cache_root: see :func:`multispace.data.remote.local_copy.local_copy`
    :param announce: called before a cache of version 1 is fetched
    :raises CacheError: there is no cache, or its manifest is damaged.
    """
    if not isinstance(where, str) or "://" not in where:
        return Cache.open(Path(where))
    store = Store(where)
    if store.folder is not None:
        return Cache.open(store.folder)
    _, manifest = fetch_manifest(store, "ask its owner to push it again")
    if manifest.version == 1:
        with watching() as watch:
            return Cache.open(local_copy(where, cache_root, watch, announce))
    for entry in manifest.small_files():
        check_fits_memory(entry, store.where(entry.file))
    cache = RemoteCache(copy_folder(store, cache_root), manifest, where, watching)
    _ = cache.rows  # fetches the key lists
    return cache
