"""Downloads of listed files, many at a time; each is checked before it gets its name."""

import os
import shutil
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from multispace.data.cache.format.listed_file import Entry, file_sha256, open_entry
from multispace.data.files import TEMPORARY_PREFIX, sync_folder
from multispace.data.remote.store import Store
from multispace.data.watch import Watch, counter
from multispace.errors import CacheError, DamagedFileError

THREADS = 8


def fetch_all(
    store: Store, folder: Path, entries: Iterable[Entry], threads: int, watch: Watch | None
) -> list[Entry]:
    """Fetch the files that are not whole in ``folder``, and return their entries.

    :param threads: files that are fetched at a time
    :param watch: called with the bytes of all files, before the first is looked at
    :raises CacheError: a file is missing or too long there, or the disk here has no room.
    :raises DamagedFileError: a file is not the bytes that its entry lists.
    """
    entries = list(entries)
    count = counter(sum(entry.bytes for entry in entries), watch)

    def is_here(entry: Entry) -> bool:
        if here := is_whole(folder, entry):
            count(entry.bytes)
        return here

    with ThreadPoolExecutor(threads) as pool:
        whole = pool.map(is_here, entries)
        missing = [entry for entry, here in zip(entries, whole, strict=True) if not here]
    needed = sum(entry.bytes for entry in missing)
    if needed > (free := shutil.disk_usage(folder).free):
        raise CacheError(
            f"{free} bytes are free, {store.url} needs {needed}", where=folder, hint="free some"
        )
    each(store, lambda entry: _fetch(store, folder, entry, count), missing, threads)
    return missing


def remaining_bytes(folder: Path, entry: Entry) -> int:
    """Return how many bytes of a file are still to be fetched, by the sizes of what is there.

    It is a forecast: digests are checked when the file is fetched.
    """
    if is_listed_size(folder, entry):
        return 0
    part = _size(_partial(folder, entry)) or 0
    return entry.bytes - part if part < entry.bytes else entry.bytes


def is_listed_size(folder: Path, entry: Entry) -> bool:
    """Whether a file is there with its listed size; its bytes are not read."""
    return _size(folder / entry.file) == entry.bytes


def _size(path: Path) -> int | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _partial(folder: Path, entry: Entry) -> Path:
    return (folder / entry.file).with_name(TEMPORARY_PREFIX + entry.sha256)


def is_whole(folder: Path, entry: Entry) -> bool:
    """Whether a file is there with the listed bytes."""
    try:
        with open_entry(folder, entry):
            return True
    except DamagedFileError:
        return False


def _fetch(store: Store, folder: Path, entry: Entry, progress: Callable[[int], None]) -> None:
    """Fetch one file into a partial one, which a later run can continue, and name it when whole."""
    path = folder / entry.file
    path.parent.mkdir(exist_ok=True)
    partial = _partial(folder, entry)
    if partial.is_symlink():  # what is written to must be ours
        partial.unlink()
    resumed = partial.exists()
    if resumed and partial.stat().st_size > entry.bytes:
        partial.unlink()
    progress(partial.stat().st_size if partial.exists() else 0)
    store.insist(lambda: _append(store, entry, partial, progress))
    if resumed and file_sha256(partial) != entry.sha256:  # the part that was there was damaged
        progress(-entry.bytes)
        partial.unlink()
        store.insist(lambda: _append(store, entry, partial, progress))
    if (digest := file_sha256(partial)) != entry.sha256:
        partial.unlink()
        raise DamagedFileError(
            f"digest {digest[:12]}..., the manifest says {entry.sha256[:12]}...",
            where=store.where(entry.file),
            hint="pull again, or ask its owner to push it again",
        )
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def _append(store: Store, entry: Entry, partial: Path, progress: Callable[[int], None]) -> None:
    """Fetch what is missing at the end of ``partial``.

    :raises ConnectionError: the connection ended early.
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


def each(
    store: Store, work: Callable[[Entry], None], entries: Iterable[Entry], threads: int
) -> None:
    """Call ``work`` on all entries in threads; the first failure stops the others."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, entry) for entry in entries]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            store.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
