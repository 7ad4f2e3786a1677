"""Local copies of caches and models that are named by a URL."""

import hashlib
import os
import re
from pathlib import Path

from multispace.data.remote.pull import Announce, pull
from multispace.data.remote.store import Store
from multispace.data.watch import Watch
from multispace.errors import CacheError


def local_copy(
    where: str | Path,
    cache_root: Path | None = None,
    watch: Watch | None = None,
    announce: Announce | None = None,
) -> Path:
    """Return a local folder with the cache at ``where``: a URL is pulled first.

    :param cache_root: where pulled caches are kept: by default ``$MULTISPACE_CACHE``, else
        ``multispace`` in ``$XDG_CACHE_HOME`` or ``~/.cache``
    :param announce: see :func:`multispace.data.remote.pull.pull`
    :raises CacheError: see :func:`multispace.data.remote.pull.pull`.
    """
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    store = Store(where)
    if store.folder is not None:
        return store.folder
    folder = copy_folder(store, cache_root)
    pull(where, folder, watch=watch, announce=announce)
    return folder


def copy_folder(store: Store, cache_root: Path | None = None) -> Path:
    """Return the folder of the local copy of a cache, which need not exist.

    :param cache_root: see :func:`local_copy`
    """
    name = copy_name(store, hashlib.sha256(store.url.encode()).hexdigest())
    return (cache_root or copies_root()) / name


def copy_name(store: Store, digest: str) -> str:
    """Return the name of the folder of a local copy.

    :param digest: SHA-256 (hexadecimal) of what sets copies apart
    """
    name = re.sub(r"[^A-Za-z0-9.]+", "-", store.url.split("://", 1)[1]).strip("-.")[-80:]
    return f"{name}-{digest[:8]}"


def copies_root() -> Path:
    """Return the folder of all local copies.

    :raises CacheError: there is none, because the user has no home directory.
    """
    if named := os.environ.get("MULTISPACE_CACHE"):
        return Path(named)
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "multispace"
    try:
        return Path.home() / ".cache" / "multispace"
    except RuntimeError as error:  # no HOME, and no entry for the user
        raise CacheError(
            "no home directory to keep pulled caches in", hint="set MULTISPACE_CACHE to a folder"
        ) from error
