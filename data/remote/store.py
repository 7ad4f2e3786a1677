"""A folder somewhere else, reached through fsspec: a path, or a URL of any protocol it knows."""

import asyncio
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from multispace.data.files import atomic_write
from multispace.errors import CacheError, without_password

ATTEMPTS = 5
RETRY_SECONDS = 1.0  # the first wait; each next one is twice as long
BLOCK = 1 << 20

_READ_AHEAD = 8 << 20  # bytes a request, where the filesystem reads by requests
_TIMEOUT = {"sock_connect": 30, "sock_read": 60}  # seconds
_T = TypeVar("_T")


class Store:
    """The files under one URL. Its methods may be called from several threads.

    :raises CacheError: the protocol is unknown, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = without_password(url).rstrip("/")
        self._stopped = threading.Event()
        try:
            self._fs, base = fsspec.core.url_to_fs(url)
        except ImportError as error:
            package = getattr(error.__cause__, "name", None) or "its package"
            raise CacheError(f"{self.url}: needs {package}; `pip install {package}`") from error
        except ValueError as error:
            raise CacheError(f"{self.url}: {error}") from error
        self._fs.invalidate_cache()
        self._base = base.rstrip("/")
        protocol = self._fs.protocol
        self._http = "http" in ((protocol,) if isinstance(protocol, str) else protocol)
        self._local = isinstance(self._fs, LocalFileSystem)

    @property
    def folder(self) -> Path | None:
        """Where the store is in the local filesystem, if it is there."""
        return Path(self._base) if self._local else None

    def where(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.url}/{name}"

    def stop(self) -> None:
        """Make other threads' reading and retrying end at once."""
        self._stopped.set()

    def check_writable(self) -> None:
        """Refuse where nothing can be written.

        :raises CacheError: the store is an HTTP server.
        """
        if self._http:
            raise CacheError(
                f"{self.url}: HTTP is for pulling only; push to a folder, s3:// or gs://"
            )

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, or None where there is none."""

        def ask() -> int | None:
            with self._plain_errors(name):
                try:
                    return int(self._fs.info(self._path(name))["size"])
                except FileNotFoundError:
                    return None

        return self.insist(ask)

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of a small file.

        :raises CacheError: it is not there, cannot be read, or has more than ``limit`` bytes.
        """
        return self.insist(lambda: b"".join(self.blocks(name, limit)))

    def blocks(self, name: str, limit: int, start: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes from ``start`` on, or an empty block and then all of them.

        The latter is how a server answers that knows no ranges.

        :raises ConnectionError: it broke off in a way that may pass.
        :raises CacheError: it is not there, or more than ``limit`` bytes; not one byte more
            than the first that is too many is asked for.
        """
        with self._plain_errors(name), self._open(name, limit, start) as (file, at):
            if at != start:
                yield b""
            while block := file.read(min(BLOCK, limit - at + 1)):
                at += len(block)
                if at > limit:
                    raise CacheError(f"{self.where(name)}: sends more than {limit} bytes; refused")
                yield block
                if self._stopped.is_set():
                    raise ConnectionError(f"{self.where(name)}: stopped")

    def put(self, source: Path, name: str) -> None:
        """Send a local file.

        :raises CacheError: it cannot be sent, or has another size there afterwards.
        """

        def send() -> None:
            with self._plain_errors(name):
                if self._local:
                    with source.open("rb") as held, atomic_write(Path(self._path(name))) as file:
                        shutil.copyfileobj(held, file, BLOCK)
                else:
                    self._fs.put_file(str(source), self._path(name))

        self.insist(send)
        if (there := self.size(name)) != (here := source.stat().st_size):
            raise CacheError(f"{self.where(name)}: {there} bytes arrived of {here}; push again")

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, replacing what was there."""

        def send() -> None:
            with self._plain_errors(name):
                if self._local:
                    with atomic_write(Path(self._path(name))) as file:
                        file.write(content)
                else:
                    self._fs.pipe_file(self._path(name), content)

        self.insist(send)

    def insist(self, action: Callable[[], _T]) -> _T:
        """Return what ``action`` returns; after a ConnectionError it is called again.

        :raises CacheError: it failed ATTEMPTS times.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action()
            except ConnectionError as error:
                if attempt == ATTEMPTS or self._stopped.wait(RETRY_SECONDS * 2 ** (attempt - 1)):
                    raise CacheError(
                        f"{error}; tried {attempt} times; the same command goes on from here"
                    ) from error
        raise AssertionError("unreachable")

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    @contextmanager
    def _open(self, name: str, limit: int, start: int) -> Iterator[tuple[Any, int]]:
        """Open a file to read; yield it with the place at which it stands, ``start`` or 0."""
        path = self._path(name)
        if self._http:
            # As a stream: one request a file, and never more in memory than is asked for.
            import aiohttp

            headers = {"Accept-Encoding": "identity"}
            if start:
                headers["Range"] = f"bytes={start}-"
            timeout = aiohttp.ClientTimeout(total=None, **_TIMEOUT)
            # A size, whichever, spares a HEAD request.
            with self._fs.open(path, block_size=0, size=1, headers=headers, timeout=timeout) as f:
                yield f, start if f.r.status == 206 else 0
            return
        with self._fs.open(path, "rb", block_size=_READ_AHEAD) as file:
            size = getattr(file, "size", None)
            if size is not None and size > limit:
                raise CacheError(f"{self.where(name)}: has {size} bytes, over {limit}; refused")
            at = start if file.seekable() else 0
            if at:
                file.seek(at)
            yield file, at

    @contextmanager
    def _plain_errors(self, name: str) -> Iterator[None]:
        """Tell what may pass (ConnectionError) from what will not (CacheError)."""
        where = self.where(name)
        try:
            yield
        except FileNotFoundError as error:
            hint = "is the URL right, and all of the cache there?"
            raise CacheError(f"{where}: not found; {hint}") from error
        except NotImplementedError as error:
            raise CacheError(f"{where}: this filesystem cannot do that") from error
        except _client_errors() as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            status = getattr(error, "status", None) or 0
            refused = isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
            if self._local or refused or (400 <= status < 500 and status not in (408, 429)):
                raise CacheError(f"{where}: {reason}") from error
            raise ConnectionError(f"{where}: {reason}") from error


def _client_errors() -> tuple[type[BaseException], ...]:
    """Return what the loaded clients raise; not all of it derives from OSError."""
    names = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("gcsfs.retry", "HttpError"),
    )
    loaded = (getattr(sys.modules[m], name) for m, name in names if m in sys.modules)
    return (OSError, asyncio.TimeoutError, *loaded)
