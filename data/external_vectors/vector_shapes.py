"""Shapes of feature arrays in other people's files, and how one becomes a vector."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from multispace.errors import CacheError

MAX_DIMENSION = 1 << 20
MAX_VALUES = 1 << 26  # of one image, over all its regions

_BLOCK = 16 << 20  # bytes that are read together


def check_type(dtype: np.dtype[Any]) -> None:
    """Check that values are floating-point numbers of at most 64 bits.

    :raises CacheError: they are not.
    """
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise CacheError(f"is {dtype}, expected float16, float32 or float64")


@dataclass(frozen=True)
class Pooling:
    """How the array of one image becomes one vector.

    Axes of size 1 are removed: (D, 1, 1) and (1, D) are (D,).

    :param regions: also accept (R, D), and average its R rows
    """

    regions: bool = False

    def check(self, shape: tuple[int, ...]) -> None:
        """Check the shape of one image's array, before its values are read.

        :raises CacheError: it does not become one vector, or has too many numbers.
        """
        kept = _without_ones(shape)
        if not shape or len(kept) > (2 if self.regions else 1):
            hint = "pool it to one vector per image"
            if len(kept) == 2:
                hint = f"give --mean-over-regions if these are {kept[0]} regions of an image"
            raise CacheError(
                f"has shape {shape}, expected (D,), (1, D) or (D, 1, 1)"
                f"{' or (R, D)' if self.regions else ''}",
                hint=hint,
            )
        if not 1 <= kept[-1] <= MAX_DIMENSION:
            raise CacheError(f"has {kept[-1]} numbers, expected 1 to {MAX_DIMENSION}")
        if not 1 <= math.prod(kept) <= MAX_VALUES:
            raise CacheError(f"has shape {shape}, expected 1 to {MAX_VALUES} numbers in all")

    def vector(self, values: np.ndarray) -> np.ndarray:
        """Return the vector of one image, (D,).

        The mean over regions is float64. Rows of zeros pad images that have fewer regions; they
        do not count.

        :param values: an array whose shape was checked
        :raises CacheError: all regions are padding.
        """
        kept = values.reshape(_without_ones(values.shape))
        if kept.ndim == 1:
            return kept
        regions = kept[(kept != 0).any(axis=1)]
        if not len(regions):
            raise CacheError(f"all {len(kept)} regions are zero", hint="leave the image out")
        mean: np.ndarray = regions.mean(axis=0, dtype=np.float64)
        return mean


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1) or (1,)


class Rows:
    """The arrays of N images, stored one after the other, and read in blocks.

    :param shape: (N, ...)
    :param load: returns the rows from a first one up to, without, a last one
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        load: Callable[[int, int], np.ndarray],
    ) -> None:
        self.shape, self.dtype, self._load = shape, dtype, load
        self._start, self._block = 0, np.empty((0, *shape[1:]), dtype)
        self._step = max(1, _BLOCK // max(1, math.prod(shape[1:]) * dtype.itemsize))

    def check(self, pooling: Pooling) -> None:
        """Check type and shape, before anything is read.

        :raises CacheError: they are not those of one vector per image.
        """
        check_type(self.dtype)
        if len(self.shape) < 2 or not self.shape[0]:
            raise CacheError(f"has shape {self.shape}, expected (N, D): one vector a row")
        pooling.check(self.shape[1:])

    def __getitem__(self, number: int) -> np.ndarray:
        if not self._start <= number < self._start + len(self._block):
            stop = min(number + self._step, self.shape[0])
            self._start, self._block = number, self._load(number, stop)
        row: np.ndarray = self._block[number - self._start]
        return row
