"""Where the parts of a shard lie in its file, and the spec that it carries.

Most shards of a cache have the same spec, as many rows, and keys of one width, so that their bytes
differ in the datasets alone. The HDF5 library parses the first of them. Of the others all bytes
outside the datasets are compared with it: if they are equal, so is the layout.
"""

import io
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import h5py
import numpy as np

from multispace.data.cache.format.hdf5 import (
    attribute,
    open_hdf5,
    plain_dataset,
    read_whole,
    text_attribute,
)
from multispace.data.cache.format.spec import FeatureSpec
from multispace.errors import DataError

FORMAT_VERSION = 2  # 1 has another fingerprint

_NAMES = {"features", "key", "image_sha256"}
_PADDED_WITH_NUL = (h5py.h5t.STR_NULLPAD, h5py.h5t.STR_NULLTERM)
_MAX_SIZE = 1 << 26  # bytes of a shard that others are compared with; its zeros are in memory
_MAX_OUTSIDE = 1 << 16  # bytes of it outside the datasets
_MAX_KNOWN = 64


@dataclass(frozen=True)
class ShardLayout:
    """Where the datasets of a shard of N rows begin; each is contiguous.

    :param features: place of (N, D) numbers of ``spec.dtype``
    :param keys: place of N strings of ``key_width`` bytes, UTF-8, padded with NUL
    :param image_sha256: place of N digests of 32 bytes
    """

    spec: FeatureSpec
    rows: int
    features: int
    keys: int
    key_width: int
    image_sha256: int

    def read_keys(self, file: BinaryIO) -> np.ndarray:
        """Return the bytes of the keys, uint8 (N, key_width)."""
        return _read(file, self.keys, (self.rows, self.key_width))

    def read_digests(self, file: BinaryIO) -> np.ndarray:
        """Return the digests of the images, uint8 (N, 32)."""
        return _read(file, self.image_sha256, (self.rows, 32))

    def outside(self, size: int) -> list[tuple[int, int]]:
        """Return what lies outside the datasets of a file of ``size`` bytes: starts and ends."""
        row = self.spec.dimension * np.dtype(self.spec.dtype).itemsize
        lengths = {self.features: row, self.keys: self.key_width, self.image_sha256: 32}
        parts, end = [], 0
        for start, length in sorted(lengths.items()):
            if start > end:
                parts.append((end, start))
            end = max(end, start + self.rows * length)
        return [*parts, (end, size)] if end < size else parts


def find_layout(file: BinaryIO, size: int) -> ShardLayout:
    """Return the layout of a shard whose digest was checked.

    :param file: has a descriptor
    :param size: of the file, in bytes
    :raises DataError: the file does not keep to the format.
    """
    if (known := _known.get(size)) is not None:
        layout, outside = known
        if all(os.pread(file.fileno(), len(part), start) == part for start, part in outside):
            return layout
    with open_hdf5(file) as content:
        layout = _parse(content, size)
    parts = layout.outside(size)
    if size <= _MAX_SIZE and sum(end - start for start, end in parts) <= _MAX_OUTSIDE:
        held = [(start, os.pread(file.fileno(), end - start, start)) for start, end in parts]
        if _follows_from(held, size) == layout:
            if len(_known) >= _MAX_KNOWN:
                _known.clear()
            _known[size] = layout, held
    return layout


def _follows_from(outside: list[tuple[int, bytes]], size: int) -> ShardLayout | None:
    """Return the layout of a file that has only zeros in its datasets, if it has one.

    It is another one, or none, where datasets hide a part of the structure. Nobody could then
    tell by the other bytes which layout a file has.
    """
    file = io.BytesIO(bytes(size))
    for start, part in outside:
        file.seek(start)
        file.write(part)
    file.seek(0)
    try:
        with open_hdf5(file) as content:
            return _parse(content, size)
    except DataError:
        return None


_known: dict[int, tuple[ShardLayout, list[tuple[int, bytes]]]] = {}  # by the size of the file


def _parse(file: h5py.File, size: int) -> ShardLayout:
    """Check the structure of an opened shard.

    :raises DataError: the file does not keep to the format.
    """
    names = {name.decode(errors="replace") for name in file.id}  # set(file) would open each
    if names != _NAMES:
        raise DataError(f"holds {sorted(names)}, expected {sorted(_NAMES)}")
    features, key, image_sha256 = (
        plain_dataset(file, name, size) for name in ("features", "key", "image_sha256")
    )
    spec = _read_spec(file)
    dtype = np.dtype(spec.dtype)
    rows = key.size
    if not rows or key.shape != (rows,):
        raise DataError(f"key has shape {key.shape}, expected (N,)")
    # By HDF5's own type: numpy has no name for every float that HDF5 knows.
    if features.id.get_type() != h5py.h5t.py_create(dtype):
        raise DataError(f"features are not the {dtype} that the spec says")
    if features.shape != (rows, spec.dimension):
        raise DataError(f"features are {features.shape}, not ({rows}, {spec.dimension})")
    if image_sha256.dtype != np.uint8 or image_sha256.shape != (rows, 32):
        raise DataError(
            f"image_sha256 is {image_sha256.dtype} {image_sha256.shape}, not uint8 ({rows}, 32)"
        )
    if key.dtype.kind != "S":
        raise DataError(f"key is {key.dtype}, expected fixed-length UTF-8")
    if key.id.get_type().get_strpad() not in _PADDED_WITH_NUL:
        raise DataError("key is not padded with NUL")
    return ShardLayout(
        spec,
        rows,
        features=features.id.get_offset(),
        keys=key.id.get_offset(),
        key_width=key.dtype.itemsize,
        image_sha256=image_sha256.id.get_offset(),
    )


def _read(file: BinaryIO, start: int, shape: tuple[int, int]) -> np.ndarray:
    held = np.empty(shape, np.uint8)
    try:
        read_whole(file.fileno(), held, start)
    except EOFError as error:
        raise DataError(str(error)) from error
    return held


def _read_spec(file: h5py.File) -> FeatureSpec:
    version = int(attribute(file, "format_version", "iu"))
    if version not in (1, FORMAT_VERSION):
        raise DataError(
            f"format version {version}, this software reads 1 and {FORMAT_VERSION}: update it"
        )
    spec = _parse_spec(text_attribute(file, "spec"))
    fingerprint = spec.fingerprint_1 if version == 1 else spec.fingerprint
    if text_attribute(file, "fingerprint") != fingerprint:
        raise DataError("the fingerprint does not belong to the spec beside it")
    return spec


@lru_cache(maxsize=8)  # the shards of a cache have the same
def _parse_spec(text: str) -> FeatureSpec:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"attribute spec is not JSON ({error})") from error
    return FeatureSpec.from_json(value, "attribute spec")
