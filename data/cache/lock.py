"""The lock that a process holds while it writes to a cache folder."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from multispace.data.cache.format.listed_file import UNLINK_HINT
from multispace.errors import CacheError

FOLDERS = ("features", "captions")


@contextmanager
def lock_cache(root: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the writer's lock of the folder ``root``, which is created if necessary.

    :param wait: wait until another process frees the lock; otherwise that is an error
    :raises CacheError: another process holds it, or the lock or a folder of the cache is a
        symbolic link, through which other people's files would be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in (".lock", *FOLDERS):
        if (path := root / name).is_symlink():
            raise CacheError(
                "is a symbolic link; nothing is written through links",
                where=path,
                hint=UNLINK_HINT if path.is_file() else "replace it by a folder of its own",
            )
    # Held by the kernel for the process: a dead one frees it. Everyone who may write to the folder
    # may lock it, whoever made the file.
    lock = FileLock(root / ".lock", mode=0o666)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise CacheError(
            "another process is writing to this cache", where=root, hint="wait until it ends"
        ) from None
    try:
        yield
    finally:
        lock.release()


def make_folders(root: Path) -> None:
    """Create the folders of a cache, writable for everyone who may write to the cache folder."""
    for name in FOLDERS:
        if not (folder := root / name).exists():
            folder.mkdir()
            folder.chmod(stat.S_IMODE(root.stat().st_mode))
