"""A shard: one HDF5 file of pooled feature vectors, each with its image's key and digest.

The layout is plain enough for any HDF5 reader (see docs/feature-cache.md): three contiguous,
uncompressed datasets and four attributes. A shard is checked against its digest before the
HDF5 library sees it, and its structure is checked before any array is read; all of that happens
through one descriptor.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from multispace.data.cache.feature_rows import FeatureRows, non_finite_rows
from multispace.data.cache.format.canonical_json import canonical_json
from multispace.data.cache.format.hdf5 import fixed_text, joined_lines, set_text_attribute
from multispace.data.cache.format.keys import (
    check_key_list,
    check_keys,
    check_unique,
    parse_key_list,
)
from multispace.data.cache.format.listed_file import CheckedFile, Entry
from multispace.data.cache.format.shard_layout import FORMAT_VERSION, ShardLayout, find_layout
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.files import atomic_write
from multispace.errors import DamagedFileError, DataError, ShardError, brief, shown
from multispace.version import package_version

_HINT = "fetch the cache again, or run `multispace cache repair` on it"


@dataclass(frozen=True)
class ShardEntry(Entry):
    """A shard as the manifest lists it, with its key list and the type of its vectors.

    Version 1 of the format lists neither.
    """

    rows: int
    keys: Entry | None = None
    dtype: str | None = None

    @cached_property
    def canonical(self) -> bytes:
        """The entry as the manifest has it, canonical JSON."""
        return canonical_json(asdict(self))


@dataclass(frozen=True)
class Shard:
    """An opened shard: keys and digests in memory, vectors read from the file when used.

    :param key_list: the keys, UTF-8, each ended by a newline
    :param image_sha256: uint8 (N, 32)
    :param features: float16 or float32 (N, D)
    """

    path: Path
    spec: FeatureSpec
    key_list: bytes
    image_sha256: np.ndarray
    features: FeatureRows

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys, in the order of the rows."""
        return tuple(parse_key_list(self.key_list))


def write_shard(
    folder: Path,
    number: int,
    spec: FeatureSpec,
    keys: Sequence[str],
    image_sha256: np.ndarray,
    features: np.ndarray,
) -> ShardEntry:
    """Write vectors as the shard ``number`` under ``folder`` and return its manifest entry.

    :param image_sha256: uint8 (N, 32), digests of the images' bytes
    :param features: (N, D) in any float type; stored in ``spec.dtype``
    :raises ShardError: a vector is not finite or does not fit the storage type, or a key is not
        one that can be stored.
    """
    shapes = (len(keys), spec.dimension), (len(keys), 32)
    if not keys or (features.shape, image_sha256.shape) != shapes:
        raise ShardError(
            f"{len(keys)} keys, digests {image_sha256.shape} and features {features.shape} do not "
            f"belong together; the spec says {spec.dimension} numbers a vector",
            where=f"shard {number}",
        )
    try:
        check_keys(keys)
    except ValueError as error:
        raise ShardError(str(error), where=f"shard {number}") from error
    with np.errstate(over="ignore"):  # overflows are named below
        rows = features.astype(spec.dtype)
    if (bad := non_finite_rows(rows)).size:
        raise ShardError(
            f"its vector is not finite in {spec.dtype}",
            where=keys[bad[0]],
            hint="use --dtype float32, or check the weights",
        )
    content = _shard_bytes(spec, keys, image_sha256, rows)
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{number:05d}-{digest[:8]}.h5"
    with atomic_write(path) as out:
        out.write(content)
    return ShardEntry(
        f"{folder.name}/{path.name}", digest, len(content), len(keys), None, spec.dtype
    )


def _shard_bytes(
    spec: FeatureSpec, keys: Sequence[str], image_sha256: np.ndarray, rows: np.ndarray
) -> bytes:
    text = fixed_text(keys)
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.create_dataset("features", data=rows)
        file.create_dataset("key", data=text, dtype=text.dtype)
        file.create_dataset("image_sha256", data=image_sha256.astype(np.uint8))
        file.attrs["format_version"] = FORMAT_VERSION
        set_text_attribute(file, "spec", json.dumps(spec.to_json(), sort_keys=True))
        set_text_attribute(file, "fingerprint", spec.fingerprint)
        set_text_attribute(file, "package_version", package_version())
    return memory.getvalue()


