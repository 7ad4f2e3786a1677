"""Many short texts, kept as bytes: as Python strings they would take three times the memory."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt


class Texts(Sequence[str]):
    """Texts that are decoded when they are asked for; equal to any sequence of the same ones.

    :param data: all of them on end, UTF-8
    :param offsets: int64 (n + 1,), never falling; text i is ``data[offsets[i]:offsets[i + 1]]``
    :raises UnicodeDecodeError: the bytes are not UTF-8, or a text begins within a character.
    """

    def __init__(self, data: bytes, offsets: npt.NDArray[np.int64]) -> None:
        data.decode("utf-8")
        begins = offsets[offsets < len(data)]
        within = (np.frombuffer(data, np.uint8)[begins] & 0xC0) == 0x80
        if within.any():
            at = int(begins[within.argmax()])
            raise UnicodeDecodeError("utf-8", data, at, at + 1, "a text begins within a character")
        self._data, self._offsets = data, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        index %= len(self)
        return self._data[self._offsets[index] : self._offsets[index + 1]].decode("utf-8")

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
