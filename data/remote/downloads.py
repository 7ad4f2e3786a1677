"""Listed files from a store to a folder, many at a time, each checked before it gets its name."""

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock

from multispace.data.cache.listed_file import Entry, check_entry, file_sha256
from multispace.data.files import TEMPORARY_PREFIX, sync_folder
from multispace.data.remote.store import Store
from multispace.errors import CacheError, DamagedFileError

Watch = Callable[[int], Callable[[int], None]]
"""Called with the bytes to come; what it returns is called with bytes that came."""


def fetch_all(
    store: Store, folder: Path, entries: Iterable[Entry], threads: int, watch: Watch | None
) -> list[Entry]:
    """Fetch what is not whole in ``folder`` and return it.

    :param watch: called before the first file is fetched.
    :raises CacheError: a file is missing or too long there, or the disk here has no room.
    :raises DamagedFileError: a file is not the bytes that its entry lists.
    """
    with ThreadPoolExecutor(threads) as pool:
        entries = list(entries)
        whole = pool.map(lambda entry: _is_whole(folder, entry), entries)
        missing = [entry for entry, there in zip(entries, whole, strict=True) if not there]
    needed = sum(entry.bytes for entry in missing)
    if needed > (free := shutil.disk_usage(folder).free):
        raise CacheError(f"{folder}: {free} bytes are free, {store.url} needs {needed}; make room")
    progress = begin(missing, watch)
    each(store, lambda entry: _fetch(store, folder, entry, progress), missing, threads)
    return missing


def _is_whole(folder: Path, entry: Entry) -> bool:
    try:
        check_entry(folder, entry)
    except DamagedFileError:
        return False
    return True


def _fetch(store: Store, folder: Path, entry: Entry, progress: Callable[[int], None]) -> None:
    """Fetch one file to its final name, by way of a partial one that a later run goes on with."""
    path = folder / entry.file
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(TEMPORARY_PREFIX + entry.sha256)
    resumed = partial.exists()
    if resumed and partial.stat().st_size > entry.bytes:
        partial.unlink()
    progress(partial.stat().st_size if partial.exists() else 0)
    store.insist(lambda: _append(store, entry, partial, progress))
    if resumed and file_sha256(partial) != entry.sha256:  # what it went on from was no good
        progress(-entry.bytes)
        partial.unlink()
        store.insist(lambda: _append(store, entry, partial, progress))
    if (digest := file_sha256(partial)) != entry.sha256:
        partial.unlink()
        raise DamagedFileError(
            f"{store.where(entry.file)}: digest {digest[:12]}..., the manifest says "
            f"{entry.sha256[:12]}...; pull again, or ask its owner to push it anew"
        )
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def _append(store: Store, entry: Entry, partial: Path, progress: Callable[[int], None]) -> None:
    """Bring ``partial`` to its full length, from where it is.

    :raises ConnectionError: the connection ended before.
    """
    with partial.open("ab") as file:
        if file.tell() == entry.bytes:
            return
        for block in store.blocks(entry.file, entry.bytes, start=file.tell()):
            if not block:
                progress(-file.tell())
                file.seek(0)
                file.truncate()
            file.write(block)
            progress(len(block))
        if file.tell() < entry.bytes:
            where = store.where(entry.file)
            raise ConnectionError(f"{where}: ended after {file.tell()} of {entry.bytes} bytes")


def begin(files: Iterable[Entry], watch: Watch | None) -> Callable[[int], None]:
    """Return what counts the bytes of ``files``, to be called from many threads."""
    if watch is None:
        return lambda _count: None
    count, lock = watch(sum(entry.bytes for entry in files)), Lock()

    def progress(more: int) -> None:
        with lock:
            count(more)

    return progress


def each(
    store: Store, work: Callable[[Entry], None], entries: Iterable[Entry], threads: int
) -> None:
    """Do ``work`` on all entries in threads; the first failure ends the rest."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, entry) for entry in entries]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            store.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
