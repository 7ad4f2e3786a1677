"""Sending a cache to a URL."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from multispace.data.cache.format.listed_file import Entry, open_entry
from multispace.data.cache.format.manifest import NAME, Manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.remote.downloads import THREADS, each
from multispace.data.remote.remote_manifest import (
    check_same_fingerprint,
    fetch_manifest,
    first_missing,
)
from multispace.data.remote.result import Transferred
from multispace.data.remote.store import Store
from multispace.data.watch import Watch, counter
from multispace.errors import CacheError

_NAMED = re.compile(r"-[0-9a-f]{8}\.\w+$")  # a file whose name carries its digest


def push(
    folder: Path, url: str, *, threads: int = THREADS, watch: Watch | None = None
) -> Transferred:
    """Send the cache in ``folder`` to ``url``, the manifest last.

    A file that is there with the listed size is not sent again if its name carries its digest.
    Each file is checked before it is sent, and sent through the descriptor that was checked.

    :param threads: files that are sent at a time
    :param watch: called with the bytes to send, before the first file is sent
    :raises CacheError: ``url`` takes no files, or holds another cache or more than this one.
    :raises DamagedFileError: a file of ``folder`` is damaged.
    """
    manifest = read_manifest(folder)
    content = manifest.to_bytes()
    store = Store(url)
    store.check_writable()
    if store.size(NAME) is not None:
        _, replaced = fetch_manifest(store, "delete it there to push the cache again")
        _check_covers(folder, manifest, store, replaced)
    listed = list(manifest.files())

    def is_there(entry: Entry) -> bool:
        return bool(_NAMED.search(entry.file)) and store.size(entry.file) == entry.bytes

    with ThreadPoolExecutor(threads) as pool:
        there = list(pool.map(is_there, listed))
    files = [entry for entry, held in zip(listed, there, strict=True) if not held]
    count = counter(sum(entry.bytes for entry in files), watch)

    def send(entry: Entry) -> None:
        with open_entry(folder, entry) as file:
            store.put(file, entry.file)
        count(entry.bytes)

    each(store, send, files, threads)
    store.write(NAME, content)
    return Transferred(
        url=store.url,
        folder=folder,
        digest=hashlib.sha256(content).hexdigest(),
        sent=tuple(sorted(entry.file for entry in files)),
        bytes=sum(entry.bytes for entry in files),
        present=len(listed) - len(files),
    )


def _check_covers(folder: Path, manifest: Manifest, store: Store, there: Manifest) -> None:
    """Refuse a push after which the store's manifest would no longer list what it lists now.

    :raises CacheError: it would not.
    """
    hint = "pull that first, or push to another URL"
    check_same_fingerprint(folder, manifest, store, there, "push to another URL")
    if there.version > manifest.version:
        raise CacheError(
            f"holds the cache in version {there.version} of the format, {folder} in version "
            f"{manifest.version}",
            where=store.url,
            hint=hint,
        )
    if extra := first_missing(there, manifest):
        raise CacheError(f"holds {extra}, which {folder} does not list", where=store.url, hint=hint)
    if missing := sorted(set(there.captions) - set(manifest.captions)):
        raise CacheError(
            f"holds captions of {missing[0]!r}, {folder} does not", where=store.url, hint=hint
        )
