"""Vectors in the files that others keep them in, read with distrust.

Nothing is unpickled, no link in an HDF5 file is followed, and what a file declares is held
against what it holds before it is read.
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

from multispace.errors import CacheError

FORMS = "a folder of .npy files, one .npy or .npz matrix, or an .h5 or .hdf5 file"

MAX_DIMENSION = 1 << 20
MAX_CHUNK_BYTES = 1 << 26
MAX_DEPTH = 32  # of groups in an HDF5 file: hard links may form a ring

# What numpy, zipfile and h5py raise on files that are cut, altered or not what they seem.
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

    :raises CacheError: it is none of these; names the file. So does reading a vector.
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
        raise CacheError(f"{source}: expected {FORMS}")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Report what goes wrong in the block with the path."""
    try:
        yield
    except CacheError as error:
        raise CacheError(f"{path}: {error}") from error
    except _FAULTS as error:
        reason = " ".join(str(error).split())
        raise CacheError(f"{path}: cannot be read ({reason}); write it anew") from error


def _check_type(dtype: np.dtype[Any]) -> None:
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise CacheError(f"is {dtype}, expected float16, float32 or float64")


def _check_shape(shape: tuple[int, ...]) -> None:
    """Let pass (D,) and (1, D)."""
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
        lines = names.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    with _readable(source):
        if source.suffix == ".npz":
            matrix = _npz(source)
        else:
            matrix = np.lib.format.open_memmap(source, mode="r")
        _check_matrix(matrix.shape, matrix.dtype)
        if len(matrix) != len(lines):
            raise CacheError(f"{len(matrix)} rows, and {len(lines)} names in {names}")
    return Vectors([line.removesuffix("\r") for line in lines], lambda number: matrix[number])


def _check_matrix(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    _check_type(dtype)
    if len(shape) != 2 or not shape[0]:
        raise CacheError(f"has shape {shape}, expected (N, D): one vector a row")
    _check_shape(shape[1:])


def _npz(source: Path) -> np.ndarray:
    """Return the one array of an archive, after a look at its header."""
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
            _check_stored(dataset, size)
            values: np.ndarray = dataset[()]
            return values.reshape(-1)

    return Vectors(names, read)


def _datasets(group: h5py.Group, prefix: str, depth: int) -> Iterator[str]:
    if not depth:
        raise CacheError(f"groups are nested deeper than {MAX_DEPTH}")
    for raw in group.id:
        name = prefix + raw.decode()
        if group.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            raise CacheError(f"{name} is a soft or external link; copy what it points to")
        held = group[raw.decode()]
        if isinstance(held, h5py.Group):
            yield from _datasets(held, f"{name}/", depth - 1)
        elif isinstance(held, h5py.Dataset):
            yield name


def _check_stored(dataset: h5py.Dataset, file_size: int) -> None:
    """Refuse what is not wholly inside the file, before a byte of it is read."""
    _check_type(dataset.dtype)
    _check_shape(dataset.shape)
    layout = dataset.id.get_create_plist().get_layout()
    stored = dataset.id.get_storage_size()
    if dataset.id.get_create_plist().get_external_count() or layout not in (
        h5py.h5d.CONTIGUOUS,
        h5py.h5d.CHUNKED,
    ):
        raise CacheError("is not stored contiguously or in chunks inside the file")
    if layout == h5py.h5d.CONTIGUOUS:
        offset = dataset.id.get_offset()
        whole = offset is not None and stored == dataset.size * dataset.dtype.itemsize
    else:
        offset = 0
        if (chunk := math.prod(dataset.chunks) * dataset.dtype.itemsize) > MAX_CHUNK_BYTES:
            raise CacheError(f"has chunks of {chunk} bytes, at most {MAX_CHUNK_BYTES} are read")
        # A chunk that was never written would read as zeros.
        pairs = zip(dataset.shape, dataset.chunks, strict=True)
        whole = dataset.id.get_num_chunks() == math.prod(-(-n // c) for n, c in pairs)
    if not whole or offset + stored > file_size:
        raise CacheError("is not all there")
