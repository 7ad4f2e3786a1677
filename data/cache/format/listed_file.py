"""A file as the manifest lists it: where it is, how long it is, and its digest.

A listed file is opened relative to the cache folder, one path component after the other, and
no component may be a symbolic link: a cache from elsewhere cannot name files outside itself.
The file is checked and used through one descriptor. Nothing is ever mapped into memory, so that
a file that shrinks later is a short read and not a crash.
"""

import errno
import hashlib
import io
import os
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from multispace.data.files import atomic_write
from multispace.errors import CacheError, DamagedFileError

UNLINK_HINT = "replace it by the file that it points to, for example with `git annex unlock`"

MAX_IN_MEMORY = 4 << 30  # bytes of a vocabulary, a key list, or the captions of a split

_BLOCK = 1 << 20
_SETTLED = 2.0  # seconds: a file changed later than this could change again unseen


@dataclass(frozen=True)
class Entry:
    """A file as the manifest lists it; ``file`` is relative to the cache folder."""

    file: str
    sha256: str
    bytes: int


def describe(root: Path, path: Path) -> Entry:
    """Return the entry of a file that lies under ``root``.

    :raises DamagedFileError: it is not a plain file, or a link leads to it.
    """
    file = path.relative_to(root).as_posix()
    with open_listed(root, file) as held:
        digest = _digest(held)
        return Entry(file, digest, held.tell())