def open_shard(root: Path, entry: ShardEntry) -> Shard:
    """Open a listed shard: check its bytes, its structure, and what the manifest says of it.

    :raises DamagedFileError: the bytes are not those that the manifest lists.
    :raises ShardError: the file does not keep to the format.
    """
    shard = read_shard(root, entry)
    with _faults_named(shard.path):
        _check_listed(entry, len(shard), shard.spec)
    return shard


def read_shard(root: Path, entry: Entry) -> Shard:
    """Open a shard whose number of rows is not known; see :func:`open_shard`.

    :raises DamagedFileError: the bytes are not those of ``entry``.
    :raises ShardError: the file does not keep to the format.
    """
    file = CheckedFile(root, entry)
    with _faults_named(file.path), file.open() as opened:
        return _read(opened, find_layout(opened, entry.bytes), file)


def open_rows(
    file: CheckedFile, entry: ShardEntry, rows: np.ndarray, keys: Sequence[str]
) -> tuple[FeatureSpec, FeatureRows]:
    """Open a listed shard for some of its rows; faster than :func:`open_shard`.

    All of its bytes are checked, but only the keys of these rows.

    :param file: of the shard
    :param rows: their numbers, int64 (n,)
    :param keys: of these rows, as the key list of the shard has them
    :returns: how the vectors were made, and all vectors
    :raises DamagedFileError: the bytes are not those that the manifest lists.
    :raises ShardError: the file does not keep to the format, or a row has another key.
    """
    with _faults_named(file.path), file.open() as opened:
        layout = find_layout(opened, entry.bytes)
        _check_listed(entry, layout.rows, layout.spec)
        found = layout.read_keys(opened)[rows].view(f"S{layout.key_width}")[:, 0]
    wanted = [key.encode(errors="surrogatepass") for key in keys]
    if (other := np.flatnonzero(found != np.array(wanted))).size:
        first = int(other[0])
        key = shown(found[first].decode(errors="replace"))
        raise ShardError(
            f"its keys are not those of its key list: row {rows[first]} is {key}, the list has "
            f"{shown(keys[first])}",
            where=file.path,
            hint=_HINT,
        )
    return layout.spec, _features(layout, file)


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Name the shard in errors of its format."""
    try:
        yield
    except DamagedFileError:
        raise
    except DataError as error:
        raise ShardError(brief(error), where=path, hint=_HINT) from error


def _check_listed(entry: ShardEntry, rows: int, spec: FeatureSpec) -> None:
    """Check what the manifest says of a shard.

    :raises DataError: the shard is different.
    """
    if rows != entry.rows:
        raise DataError(f"{rows} rows, the manifest says {entry.rows}")
    if entry.dtype not in (None, spec.dtype):
        raise DataError(f"{spec.dtype} vectors, the manifest says {entry.dtype}")


def _read(opened: BinaryIO, layout: ShardLayout, source: CheckedFile) -> Shard:
    """Read all but the vectors of a shard.

    :raises DataError: a key is not valid.
    """
    key_list = joined_lines(layout.read_keys(opened), "key")
    try:
        check_key_list(key_list, layout.rows)
        check_unique(key_list)
    except UnicodeDecodeError as error:
        raise DataError("key holds bytes that are not UTF-8") from error
    except ValueError as error:
        raise DataError(str(error)) from error
    digests = layout.read_digests(opened)
    return Shard(source.path, layout.spec, key_list, digests, _features(layout, source))


def _features(layout: ShardLayout, source: CheckedFile) -> FeatureRows:
    shape = layout.rows, layout.spec.dimension
    return FeatureRows(source, layout.features, shape, np.dtype(layout.spec.dtype))
