"""A part of the images of a collection, for one of several machines."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ImagePart:
    """Part ``number``, counted from 1, of ``count`` parts whose sizes differ by at most one."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "ImagePart":
        """Read a part as it is written on the command line, such as 3/8.

        :raises ValueError: it is written otherwise, or there is no such part.
        """
        written = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", text)
        if written is None or int(written[1]) > int(written[2]):
            raise ValueError(f"no part of a whole: {text}")
        return cls(int(written[1]), int(written[2]))

    def of(self, keys: Iterable[str]) -> list[str]:
        """Return the keys of this part, in order.

        It depends on the keys alone: they are sorted by the code points of their characters, and
        cut into runs. Parts that are merged in turn thus have the order of an undivided run.
        """
        ordered = sorted(set(keys))
        start, end = ((n * len(ordered)) // self.count for n in (self.number - 1, self.number))
        return ordered[start:end]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
