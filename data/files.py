"""Files that appear under their final name only when whole."""

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from multispace.errors import DataError
from multispace.exhaustion import is_out_of_space

TEMPORARY_PREFIX = ".partial-"

_UMASK = os.umask(0)
os.umask(_UMASK)  # the only way to read it is to set it


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes ``path`` when the block ends without an error.

    The bytes are flushed and synced before the rename and the folder is synced after it, so
    that a crash or a power cut leaves either the old file or the new one. On an error the
    temporary file is removed and ``path`` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    temporary = Path(name)
    try:
        with names_full_disk(path), os.fdopen(descriptor, "w+b") as file:
            os.fchmod(file.fileno(), 0o666 & ~_UMASK)  # mkstemp's 0600 would hide shared files
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``folder`` when the block ends without an error.

    Write its files with :func:`write_synced`. On an error nothing is left.

    :raises FileExistsError: ``folder`` exists, also if it is empty or a broken link.
    """
    if os.path.lexists(folder):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder.parent))
    try:
        partial.chmod(0o777 & ~_UMASK)  # mkdtemp's 0700 would hide shared files
        yield partial
        sync_folder(partial)
        os.rename(partial, folder)  # fails if a folder with files has appeared meanwhile
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(folder.parent)


@contextmanager
def names_full_disk(path: Path) -> Iterator[None]:
    """Let an error about lack of disk space name ``path``; one of a write names no file."""
    try:
        yield
    except OSError as error:
        if is_out_of_space(error):
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that renames in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial(folder: Path) -> None:
    """Remove the partial files of a killed writer; call it only under the writer's lock."""
    for partial in folder.glob(TEMPORARY_PREFIX + "*"):
        if not partial.is_dir():
            partial.unlink(missing_ok=True)


def write_synced(path: Path, content: bytes) -> None:
    """Write and sync a file of a folder that is renamed to its place afterwards.

    :raises OSError: it cannot be written; names the file where the disk is full.
    """
    with names_full_disk(path), path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write(json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Return the bytes of a JSON file, as this project spells JSON."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a plain file. A pipe or a device is refused and never waited for.

    :raises DataError: it is not a plain file, or has more than ``max_bytes`` bytes.
    :raises OSError: it cannot be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DataError("not a plain file", where=path)
        content = bytearray()
        while block := os.read(descriptor, 1 << 20):
            content += block
            if len(content) > max_bytes:
                raise DataError(f"larger than {max_bytes} bytes", where=path)
        return bytes(content)
    finally:
        os.close(descriptor)
