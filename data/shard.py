"""A shard: one HDF5 file of pooled feature rows, each with its picture's key and digest.

The layout is plain enough for any HDF5 reader (see docs/feature-cache.md): three contiguous,
uncompressed datasets and four attributes. A shard is checked against its digest before the
HDF5 library sees it, and its structure is checked before any array is read.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import h5py
import numpy as np

from data.atomic import atomic_write
from data.entry import Entry, check_entry
from data.errors import ShardError
from data.spec import FeatureSpec

FORMAT_VERSION = 1
MAX_KEY_BYTES = 4096


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


def write_shard(
    folder: Path,
    number: int,
    spec: FeatureSpec,
    keys: Sequence[str],
    image_sha256: np.ndarray,
    features: np.ndarray,
) -> ShardEntry:
    """Write rows as the shard ``number`` under ``folder`` and return its manifest entry.

    :param image_sha256: uint8 (N, 32), digests of the pictures' bytes.
    :param features: (N, D) in any float type; stored in ``spec.dtype``.
    :raises ShardError: a vector is not finite or does not fit the storage type.
    """
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


def package_version() -> str:
    """Return this software's version, for the record."""
    try:
        return metadata.version("multispace-captioning")
    except metadata.PackageNotFoundError:
        return "unknown"


def open_shard(root: Path, entry: ShardEntry) -> Shard:
    """Check the bytes of a listed shard, then its structure, and map its features.

    :raises ShardError: the bytes differ from the manifest or the format is not kept.
    """
    shard = read_shard(check_entry(root, entry))
    if len(shard.keys) != entry.rows:
        raise ShardError(f"{shard.path}: {len(shard.keys)} rows, the manifest says {entry.rows}")
    return shard


def read_shard(path: Path) -> Shard:
    """Read a shard whose bytes are already trusted; :func:`open_shard` checks them first.

    :raises ShardError: the file does not keep to the format.
    """
    with _hdf5(path) as file:
        names = {"features", "key", "image_sha256"}
        if set(file) != names:
            raise ShardError(f"{path}: holds {sorted(file)}, expected {sorted(names)}")
        layouts = {name: _contiguous(file, name, path) for name in names}
        spec = _read_spec(file, path)
        rows, dimension = _matrix(layouts["features"], "features", path)
        if (rows, 32) != _matrix(layouts["image_sha256"], "image_sha256", path):
            raise ShardError(f"{path}: image_sha256 is not ({rows}, 32)")
        if layouts["key"].shape != (rows,):
            raise ShardError(f"{path}: key has shape {layouts['key'].shape}, expected ({rows},)")
        dtype = layouts["features"].dtype
        if dimension != spec.dimension or dtype != np.dtype(spec.dtype):
            raise ShardError(
                f"{path}: features are {dtype} x {dimension}, "
                f"the spec says {spec.dtype} x {spec.dimension}"
            )
        if layouts["image_sha256"].dtype != np.uint8:
            raise ShardError(f"{path}: image_sha256 is not uint8")
        keys = _read_keys(layouts["key"], path)
        digests = layouts["image_sha256"][()]
        offset = layouts["features"].id.get_offset()
    features = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(rows, dimension))
    return Shard(path, spec, keys, digests, features)


@contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        # h5py reports a broken structure as any of these, depending on where it breaks.
        raise ShardError(f"{path}: not a readable shard ({error})") from error


def _contiguous(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a dataset that is stored in this file, in one piece, as it is."""
    link = file.id.links.get_info(name.encode())
    if link.type != h5py.h5l.TYPE_HARD:
        raise ShardError(f"{path}: {name} is a soft or external link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ShardError(f"{path}: {name} is not a dataset")
    plan = dataset.id.get_create_plist()
    offset = dataset.id.get_offset()
    size = dataset.dtype.itemsize * int(np.prod(dataset.shape, dtype=object))
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count() or offset is None:
        raise ShardError(f"{path}: {name} is not stored contiguously inside the file")
    if dataset.dtype.hasobject or offset + size > path.stat().st_size:
        raise ShardError(f"{path}: {name} declares more than the file holds")
    return dataset


def _matrix(dataset: h5py.Dataset, name: str, path: Path) -> tuple[int, int]:
    if len(dataset.shape) != 2 or 0 in dataset.shape:
        raise ShardError(f"{path}: {name} has shape {dataset.shape}, expected a filled matrix")
    return dataset.shape


def _read_spec(file: h5py.File, path: Path) -> FeatureSpec:
    version = file.attrs.get("format_version")
    if version != FORMAT_VERSION:
        raise ShardError(
            f"{path}: format version {version}, this software reads {FORMAT_VERSION}; update it"
        )
    try:
        spec = FeatureSpec.from_json(json.loads(_text_attribute(file, "spec", path)), str(path))
    except json.JSONDecodeError as error:
        raise ShardError(f"{path}: attribute spec is not JSON ({error})") from error
    if _text_attribute(file, "fingerprint", path) != spec.fingerprint:
        raise ShardError(f"{path}: the fingerprint does not belong to the spec beside it")
    return spec


def _text_attribute(file: h5py.File, name: str, path: Path) -> str:
    value = file.attrs.get(name)
    if isinstance(value, bytes):
        value = value.decode(errors="strict")
    if not isinstance(value, str):
        raise ShardError(f"{path}: attribute {name} is {value!r}, expected text")
    return value


def _read_keys(dataset: h5py.Dataset, path: Path) -> tuple[str, ...]:
    if dataset.dtype.kind != "S" or dataset.dtype.itemsize > MAX_KEY_BYTES:
        raise ShardError(f"{path}: key is {dataset.dtype}, expected fixed-length UTF-8")
    try:
        keys = tuple(key.decode() for key in dataset[()].tolist())
    except UnicodeDecodeError as error:
        raise ShardError(f"{path}: a key is not UTF-8 ({error})") from error
    if len(set(keys)) != len(keys):
        raise ShardError(f"{path}: a key occurs twice")
    return keys
