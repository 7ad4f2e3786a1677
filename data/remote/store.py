"""A store: a folder reached through fsspec, by a path or a URL of any protocol it supports."""

import asyncio
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from multispace.data.files import atomic_write
from multispace.errors import CacheError, brief, without_password

ATTEMPTS = 5
RETRY_SECONDS = 1.0  # the first wait; each next one is twice as long
BLOCK = 1 << 20

MIN_RATE = 1024  # bytes a second, on average since the last check
RATE_SECONDS = 30.0  # between two checks

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
            raise CacheError(
                f"needs {package}", where=self.url, hint=f"`pip install {package}`"
            ) from error
        except ValueError as error:
            raise CacheError(brief(error), where=self.url) from error
        self._fs.invalidate_cache()
        self._base = base.rstrip("/")
        protocol = self._fs.protocol
        self._http = "http" in ((protocol,) if isinstance(protocol, str) else protocol)
        self._local = isinstance(self._fs, LocalFileSystem)

    @property
    def folder(self) -> Path | None:
        """The folder, if the store is in the local filesystem."""
        return Path(self._base) if self._local else None

    def where(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.url}/{name}"

    def stop(self) -> None:
        """Make reads and retries in other threads end at once."""
        self._stopped.set()

    def check_writable(self) -> None:
        """Check that files can be written to this kind of store.

        :raises CacheError: it is an HTTP server.
        """
        if self._http:
            raise CacheError(
                "HTTP is for pulling only", where=self.url, hint="push to a folder, s3:// or gs://"
            )

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None where there is none."""

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

        The latter is what a server without support for ranges makes necessary.

        :raises ConnectionError: the connection ended; it may work again.
        :raises CacheError: the file is not there, or has more than ``limit`` bytes; at most one
            byte beyond the limit is asked for.
        """
        with self._plain_errors(name), self._open(name, limit, start) as (file, at):
            if at != start:
                yield b""
            since, last = time.monotonic(), at
            while block := file.read(min(BLOCK, limit - at + 1)):
                at += len(block)
                if (elapsed := time.monotonic() - since) > RATE_SECONDS:
                    if at - last < MIN_RATE * elapsed:
                        rate = f"{(at - last) / elapsed:.0f} bytes a second"
                        raise ConnectionError(f"{self.where(name)}: sends only {rate}")
                    since, last = time.monotonic(), at
                if at > limit:
                    raise CacheError(f"sends more than {limit} bytes", where=self.where(name))
                yield block
                if self._stopped.is_set():
                    raise ConnectionError(f"{self.where(name)}: stopped")

    def put(self, source: BinaryIO, name: str) -> None:
        """Send an open local file, whatever has its name by now.

        :raises CacheError: it cannot be sent, or has another size there afterwards.
        """

        def send() -> None:
            with self._plain_errors(name):
                source.seek(0)
                if self._local:
                    with atomic_write(Path(self._path(name))) as file:
                        shutil.copyfileobj(source, file, BLOCK)
                else:
                    self._fs.put_file(f"/dev/fd/{source.fileno()}", self._path(name))

        self.insist(send)
        size = os.fstat(source.fileno()).st_size
        if (there := self.size(name)) != size:
            raise CacheError(
                f"{there} bytes arrived of {size}", where=self.where(name), hint="push again"
            )

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
        """Return what ``action`` returns; call it again after a ConnectionError.

        :raises CacheError: it failed ATTEMPTS times.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action()
            except ConnectionError as error:
                if attempt == ATTEMPTS or self._stopped.wait(RETRY_SECONDS * 2 ** (attempt - 1)):
                    raise CacheError(
                        f"{error}; tried {attempt} times",
                        hint="the same command continues from here",
                    ) from error
        raise AssertionError("unreachable")

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    @contextmanager
    def _open(self, name: str, limit: int, start: int) -> Iterator[tuple[Any, int]]:
        """Open a file to read; yield it with its position, ``start`` or 0."""
        path = self._path(name)
        if self._http:
            # As a stream: one request a file, and no more in memory than is asked for.
            import aiohttp

            headers = {"Accept-Encoding": "identity"}
            if start:
                headers["Range"] = f"bytes={start}-"
            timeout = aiohttp.ClientTimeout(total=None, **_TIMEOUT)
            # Any size saves a HEAD request.
            with self._fs.open(path, block_size=0, size=1, headers=headers, timeout=timeout) as f:
                yield f, start if f.r.status == 206 else 0
            return
        if self._local and not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never open
            raise CacheError("not a plain file", where=self.where(name))
        with self._fs.open(path, "rb", block_size=_READ_AHEAD) as file:
            size = getattr(file, "size", None)
            if size is not None and size > limit:
                raise CacheError(f"has {size} bytes, over {limit}", where=self.where(name))
            at = start if file.seekable() else 0
            if at:
                file.seek(at)
            yield file, at

    @contextmanager
    def _plain_errors(self, name: str) -> Iterator[None]:
        """Raise ConnectionError for what may work when tried again, and CacheError for the rest."""
        where = self.where(name)
        try:
            yield
        except FileNotFoundError as error:
            raise CacheError(
                "not found", where=where, hint="check the URL, and that nothing is missing there"
            ) from error
        except NotImplementedError as error:
            raise CacheError("this filesystem cannot do that", where=where) from error
        except ValueError as error:  # the filesystem does not take such a path
            raise CacheError(brief(error), where=where) from error
        except _client_errors() as error:
            reason = brief(error) or type(error).__name__
            answer = getattr(error, "response", None)
            status = getattr(error, "status", None) or getattr(answer, "status_code", None) or 0
            refused = isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
            if self._local or refused or (400 <= status < 500 and status not in (408, 429)):
                raise CacheError(reason, where=where) from error
            raise ConnectionError(f"{where}: {reason}") from error


def _client_errors() -> tuple[type[BaseException], ...]:
    """Return the errors of the loaded clients; not all of them derive from OSError."""
    names = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("gcsfs.retry", "HttpError"),
        ("httpx", "HTTPError"),
        ("httpx2", "HTTPError"),
    )
    loaded = (getattr(sys.modules[m], name) for m, name in names if m in sys.modules)
    return (OSError, asyncio.TimeoutError, *loaded)
