"""Push and pull of a cache, with progress."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from multispace.data.cache.reader import Cache
from multispace.data.remote.local_copy import local_copy
from multispace.data.remote.pull import pull
from multispace.data.remote.push import push
from multispace.data.remote.remote_cache import open_remote
from multispace.data.remote.result import Planned, Transferred
from multispace.data.remote.store import Store
from multispace.data.watch import Watch
from multispace.errors import CacheError
from multispace.pipeline.cache_info import cache_info
from multispace.pipeline.console.progress import watched
from multispace.pipeline.reporting.cache_card import CARD, MARK, MAX_CARD, cache_card


def push_cache(folder: Path, url: str, threads: int) -> Transferred:
    """Send a cache, and a card about it; see :func:`multispace.data.remote.push.push`.

    The card is ``README.md``. A file of that name which is no such card stays.
    """
    with ExitStack() as stack:
        pushed = push(folder, url, threads=threads, watch=watched(stack, "push"))
    store = Store(url)
    if store.size(CARD) is not None and not _is_card(store):
        note = f"{store.where(CARD)} is not a card of `cache push`, and was left as it is"
        return replace(pushed, notes=(note,))
    store.write(CARD, cache_card(cache_info(folder), pushed.digest).encode("utf-8", "replace"))
    return pushed


def _is_card(store: Store) -> bool:
    try:
        return MARK.encode() in store.read(CARD, MAX_CARD)
    except CacheError:  # larger than a card
        return False


def pull_cache(
    url: str, folder: Path, digest: str | None, only: str | None, threads: int
) -> Transferred:
    """Fetch a cache; see :func:`multispace.data.remote.pull.pull`."""
    with ExitStack() as stack:
        watch = watched(stack, "pull")
        return pull(url, folder, digest=digest, only=only, threads=threads, watch=watch)


def local_cache(where: str | Path) -> Path:
    """Return the folder of a cache; a URL is fetched first, and a line says what is missing.

    See :func:`multispace.data.remote.local_copy.local_copy`.
    """
    with _shown_pull() as watch:
        return local_copy(where, watch=watch, announce=_say)


def open_anywhere(where: str | Path) -> Cache:
    """Open a cache at a folder or a URL; of a URL only what is asked for is fetched.

    See :func:`multispace.data.remote.remote_cache.open_remote`.
    """
    return open_remote(where, watching=_shown_pull, announce=_say)


@contextmanager
def _shown_pull() -> Iterator[Watch]:
    with ExitStack() as stack:
        yield watched(stack, "pull")


def _say(planned: Planned) -> None:
    print(planned.render(), file=sys.stderr, flush=True)
