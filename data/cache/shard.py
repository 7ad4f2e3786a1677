"""A shard: one HDF5 file of pooled feature rows, each with its image's key and digest.

The layout is plain enough for any HDF5 reader (see docs/feature-cache.md): three contiguous,
uncompressed datasets and four attributes. A shard is checked against its digest before the
HDF5 library sees it, and its structure is checked before any array is read.
"""

import hashlib
import io
import json
import math
import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from multispace.data.cache.keys import check_key
from multispace.data.cache.listed_file import Entry, check_entry
from multispace.data.cache.spec import FeatureSpec
from multispace.data.files import atomic_write
from multispace.errors import CacheError, ShardError, brief
from multispace.version import package_version

FORMAT_VERSION = 1
MAX_KEY_BYTES = 4096

_NAMES = {"features", "key", "image_sha256"}
_HINT = "fetch it anew, or delete it and run `preprocess` again"


@dataclass(frozen=True)
class ShardEntry(Entry):
    """A shard as the manifest lists it."""

    rows: int


@dataclass(frozen=True)
class Shard:
    """The opened shard: keys in memory, features mapped from the file."""

    path: Path
    spec: FeatureSpec
    keys: tuple[str, ...]
    image_sha256: np.ndarray  # uint8 (N, 32)
    features: np.ndarray  # float16 or float32 (N, D), read-only map
    pages: mmap.mmap  # what the map is made of

    def forget(self) -> None:
        """Give the features' memory back; they are read from the file again when next used."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.pages.madvise(mmap.MADV_DONTNEED)


def write_shard(
    folder: Path,
    number: int,
    spec: FeatureSpec,
    keys: Sequence[str],
    image_sha256: np.ndarray,
    features: np.ndarray,
) -> ShardEntry:
    """Write rows as the shard ``number`` under ``folder`` and return its manifest entry.

    :param image_sha256: uint8 (N, 32), digests of the images' bytes.
    :param features: (N, D) in any float type; stored in ``spec.dtype``.
    :raises ShardError: a vector is not finite or does not fit the storage type, or a key is not
        one that can be stored.
    """
    shapes = (len(keys), spec.dimension), (len(keys), 32)
    if not keys or (features.shape, image_sha256.shape) != shapes:
        raise ShardError(
            f"shard {number}: {len(keys)} keys, digests {image_sha256.shape} and features "
            f"{features.shape} do not belong together; the spec says {spec.dimension} a vector"
        )
    _check_keys(keys)
    with np.errstate(over="ignore"):  # what overflows is named below
        rows = features.astype(spec.dtype)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ShardError(
            f"{keys[bad[0]]}: its vector is not finite in {spec.dtype}; use --dtype float32, "
            "or check the weights"
        )
    encoded = [key.encode() for key in keys]
    text = h5py.string_dtype("utf-8", max(map(len, encoded)))
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.create_dataset("features", data=rows)
        file.create_dataset("key", data=np.array(encoded, dtype=text), dtype=text)
        file.create_dataset("image_sha256", data=image_sha256.astype(np.uint8))
        file.attrs["format_version"] = FORMAT_VERSION
        for name, value in (
            ("spec", json.dumps(spec.to_json(), sort_keys=True)),
            ("fingerprint", spec.fingerprint),
            ("package_version", package_version()),
        ):
            file.attrs.create(name, value, dtype=h5py.string_dtype("utf-8", len(value.encode())))
    content = memory.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{number:05d}-{digest[:8]}.h5"
    with atomic_write(path) as out:
        out.write(content)
    return ShardEntry(f"{folder.name}/{path.name}", digest, len(content), len(keys))


def open_shard(root: Path, entry: ShardEntry) -> Shard:
    """Check the bytes of a listed shard, then its structure, and map its features.

    :raises DamagedFileError: the bytes are not those that the manifest lists.
    :raises ShardError: the format is not kept.
    """
    shard = read_shard(check_entry(root, entry))
    if len(shard.keys) != entry.rows:
        raise ShardError(
            f"{shard.path}: {len(shard.keys)} rows, the manifest says {entry.rows}; {_HINT}"
        )
    return shard


def read_shard(path: Path) -> Shard:
    """Read a shard whose bytes are already trusted; :func:`open_shard` checks them first.

    :raises ShardError: the file does not keep to the format.
    """
    with _hdf5(path) as file:
        if set(file) != _NAMES:
            raise ShardError(f"holds {sorted(file)}, expected {sorted(_NAMES)}")
        size = path.stat().st_size
        features, key, image_sha256 = (
            _contiguous(file, name, size) for name in ("features", "key", "image_sha256")
        )
        spec = _read_spec(file)
        dtype = np.dtype(spec.dtype)
        rows = key.size
        if not rows or key.shape != (rows,):
            raise ShardError(f"key has shape {key.shape}, expected (N,)")
        # By HDF5's own type: numpy has no name for every float that HDF5 knows.
        if features.id.get_type() != h5py.h5t.py_create(dtype):
            raise ShardError(f"features are not the {dtype} that the spec says")
        if features.shape != (rows, spec.dimension):
            raise ShardError(f"features are {features.shape}, not ({rows}, {spec.dimension})")
        if image_sha256.dtype != np.uint8 or image_sha256.shape != (rows, 32):
            raise ShardError(
                f"image_sha256 is {image_sha256.dtype} {image_sha256.shape}, not uint8 ({rows}, 32)"
            )
        keys = _read_keys(key)
        digests = image_sha256[()]
        offset = features.id.get_offset()
    with path.open("rb") as opened:
        pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    mapped = np.frombuffer(pages, dtype, rows * spec.dimension, offset)
    return Shard(path, spec, keys, digests, mapped.reshape(rows, spec.dimension), pages)


@contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a shard; what goes wrong in the block is reported with its path and the mend."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CacheError as error:
        raise ShardError(f"{path}: {brief(error)}; {_HINT}") from error
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError) as error:
        # h5py reports a broken structure as any of these, depending on where it breaks.
        raise ShardError(f"{path}: not a readable shard ({brief(error)}); {_HINT}") from error


def _contiguous(file: h5py.File, name: str, file_size: int) -> h5py.Dataset:
    """Return a dataset that is stored in this file, in one piece, as it is."""
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ShardError(f"{name} is a soft or external link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ShardError(f"{name} is not a dataset")
    plan = dataset.id.get_create_plist()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count():
        raise ShardError(f"{name} is not stored contiguously inside the file")
    offset, size = dataset.id.get_offset(), dataset.id.get_storage_size()
    if offset is None or dataset.dtype.hasobject or offset + size > file_size:
        raise ShardError(f"{name} declares more than the file holds")
    if size != (needed := math.prod(dataset.shape) * dataset.dtype.itemsize):
        raise ShardError(f"{name} holds {size} bytes, its shape and type need {needed}")
    return dataset


def _read_spec(file: h5py.File) -> FeatureSpec:
    version = int(_attribute(file, "format_version", "iu"))
    if version != FORMAT_VERSION:
        raise ShardError(
            f"format version {version}, this software reads {FORMAT_VERSION}: update it"
        )
    try:
        value = json.loads(_text(file, "spec"))
    except json.JSONDecodeError as error:
        raise ShardError(f"attribute spec is not JSON ({error})") from error
    spec = FeatureSpec.from_json(value, "attribute spec")
    if _text(file, "fingerprint") != spec.fingerprint:
        raise ShardError("the fingerprint does not belong to the spec beside it")
    return spec


def _text(file: h5py.File, name: str) -> str:
    return bytes(_attribute(file, name, "S")).decode()


def _attribute(file: h5py.File, name: str, kinds: str) -> Any:
    """Return a single value; text is of fixed length, for on a damaged heap HDF5 may hang."""
    if name not in file.attrs:
        raise ShardError(f"attribute {name} is missing")
    held = file.attrs.get_id(name)
    if held.dtype.kind not in kinds or held.shape != ():
        raise ShardError(f"attribute {name} is {held.dtype} {held.shape}, of another type")
    return file.attrs[name]


def _read_keys(dataset: h5py.Dataset) -> tuple[str, ...]:
    if dataset.dtype.kind != "S":
        raise ShardError(f"key is {dataset.dtype}, expected fixed-length UTF-8")
    try:
        keys = tuple(key.decode() for key in dataset[()].tolist())
    except UnicodeDecodeError as error:
        raise ShardError(f"a key is not UTF-8 ({error})") from error
    _check_keys(keys)
    return keys


def _check_keys(keys: Sequence[str]) -> None:
    try:
        for key in keys:
            check_key(key)
    except ValueError as error:
        raise ShardError(str(error)) from error
    if (longest := max(len(key.encode()) for key in keys)) > MAX_KEY_BYTES:
        raise ShardError(f"a key has {longest} bytes, at most {MAX_KEY_BYTES} are stored")
    if len(set(keys)) != len(keys):
        twice = Counter(keys).most_common(1)[0][0]
        raise ShardError(f"key {twice} occurs twice")


_BLOCK = 1 << 18  # values looked at together: small enough to stay in the processor's cache


def non_finite_rows(features: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows of (N, D) that hold a NaN or an infinity, in order."""
    step = max(1, _BLOCK // features.shape[1])
    bad = []
    for start in range(0, len(features), step):
        block = features[start : start + step]
        if block.dtype == np.float16:  # by its exponent: numpy tests halves one at a time
            odd = (block.view(np.uint16) & np.uint16(0x7C00)) == 0x7C00
        else:
            odd = ~np.isfinite(block)
        if odd.any():
            bad.append(start + np.flatnonzero(odd.any(axis=1)))
    return np.concatenate(bad) if bad else np.empty(0, np.int64)
