"""Push and pull of a cache, with progress."""

from contextlib import ExitStack
from pathlib import Path

from multispace.data.remote.local_copy import local_copy
from multispace.data.remote.pull import pull
from multispace.data.remote.push import push
from multispace.data.remote.result import Transferred
from multispace.pipeline.console.progress import watched


def push_cache(folder: Path, url: str, threads: int) -> Transferred:
    """Send a cache; see :func:`multispace.data.remote.push.push`."""
    with ExitStack() as stack:
        return push(folder, url, threads=threads, watch=watched(stack, "push"))


def pull_cache(
    url: str, folder: Path, digest: str | None, only: str | None, threads: int
) -> Transferred:
    """Fetch a cache; see :func:`multispace.data.remote.pull.pull`."""
    with ExitStack() as stack:
        watch = watched(stack, "pull")
        return pull(url, folder, digest=digest, only=only, threads=threads, watch=watch)


def local_cache(where: str | Path) -> Path:
    """Return the folder of a cache; a URL is fetched first.

    See :func:`multispace.data.remote.local_copy.local_copy`.
    """
    with ExitStack() as stack:
        return local_copy(where, watch=watched(stack, "pull"))
