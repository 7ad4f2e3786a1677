"""The feature vectors of a shard, read from its file when they are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from multispace.data.cache.format.hdf5 import read_whole
from multispace.data.cache.format.listed_file import CheckedFile
from multispace.errors import DamagedFileError

_BYTES = 16 << 20  # read together where only some of the rows are asked for
_BLOCK = 1 << 18  # values looked at together: small enough to stay in the processor's cache


@dataclass(frozen=True)
class FeatureRows:
    """A matrix (N, D) that lies at ``offset`` in a checked file.

    Index it by a row, a slice, or an array of row numbers: each reads those rows and returns
    an array of their own.
    """

    file: CheckedFile
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]  # float16 or float32

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            rows = np.empty((max(0, stop - start), self.shape[1]), self.dtype)
            self.read_into(rows, start)
            return rows
        numbers = np.atleast_1d(np.asarray(index, np.int64))
        rows = self._gather(np.where(numbers < 0, numbers + len(self), numbers))
        return rows[0] if np.ndim(index) == 0 else rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def read_into(self, rows: np.ndarray, start: int) -> None:
        """Fill ``rows`` (C-contiguous, of this type) with the rows from ``start`` on."""
        with self.file.open() as opened:
            self._fill(opened.fileno(), rows, start)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all rows, some at a time, each block with the number of its first row."""
        step = max(1, _BYTES // (self.shape[1] * self.dtype.itemsize))
        with self.file.open() as opened:
            for start in range(0, len(self), step):
                rows = np.empty((min(step, len(self) - start), self.shape[1]), self.dtype)
                self._fill(opened.fileno(), rows, start)
                yield start, rows

    def non_finite(self) -> np.ndarray:
        """Return the numbers of the rows that hold a NaN or an infinity, in order."""
        bad = [start + non_finite_rows(rows) for start, rows in self.blocks()]
        return np.concatenate(bad) if bad else np.empty(0, np.int64)

    def _gather(self, numbers: np.ndarray) -> np.ndarray:
        """Return rows in the order asked, read in the order of the file."""
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"row {numbers.min()} or {numbers.max()} of {len(self)}")
        gathered = np.empty((len(numbers), self.shape[1]), self.dtype)
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        span = max(1, _BYTES // (self.shape[1] * self.dtype.itemsize))
        done = 0
        with self.file.open() as opened:
            while done < len(order):
                first = int(ordered[done])
                end = int(np.searchsorted(ordered, first + span))
                block = np.empty((int(ordered[end - 1]) - first + 1, self.shape[1]), self.dtype)
                self._fill(opened.fileno(), block, first)
                gathered[order[done:end]] = block[ordered[done:end] - first]
                done = end
        return gathered

    def _fill(self, descriptor: int, rows: np.ndarray, start: int) -> None:
        if not rows.size:
            return
        offset = self.offset + start * self.shape[1] * self.dtype.itemsize
        try:
            read_whole(descriptor, rows.view(np.uint8), offset)
        except EOFError as error:
            raise DamagedFileError(
                f"was cut while it was read: {error}", where=self.file.path, hint="read it again"
            ) from error


def non_finite_rows(features: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows of (N, D) that hold a NaN or an infinity, in order."""
    step = max(1, _BLOCK // features.shape[1])
    bad = []
    for start in range(0, len(features), step):
        block = features[start : start + step]
        if block.dtype == np.float16:  # by its exponent: numpy tests halves one at a time
            suspect = (block.view(np.uint16) & np.uint16(0x7C00)) == 0x7C00
        else:
            suspect = ~np.isfinite(block)
        if suspect.any():
            bad.append(start + np.flatnonzero(suspect.any(axis=1)))
    return np.concatenate(bad) if bad else np.empty(0, np.int64)
