"""Push and pull of a cache, with progress."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from data import transfer
from data.transfer import Transferred
from pipeline.progress import Progress


def push_cache(folder: Path, url: str, threads: int) -> Transferred:
    """Send a cache; see :func:`data.transfer.push`."""
    with ExitStack() as stack:
        return transfer.push(folder, url, threads=threads, watch=_watch(stack, "push"))


def pull_cache(
    url: str, folder: Path, digest: str | None, only: str | None, threads: int
) -> Transferred:
    """Fetch a cache; see :func:`data.transfer.pull`."""
    with ExitStack() as stack:
        watch = _watch(stack, "pull")
        return transfer.pull(url, folder, digest=digest, only=only, threads=threads, watch=watch)


def local_cache(where: str | Path) -> Path:
    """Return the folder of a cache, which is fetched first if ``where`` is a URL.

    See :func:`data.transfer.local_copy`.
    """
    with ExitStack() as stack:
        return transfer.local_copy(where, watch=_watch(stack, "pull"))


def _watch(stack: ExitStack, title: str) -> Callable[[int], Callable[[int], None]]:
    return lambda total: stack.enter_context(Progress(total, "bytes", title)).advance
