"""The texts of many captions, held as the bytes of the file that they come from."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import numpy.typing as npt


class CaptionTexts(Sequence[str]):
    """M texts in one buffer. Training reads few of them, so that none is decoded until then.

    :param data: the texts in UTF-8, one after the other
    :param offsets: text m is ``data[offsets[m]:offsets[m + 1]]``, int64 (M + 1,); they rise from 0
        to the length of ``data``
    :raises UnicodeDecodeError: a text is not UTF-8.
    """

    def __init__(self, data: bytes, offsets: npt.NDArray[np.int64]) -> None:
        self._data = data
        self._offsets = offsets
        if not data.isascii():
            for start, end in pairwise(offsets.tolist()):
                data[start:end].decode("utf-8")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        first = range(len(self))[index]
        return self._data[self._offsets[first] : self._offsets[first + 1]].decode("utf-8")

    def __iter__(self) -> Iterator[str]:
        ends = self._offsets.tolist()
        if self._data.isascii():  # a byte is a character: decode them together
            whole = self._data.decode("ascii")
            return (whole[start:end] for start, end in pairwise(ends))
        return (self._data[start:end].decode("utf-8") for start, end in pairwise(ends))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]