def write_named(root: Path, stem: str, suffix: str, content: bytes) -> Entry:
    """Write a file whose name has the first digits of its digest, unless it is there already.

    :param stem: its path in the cache before ``-XXXXXXXX``
    :param suffix: what follows, with the dot
    """
    sha256 = hashlib.sha256(content).hexdigest()
    entry = Entry(f"{stem}-{sha256[:8]}{suffix}", sha256, len(content))
    try:
        with open_entry(root, entry):
            pass
    except DamagedFileError:
        with atomic_write(root / entry.file) as file:
            file.write(content)
    return entry


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of the bytes of ``path``, read in a stream."""
    with path.open("rb") as file:
        return _digest(file)


def open_listed(root: Path, file: str) -> io.FileIO:
    """Open a file of the cache at ``root`` to read, without following any link below ``root``.

    :raises DamagedFileError: it is not there, is not a plain file, or is reached by a link.
    :raises CacheError: it cannot be opened for another reason.
    """
    path, *folders = root / file, *file.split("/")[:-1]
    close_on_exec = os.O_CLOEXEC | os.O_NOFOLLOW
    place = None
    try:
        place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in folders:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | close_on_exec, dir_fd=place)
            os.close(place)
            place = inner
        # Without O_NONBLOCK a pipe that nobody writes to would never open.
        flags = os.O_RDONLY | os.O_NONBLOCK | close_on_exec
        descriptor = os.open(path.name, flags, dir_fd=place)
    except OSError as error:
        if (link := linked(root, file)) is not None:
            raise DamagedFileError(
                "is a symbolic link; links in a cache are not followed", where=link,
                hint=UNLINK_HINT,
            ) from error  # fmt: skip
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.EISDIR):
            raise _damaged(root, file, "not there as a file") from error
        raise CacheError(
            f"cannot be read ({error.strerror})", where=path, hint="check its permissions"
        ) from error
    finally:
        if place is not None:
            os.close(place)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _damaged(root, file, "not there as a file")
    return open(descriptor, "rb", buffering=0)


def linked(root: Path, file: str) -> Path | None:
    """Return the first component of ``file`` below ``root`` that is a symbolic link, if any."""
    path = root
    for name in file.split("/"):
        path = path / name
        if path.is_symlink():
            return path
    return None


def check_fits_memory(entry: Entry, where: object) -> None:
    """Check that a file that is read whole is not too long, before any of it is read.

    :raises CacheError: it is longer than MAX_IN_MEMORY; names ``where``.
    """
    if entry.bytes > MAX_IN_MEMORY:
        raise CacheError(
            f"{entry.bytes} bytes are listed, at most {MAX_IN_MEMORY} are read", where=where
        )


def check_size(root: Path, entry: Entry) -> None:
    """Check that a listed file is there and has its listed size; its bytes are not read.

    :raises DamagedFileError: it is not.
    """
    with open_listed(root, entry.file) as file:
        _check_size(root, entry, file)


def check_digest(root: Path, entry: Entry) -> None:
    """Check that a listed file is there and has its listed size and digest.

    :raises DamagedFileError: it is not.
    """
    with open_listed(root, entry.file) as file:
        _check_size(root, entry, file)
        _check_digest(root, entry, _digest(file))


@contextmanager
def open_entry(root: Path, entry: Entry) -> Iterator[BinaryIO]:
    """Yield a listed file, checked against its size and digest, at its first byte.

    :raises DamagedFileError: it is missing, a link, or not the bytes that the manifest lists.
    """
    with CheckedFile(root, entry).open() as file:
        yield file


def read_entry(root: Path, entry: Entry) -> bytes:
    """Return the bytes of a listed file; the bytes that are returned are those checked.

    :raises DamagedFileError: it is missing, a link, or not the bytes that the manifest lists.
    :raises CacheError: it is longer than MAX_IN_MEMORY.
    """
    with open_listed(root, entry.file) as file:
        _check_size(root, entry, file)
        check_fits_memory(entry, root / entry.file)
        content = bytearray()
        while len(content) <= entry.bytes and (block := file.read(_BLOCK)):
            content += block
    _check_digest(root, entry, hashlib.sha256(content).hexdigest())
    return bytes(content)


class CheckedFile:
    """A listed file that is read several times, and keeps no descriptor in between.

    The first opening checks its size and digest. A later one checks them again if the file is
    not the very one that was checked: device, inode, size and times of change tell.
    """

    def __init__(self, root: Path, entry: Entry) -> None:
        self.root = root
        self.entry = entry
        self._checked: tuple[int, ...] | None = None

    @property
    def path(self) -> Path:
        """Where the file is; for messages."""
        return self.root / self.entry.file

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Yield the file, open to read, at its first byte.

        :raises DamagedFileError: it is missing, a link, or not the bytes that the manifest lists.
        """
        with open_listed(self.root, self.entry.file) as file:
            state = _state(file)
            if state != self._checked:
                _check_size(self.root, self.entry, file)
                _check_digest(self.root, self.entry, _digest(file))
                file.seek(0)
                settled = time.time() - max(state[-2:]) / 1e9 > _SETTLED
                self._checked = state if settled and _state(file) == state else None
            yield file
            if _state(file)[:4] != state[:4]:  # a hard link made meanwhile changes the last
                raise _damaged(self.root, self.entry.file, "changed while it was read")


def _state(file: BinaryIO) -> tuple[int, ...]:
    held = os.fstat(file.fileno())
    return held.st_dev, held.st_ino, held.st_size, held.st_mtime_ns, held.st_ctime_ns


def _check_size(root: Path, entry: Entry, file: BinaryIO) -> None:
    if (size := os.fstat(file.fileno()).st_size) != entry.bytes:
        raise _damaged(root, entry.file, f"{size} bytes, the manifest says {entry.bytes}")


def _check_digest(root: Path, entry: Entry, digest: str) -> None:
    if digest != entry.sha256:
        what = f"digest {digest[:12]}..., the manifest says {entry.sha256[:12]}..."
        raise _damaged(root, entry.file, what)


def _damaged(root: Path, file: str, what: str) -> DamagedFileError:
    hint = f"run `multispace cache repair {shlex.quote(str(root))}`, or fetch the cache again"
    return DamagedFileError(what, where=root / file, hint=hint)


def _digest(file: io.FileIO | io.BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()
