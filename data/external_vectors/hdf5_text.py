"""Texts of any length in an HDF5 file, read without the HDF5 library.

The library may never return from the damaged heap that holds such texts. This reader follows
each address once, inside the file. The format is that of the HDF5 File Format Specification
(version 3, section III.E, "Global Heap").
"""

import math
import os
from collections.abc import Iterator
from typing import BinaryIO

import h5py
import numpy as np

from multispace.data.cache.format.hdf5 import read_whole
from multispace.errors import CacheError

_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
_OBJECT = np.dtype([("index", "<u2"), ("count", "<u2"), ("reserved", "<u4"), ("size", "<u8")])
_HEAP_HEADER = 16  # bytes: signature, version, size
_ADDRESS_BYTES = 8


def read_texts(dataset: h5py.Dataset, file: BinaryIO) -> list[bytes]:
    """Return the texts of a dataset of one axis, or of several that are flattened.

    :param file: the file that holds the dataset
    :raises CacheError: it is compressed, or damaged.
    """
    heaps: dict[int, dict[int, bytes]] = {}
    texts = []
    for length, address, index in _references(dataset, file).tolist():
        if not length:
            texts.append(b"")
            continue
        if address not in heaps:
            heaps[address] = dict(_objects(file, address))
        text = heaps[address].get(index, b"")
        if len(text) < length:
            raise _damaged()
        texts.append(text[:length])
    return texts


def _references(dataset: h5py.Dataset, file: BinaryIO) -> np.ndarray:
    """Return where each text lies."""
    plan, held = dataset.id.get_create_plist(), dataset.id
    if (
        plan.get_external_count()
        or plan.get_nfilters()
        or dataset.file.userblock_size
        or dataset.file.id.get_create_plist().get_sizes()[0] != _ADDRESS_BYTES
        or len(dataset.shape) != 1
    ):
        raise _unusual()
    if plan.get_layout() == h5py.h5d.CONTIGUOUS:
        return _records(file, held.get_offset(), dataset.shape[0])
    if plan.get_layout() != h5py.h5d.CHUNKED:
        raise _unusual()
    (size,) = dataset.chunks
    if held.get_num_chunks() != math.ceil(dataset.shape[0] / size):
        raise _damaged()
    parts: dict[int, np.ndarray] = {}
    for number in range(held.get_num_chunks()):
        chunk = held.get_chunk_info(number)
        (start,) = chunk.chunk_offset
        parts[start] = _records(file, chunk.byte_offset, min(size, dataset.shape[0] - start))
    return np.concatenate([parts[start] for start in sorted(parts)])


def _records(file: BinaryIO, offset: int | None, count: int) -> np.ndarray:
    content = _read(file, offset, count * _REFERENCE.itemsize)
    return np.frombuffer(content, _REFERENCE)


def _objects(file: BinaryIO, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield the objects of a heap, each by its index in the heap."""
    header = _read(file, address, _HEAP_HEADER)
    if header[:5] != b"GCOL\x01":
        raise _damaged()
    heap = _read(file, address, int.from_bytes(header[8:], "little"))
    place = _HEAP_HEADER
    while place + _OBJECT.itemsize <= len(heap):
        (found,) = np.frombuffer(heap, _OBJECT, 1, place)
        index, size = int(found["index"]), int(found["size"])
        if not index:  # free space, to the end
            return
        place += _OBJECT.itemsize
        if place + size > len(heap):
            raise _damaged()
        yield index, heap[place : place + size]
        place += -(-size // 8) * 8


def _read(file: BinaryIO, offset: int | None, size: int) -> bytes:
    if offset is None or offset + size > os.fstat(file.fileno()).st_size:
        raise _damaged()
    content = bytearray(size)
    read_whole(file.fileno(), content, offset)
    return bytes(content)


def _damaged() -> CacheError:
    return CacheError("its texts are damaged", hint="write the file again")


def _unusual() -> CacheError:
    return CacheError(
        "its names are stored in an unusual way",
        hint="save them as one array of fixed-length text without compression, or give "
        "--names FILE",
    )
