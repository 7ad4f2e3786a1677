"""Readers of feature vectors in other people's files: .npy, .npz and HDF5.

Nothing is unpickled, no link in an HDF5 file is followed, and what a file declares is compared
with what it holds before it is read. Nothing is mapped into memory, so that a file that is cut
while it is read is an error and not a crash.
"""

import lzma
import os
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from multispace.data.cache.format.hdf5 import open_hdf5
from multispace.data.cache.format.keys import parse_key_file
from multispace.data.external_vectors.vector_hdf5 import dataset_reader, hdf5_datasets, hdf5_matrix
from multispace.data.external_vectors.vector_npy import npy_rows, npz_rows, read_npy, read_npz
from multispace.data.external_vectors.vector_shapes import Pooling
from multispace.errors import CacheError, DataError, brief

FORMS = "a folder of .npy or .npz files, or one .npy, .npz, .h5 or .hdf5 file"
NPY, NPZ, HDF5 = ".npy", ".npz", (".h5", ".hdf5")

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
def open_vectors(source: Path, names: Path | None, pooling: Pooling) -> Iterator[Vectors]:
    """Open a folder of arrays, a matrix with its names, or an HDF5 file of datasets.

    :param names: the file of names of a matrix, one a line; None if the source holds them
    :raises CacheError: it is none of these; names the file. Reading a vector raises it too.
    """
    if source.is_dir():
        yield _folder(source, pooling)
        return
    if source.suffix not in (NPY, NPZ, *HDF5):
        raise CacheError(f"expected {FORMS}", where=source)
    # An error in the block of the caller is no error of the file: close() does not pass it on.
    with closing(ExitStack()) as stack:
        with _readable(source):
            file = stack.enter_context(_open_plain(source))
            vectors = _of_file(source, file, names, pooling, stack)
        yield vectors


def _of_file(
    source: Path, file: BinaryIO, names: Path | None, pooling: Pooling, stack: ExitStack
) -> Vectors:
    named = names is not None
    keys: list[str] = []
    if source.suffix == NPY:
        rows = npy_rows(file)
    elif source.suffix == NPZ:
        rows, keys = npz_rows(stack.enter_context(zipfile.ZipFile(file)), named=named)
    else:
        hdf5 = stack.enter_context(open_hdf5(file))
        matrix = hdf5_matrix(hdf5, file, named=named)
        if matrix is None:
            return _datasets(
                source, hdf5_datasets(hdf5), dataset_reader(hdf5, file, pooling), pooling
            )
        rows, keys = matrix
    rows.check(pooling)
    if names is not None:
        with _readable(names), _open_plain(names) as listed:
            keys = parse_key_file(listed.read())
    if len(keys) != rows.shape[0]:
        where = f" in {names}" if names else ""
        raise CacheError(f"{rows.shape[0]} rows, and {len(keys)} names{where}")

    def read(number: int) -> np.ndarray:
        with _readable(source, keys[number]):
            return pooling.vector(rows[number])

    return Vectors(keys, read)


def _datasets(
    source: Path, names: Sequence[str], load: Callable[[str], np.ndarray], pooling: Pooling
) -> Vectors:
    def read(number: int) -> np.ndarray:
        with _readable(source / names[number]):
            return pooling.vector(load(names[number]))

    return Vectors(names, read)


def _folder(source: Path, pooling: Pooling) -> Vectors:
    files = sorted(path for path in source.rglob("*.np[yz]"))

    def read(number: int) -> np.ndarray:
        with _readable(files[number]), _open_plain(files[number]) as file:
            load = read_npz if files[number].suffix == NPZ else read_npy
            return pooling.vector(load(file, pooling))

    names = [file.relative_to(source).with_suffix("").as_posix() for file in files]
    return Vectors(names, read)


@contextmanager
def _open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a plain file to read. A pipe or a device is refused and never waited for.

    :raises CacheError: it is not a plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CacheError("not a plain file")
        yield file


@contextmanager
def _readable(path: Path, name: str = "") -> Iterator[None]:
    """Raise a CacheError that names ``path`` for an error inside the block.

    :param name: of the image that is read
    """
    of = f"{brief(name)}: " if name else ""
    try:
        yield
    except DataError as error:
        where = error.where if error.where else path
        raise CacheError(of + brief(error.what), where=where, hint=error.hint) from error
    except FileNotFoundError as error:
        raise CacheError("no such file", where=path) from error
    except EOFError as error:
        raise CacheError(
            f"{of}was cut while it was read ({brief(error)})", where=path, hint="read it again"
        ) from error
    except _FAULTS as error:
        raise CacheError(
            f"{of}cannot be read ({brief(error)})", where=path, hint="write the file again"
        ) from error
