"""Structure checks of HDF5 files that come from elsewhere.

A file is read only where it is plain: hard links, datasets that lie inside the file, and scalar
attributes of fixed size. Nothing in it can then point outside it, or make the HDF5 library
allocate or read more than the file holds.
"""

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from multispace.errors import DataError, brief

MAX_CHUNK_BYTES = 1 << 26

# h5py reports a broken structure as any of these, depending on where it breaks.
FAULTS = (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError)


class _WholeReads(io.RawIOBase):
    """A file whose reads fail where it ends early; h5py would take what is missing for read."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._size = os.fstat(self._descriptor).st_size
        self._place = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        read_whole(self._descriptor, buffer, self._place)
        self._place += len(buffer)
        return len(buffer)


def read_whole(descriptor: int, buffer: Any, offset: int) -> None:
    """Fill a writable buffer from a place in a file.

    :raises EOFError: the file ends before the buffer is full.
    """
    view, done = memoryview(buffer).cast("B"), 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if not count:
            raise EOFError(f"ends before byte {offset + len(view)}")
        done += count


@contextmanager
def open_hdf5(source: BinaryIO) -> Iterator[h5py.File]:
    """Open an HDF5 file to read, from memory or through the descriptor of an open file.

    :raises DataError: it is not a readable HDF5 file, also where that shows inside the block.
    """
    try:
        plain = source if isinstance(source, io.BytesIO) else _WholeReads(source)
        with h5py.File(plain, "r") as file:
            yield file
    except (*FAULTS, EOFError) as error:
        raise DataError(f"not a readable HDF5 file ({brief(error)})") from error


def check_link(group: h5py.Group, name: bytes) -> None:
    """Check that a name in a group is a hard link.

    :raises DataError: it is a soft or external link.
    """
    if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise DataError(f"{name.decode(errors='replace')} is a soft or external link")


def plain_dataset(file: h5py.File, name: str, file_size: int) -> h5py.Dataset:
    """Return a dataset that is stored contiguously, whole, and inside the file.

    :raises DataError: there is none of that name, or it is stored otherwise.
    """
    if name.encode() not in file.id:
        raise DataError(f"no dataset {name!r}")
    check_link(file, name.encode())
    held = h5py.h5o.open(file.id, name.encode())
    if not isinstance(held, h5py.h5d.DatasetID):
        raise DataError(f"{name} is not a dataset")
    dataset = h5py.Dataset(held)
    check_storage(dataset, name, file_size)
    return dataset


def check_storage(
    dataset: h5py.Dataset, name: str, file_size: int, *, chunked: bool = False
) -> None:
    """Check that a dataset lies whole inside the file, before any of it is read.

    :param chunked: also allow chunks, of at most MAX_CHUNK_BYTES each.
    :raises DataError: it does not.
    """
    plan, itemsize = dataset.id.get_create_plist(), dataset.dtype.itemsize
    layout, stored = plan.get_layout(), dataset.id.get_storage_size()
    if plan.get_external_count() or layout not in (
        h5py.h5d.CONTIGUOUS,
        *([h5py.h5d.CHUNKED] if chunked else []),
    ):
        how = "contiguously or in chunks" if chunked else "contiguously"
        raise DataError(f"{name} is not stored {how} inside the file")
    if dataset.shape is None:
        raise DataError(f"{name} has no shape")
    if dataset.dtype.hasobject:
        raise DataError(f"{name} holds references to other places of the file")
    if layout == h5py.h5d.CHUNKED:
        if (chunk := math.prod(dataset.chunks) * itemsize) > MAX_CHUNK_BYTES:
            raise DataError(f"{name} has chunks of {chunk} bytes, at most {MAX_CHUNK_BYTES}")
        # A chunk that was never written would read as zeros.
        pairs = zip(dataset.shape, dataset.chunks, strict=True)
        if dataset.id.get_num_chunks() != math.prod(-(-n // c) for n, c in pairs):
            raise DataError(f"{name} is not all there")
        offset = 0
    else:
        needed = math.prod(dataset.shape) * itemsize
        if not needed and not stored:
            return
        offset = dataset.id.get_offset()
        if offset is not None and stored != needed:
            raise DataError(f"{name} holds {stored} bytes, its shape and type need {needed}")
    if offset is None or offset + stored > file_size:
        raise DataError(f"{name} declares more than the file holds")


def attribute(owner: h5py.HLObject, name: str, kinds: str) -> Any:
    """Return a scalar attribute.

    Text is of fixed length: HDF5 may hang on the damaged heap that holds other text.

    :param kinds: the allowed numpy kinds, for example "iu".
    :raises DataError: it is missing or of another type.
    """
    if not h5py.h5a.exists(owner.id, name.encode()):
        raise DataError(f"attribute {name} is missing")
    held = h5py.h5a.open(owner.id, name.encode())
    if held.dtype.kind not in kinds or held.shape != ():
        raise DataError(f"attribute {name} is {held.dtype} {held.shape}, of another type")
    value = np.empty((), held.dtype)
    held.read(value)
    return value[()]


def text_attribute(owner: h5py.HLObject, name: str) -> str:
    """Return a text attribute of fixed length.

    :raises DataError: it is missing, of another type, or not UTF-8.
    """
    return decode(f"attribute {name}", bytes(attribute(owner, name, "S")))


def set_text_attribute(owner: h5py.HLObject, name: str, text: str) -> None:
    """Write a text attribute of fixed length, UTF-8."""
    data = text.encode("utf-8")
    owner.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", max(1, len(data))))


def fixed_text(strings: Sequence[str]) -> npt.NDArray[Any]:
    """Return strings as an array of fixed-length UTF-8, as they are stored."""
    data = [string.encode("utf-8") for string in strings]
    return np.array(data, h5py.string_dtype("utf-8", max(1, *map(len, data))))


def read_text(dataset: h5py.Dataset, name: str) -> tuple[str, ...]:
    """Return the strings of a dataset of fixed-length text.

    :raises DataError: it has another type, or bytes that are not UTF-8.
    """
    if dataset.dtype.kind != "S":
        raise DataError(f"{name} is {dataset.dtype}, expected fixed-length UTF-8")
    values: list[bytes] = dataset[()].tolist()
    together = b"\n".join(values)
    if together.isascii() and together.count(b"\n") == len(values) - 1:
        return tuple(together.decode("ascii").split("\n"))
    return tuple(decode(name, value) for value in values)


def joined_lines(strings: np.ndarray, name: str) -> bytes:
    """Return strings of fixed length, each ended by a newline.

    Whether they are UTF-8 is not checked.

    :param strings: their bytes, padded with NUL, uint8 (N, W)
    :param name: names them in the error
    :raises DataError: a NUL or a newline is inside a string.
    """
    ended = strings == 0
    if (ended[:, :-1] & ~ended[:, 1:]).any() or (strings == ord("\n")).any():
        raise DataError(f"{name} holds a control character")
    lines = np.pad(strings, ((0, 0), (0, 1)), constant_values=ord("\n"))
    return lines.tobytes().translate(None, delete=b"\0")


def decode(name: str, data: bytes) -> str:
    """Return the text of UTF-8 bytes.

    :raises DataError: they are not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} holds bytes that are not UTF-8 ({data[:20]!r})") from error
