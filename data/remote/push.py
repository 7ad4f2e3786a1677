"""Send a cache to a store."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from multispace.data.cache.listed_file import Entry, check_entry
from multispace.data.cache.manifest import (
    NAME,
    Manifest,
    parse_manifest,
    read_manifest,
)
from multispace.data.remote.downloads import Watch, begin, each
from multispace.data.remote.pull import MAX_MANIFEST, THREADS, Transferred, _check_same_meaning
from multispace.data.remote.store import Store
from multispace.errors import CacheError


def push(
    folder: Path, url: str, *, threads: int = THREADS, watch: Watch | None = None
) -> Transferred:
    """Send the cache in ``folder`` to ``url``, the manifest last.

    A shard that is there with the listed size is not sent again, for its name carries its
    digest; all else is small and always sent. Each file is checked before it is sent.

    :raises CacheError: ``url`` takes no files, holds another cache or more than this one, or a
        file of ``folder`` is damaged.
    """
    manifest = read_manifest(folder)
    content = manifest.to_bytes()
    store = Store(url)
    store.check_writable()
    if store.size(NAME) is not None:
        hint = "delete it there to push anew"
        there = parse_manifest(store.read(NAME, MAX_MANIFEST), store.where(NAME), hint)
        _check_covers(folder, manifest, store, there)
    optional = (manifest.keys, manifest.vocabulary)
    small = [*manifest.captions.values(), *(entry for entry in optional if entry)]
    with ThreadPoolExecutor(threads) as pool:
        sizes = list(pool.map(lambda shard: store.size(shard.file), manifest.shards))
    pairs = zip(manifest.shards, sizes, strict=True)
    files = [*(shard for shard, size in pairs if size != shard.bytes), *small]
    progress = begin(files, watch)

    def send(entry: Entry) -> None:
        store.put(check_entry(folder, entry), entry.file)
        progress(entry.bytes)

    each(store, send, files, threads)
    store.write(NAME, content)
    return Transferred(
        url=store.url,
        folder=folder,
        digest=hashlib.sha256(content).hexdigest(),
        sent=tuple(sorted(entry.file for entry in files)),
        bytes=sum(entry.bytes for entry in files),
        present=len(manifest.shards) + len(small) - len(files),
    )


def _check_covers(folder: Path, manifest: Manifest, store: Store, there: Manifest) -> None:
    """Refuse to push over what the pushed manifest would no longer list."""
    hint = "pull that first, or push to another URL"
    _check_same_meaning(folder, manifest, store, there, "push to another URL")
    if extra := [shard.file for shard in there.shards if shard not in manifest.shards]:
        raise CacheError(f"{store.url}: holds {extra[0]}, which {folder} does not list; {hint}")
    if extra := sorted(set(there.captions) - set(manifest.captions)):
        raise CacheError(f"{store.url}: holds captions of {extra[0]!r}, {folder} does not; {hint}")
