"""Exporting the vectors of a cache for other software."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multispace.data.cache.format.keys import format_key_list
from multispace.data.cache.reader import Cache
from multispace.data.files import atomic_write
from multispace.errors import CacheError

BLOCK = 4096  # rows in memory while exporting


@dataclass(frozen=True)
class Exported:
    """Result of an export."""

    out: str
    names: str
    rows: int
    dimension: int
    dtype: str
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def render(self) -> str:
        """Return one line."""
        return f"{self.rows} x {self.dimension} {self.dtype} in {self.out}, keys in {self.names}"


def export_features(root: Path, out: Path, names: Path, split: str | None = None) -> Exported:
    """Write the vectors of a cache, or of one split, as one .npy matrix and a file of keys.

    The matrix is (N, D) in the widest storage type present; line n of ``names`` is the key of
    row n. Rows are in the order of the shards, or of the split's captions.

    :raises CacheError: there are no vectors, or ``out`` is not a .npy file.
    :raises MissingFeatureError: an image of the split has no vector.
    """
    if out.suffix != ".npy":
        raise CacheError("not a .npy file", where=f"--out {out}", hint="give a name such as v.npy")
    if out.resolve() == names.resolve():
        raise CacheError("the same file as --out", where=f"--names {names}", hint="give another")
    cache = Cache.open(root)
    keys = list(cache.captions(split).keys if split is not None else cache.rows)
    absent = np.flatnonzero(cache.rows.find(keys)[:, 0] < 0)
    cache.features([keys[int(number)] for number in absent])  # names what is missing
    if not keys:
        raise CacheError(
            "holds no vectors to export",
            where=root,
            hint="run `multispace preprocess` with --images",
        )
    dtype = cache.dtype
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (len(keys), cache.spec.dimension),
    }
    with atomic_write(out) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(keys), BLOCK):
            file.write(cache.features(keys[start : start + BLOCK]).tobytes())
    with atomic_write(names) as file:
        file.write(format_key_list(keys))
    return Exported(
        out=str(out),
        names=str(names),
        rows=len(keys),
        dimension=cache.spec.dimension,
        dtype=str(dtype),
        fingerprint=cache.spec.fingerprint,
    )
