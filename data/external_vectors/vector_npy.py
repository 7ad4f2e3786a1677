"""Arrays in .npy and .npz files, read in bounded parts from an open file.

Nothing is unpickled or mapped into memory, and the size that a header declares is compared with
that of the file before anything is read.
"""

import math
import os
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from multispace.data.cache.format.hdf5 import read_whole
from multispace.data.external_vectors.array_choice import (
    Described,
    choose_features,
    choose_names,
    names_of,
)
from multispace.data.external_vectors.vector_shapes import Pooling, Rows, check_type
from multispace.errors import CacheError, brief

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_PART = 1 << 20


@dataclass(frozen=True)
class _Header:
    """The header of an array, and the place of its first value."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def end(self) -> int:
        """The place behind the last value."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def array(self, content: Any) -> np.ndarray:
        """Return the array of the bytes of all values."""
        values = np.frombuffer(content, self.dtype)
        return values.reshape(self.shape, order="F" if self.fortran else "C")


def read_npy(file: BinaryIO, pooling: Pooling) -> np.ndarray:
    """Return the array of one image.

    :raises CacheError: it is of another type or shape, or not whole.
    """
    header = _header(file)
    check_type(header.dtype)
    pooling.check(header.shape)
    content = bytearray(header.end - header.offset)
    _check_size(file, header)
    read_whole(file.fileno(), content, header.offset)
    return header.array(content)


def npy_rows(file: BinaryIO) -> Rows:
    """Return the rows of the array in a .npy file, which must stay open.

    :raises CacheError: it is not whole.
    """
    header = _header(file)
    _check_size(file, header)
    descriptor, dtype, (count, *rest) = file.fileno(), header.dtype, header.shape or (0,)
    width = math.prod(rest)

    def load(start: int, stop: int) -> np.ndarray:
        if not header.fortran:
            rows = np.empty((stop - start, *rest), dtype)
            place = header.offset + start * width * dtype.itemsize
            read_whole(descriptor, rows.reshape(-1).view(np.uint8), place)
            return rows
        columns = np.empty((width, stop - start), dtype)  # each lies in one piece
        for number, column in enumerate(columns):
            place = header.offset + (number * count + start) * dtype.itemsize
            read_whole(descriptor, column.view(np.uint8), place)
        return columns.reshape(*reversed(rest), stop - start).T

    return Rows(header.shape, dtype, load)


def read_npz(file: BinaryIO, pooling: Pooling) -> np.ndarray:
    """Return the array of one image in a .npz file, which may hold others beside it.

    :raises CacheError: there is none of the right type and shape, or several.
    """
    with zipfile.ZipFile(file) as archive:
        headers = _members(archive)
        name = choose_features(_described(headers), axes=1)
        check_type(headers[name].dtype)
        pooling.check(headers[name].shape)
        return _whole(archive, name, headers[name])


def npz_rows(archive: zipfile.ZipFile, *, named: bool) -> tuple[Rows, list[str]]:
    """Return the rows of the features in a .npz file, and the names that it holds.

    :param archive: must stay open
    :param named: whether the names are known; then none are read
    :raises CacheError: there are no features or names, or several.
    """
    headers = _members(archive)
    described = _described(headers)
    features = choose_features(described, axes=2)
    header = headers[features]
    names: list[str] = []
    if not named:
        chosen = choose_names(described, features)
        if chosen is None:
            raise CacheError("holds no names", hint="give --names FILE, one name per line")
        names = names_of(_whole(archive, chosen, headers[chosen]))
    check_type(header.dtype)
    if header.fortran:  # a row of it is spread over the whole member
        whole = _whole(archive, features, header)
        return Rows(header.shape, header.dtype, lambda start, stop: whole[start:stop]), names
    _check_member(archive, features)
    member = archive.open(f"{features}.npy")
    rest = header.shape[1:]
    row = math.prod(rest) * header.dtype.itemsize

    def load(start: int, stop: int) -> np.ndarray:
        member.seek(header.offset + start * row)
        content = member.read((stop - start) * row)
        return np.frombuffer(content, header.dtype).reshape(stop - start, *rest)

    return Rows(header.shape, header.dtype, load), names


def _header(file: Any) -> _Header:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise CacheError(f"is of .npy version {version}, expected 1.0 or 2.0")
    shape, fortran, dtype = _HEADERS[version](file)
    return _Header(shape, fortran, dtype, file.tell())


def _check_size(file: BinaryIO, header: _Header) -> None:
    size = os.fstat(file.fileno()).st_size
    if size < header.end:
        raise CacheError(
            f"holds {size} bytes, its shape {header.shape} needs {header.end}",
            hint="write the file again",
        )


def _members(archive: zipfile.ZipFile) -> dict[str, _Header]:
    """Return the header of each array of an archive, after a check of its size."""
    headers = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            continue
        with archive.open(info) as member:
            header = _header(member)
        if not header.dtype.hasobject and header.end != info.file_size:
            raise CacheError(
                f"{brief(name, 60)} holds {info.file_size} bytes, its shape needs {header.end}"
            )
        headers[name] = header
    return headers


def _described(headers: dict[str, _Header]) -> dict[str, Described]:
    return {
        name: Described(header.shape, header.dtype, header.dtype.kind in "SU")
        for name, header in headers.items()
    }


def _whole(archive: zipfile.ZipFile, name: str, header: _Header) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        content = member.read()  # to the end: this checks the CRC
    return header.array(content[header.offset :])


def _check_member(archive: zipfile.ZipFile, name: str) -> None:
    """Read a member once, so that its CRC is checked before any of it is used.

    :raises BadZipFile: it is damaged.
    """
    with archive.open(f"{name}.npy") as member:
        while member.read(_PART):
            pass
