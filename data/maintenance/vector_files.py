"""Readers of feature vectors in other people's files: .npy, .npz and HDF5.

Nothing is unpickled, no link in an HDF5 file is followed, and what a file declares is compared
with what it holds before it is read.
"""

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from multispace.data.cache.hdf5 import check_link, check_storage
from multispace.data.cache.keys import parse_key_file
from multispace.errors import CacheError, DataError, brief

FORMS = "a folder of .npy files, one .npy or .npz matrix, or an .h5 or .hdf5 file"

MAX_DIMENSION = 1 << 20
MAX_DEPTH = 32  # of groups in an HDF5 file: hard links may form a ring

# What numpy, zipfile and h5py raise on damaged files.
_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True)
class Vectors:
    """N named vectors; ``read`` gives one by its number: (D,), D > 0, in some float type."""

    names: Sequence[str]
    read: Callable[[int], np.ndarray]


@contextmanager
def open_vectors(source: Path, names: Path | None) -> Iterator[Vectors]:
    """Open a folder of .npy files, a matrix with its ``names``, or an HDF5 file.

    :raises CacheError: it is none of these; names the file. Reading a vector raises it too.
    """
    if source.is_dir():
        yield _folder(source)
    elif names is not None:
        yield _matrix(source, names)
    elif source.suffix in (".h5", ".hdf5"):
        with _readable(source):
            file = h5py.File(source, "r")
        with file:
            yield _hdf5(file, source)
    else:
        raise CacheError(f"expected {FORMS}", where=source)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise a CacheError that names ``path`` for an error inside the block."""
    if path.exists() and not path.is_file():  # a pipe would never open
        raise CacheError("not a plain file", where=path)
    try:
        yield
    except DataError as error:
        raise CacheError(brief(error), where=path) from error
    except _FAULTS as error:
        raise CacheError(
            f"cannot be read ({brief(error)})", where=path, hint="write the file again"
        ) from error


def _check_type(dtype: np.dtype[Any]) -> None:
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise CacheError(f"is {dtype}, expected float16, float32 or float64")


def _check_shape(shape: tuple[int, ...]) -> None:
    """Check that a shape is (D,) or (1, D)."""
    if len(shape) not in (1, 2) or shape[:-1] not in ((), (1,)):
        raise CacheError(f"has shape {shape}, expected (D,) or (1, D): pool it to one vector")
    if not 1 <= shape[-1] <= MAX_DIMENSION:
        raise CacheError(f"has {shape[-1]} numbers, expected 1 to {MAX_DIMENSION}")


def _folder(source: Path) -> Vectors:
    files = sorted(source.rglob("*.npy"))

    def read(number: int) -> np.ndarray:
        with _readable(files[number]):
            array = np.lib.format.open_memmap(files[number], mode="r")  # never unpickles
            _check_type(array.dtype)
            _check_shape(array.shape)
            return np.array(array).reshape(-1)

    names = [file.relative_to(source).as_posix().removesuffix(".npy") for file in files]
    return Vectors(names, read)


def _matrix(source: Path, names: Path) -> Vectors:
    with _readable(names):
        keys = parse_key_file(names.read_bytes())
    with _readable(source):
        if source.suffix == ".npz":
            matrix = _npz(source)
        else:
            matrix = np.lib.format.open_memmap(source, mode="r")
        _check_matrix(matrix.shape, matrix.dtype)
        if len(matrix) != len(keys):
            raise CacheError(f"{len(matrix)} rows, and {len(keys)} names in {names}")
    return Vectors(keys, lambda number: matrix[number])


def _check_matrix(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    _check_type(dtype)
    if len(shape) != 2 or not shape[0]:
        raise CacheError(f"has shape {shape}, expected (N, D): one vector a row")
    _check_shape(shape[1:])


def _npz(source: Path) -> np.ndarray:
    """Return the only array of an archive, after a check of its header."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise CacheError(f"holds {len(members)} arrays, expected one")
        with archive.open(members[0]) as member:
            version = np.lib.format.read_magic(member)
            if version not in readers:
                raise CacheError(f"is of .npy version {version}, expected 1.0 or 2.0")
            shape, _, dtype = readers[version](member)
            _check_matrix(shape, dtype)
            needed = member.tell() + math.prod(shape) * dtype.itemsize
            if needed != members[0].file_size:
                raise CacheError(f"holds {members[0].file_size} bytes, its shape needs {needed}")
    with np.load(source, allow_pickle=False) as arrays:
        matrix: np.ndarray = arrays[arrays.files[0]]
    return matrix


def _hdf5(file: h5py.File, source: Path) -> Vectors:
    with _readable(source):
        names = sorted(_datasets(file, "", MAX_DEPTH))
    size = source.stat().st_size

    def read(number: int) -> np.ndarray:
        with _readable(source / names[number]):
            dataset = file[names[number]]
            _check_type(dataset.dtype)
            _check_shape(dataset.shape)
            check_storage(dataset, "the dataset", size, chunked=True)
            values: np.ndarray = dataset[()]
            return values.reshape(-1)

    return Vectors(names, read)


def _datasets(group: h5py.Group, prefix: str, depth: int) -> Iterator[str]:
    if not depth:
        raise CacheError(f"groups are nested deeper than {MAX_DEPTH}")
    for raw in group.id:
        name = prefix + raw.decode()
        check_link(group, raw)
        held = group[raw.decode()]
        if isinstance(held, h5py.Group):
            yield from _datasets(held, f"{name}/", depth - 1)
        elif isinstance(held, h5py.Dataset):
            yield name
