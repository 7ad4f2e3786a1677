"""An index of the keys of a cache that takes about 40 bytes a key beside the keys themselves."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from multispace.data.cache.format.keys import parse_key_list

_LOWER = (1 << 32) - 1
_LOW = np.uint64(_LOWER)
_HALF = np.uint64(32)
_ONE = np.uint64(1)
_MIN_SLOTS = 1024
_MAX_EXPECTED = 1 << 24


class KeyIndex(Mapping[str, tuple[int, int]]):
    """Maps each key to its shard number and row number; keys are in the order of the shards.

    The keys stay as the bytes of the key lists. A hash table with open addressing and linear
    probing finds them: a slot is 0, or holds the upper half of the key's hash and one plus the
    number of the key. Python's own hash is used, which is seeded anew in each process, so that
    nobody can prepare keys that collide.

    :param expected: the number of keys that will be added, if it is known
    """

    def __init__(self, expected: int = 0) -> None:
        self._lists: list[bytes] = []
        self._ends: list[np.ndarray] = []  # uint32: where the newline after each key is
        self._starts: list[int] = []  # the number of the first key of each shard
        self._count = 0
        # A manifest from elsewhere may promise more keys than there are.
        self._slots = np.zeros(_slots(min(expected, _MAX_EXPECTED)), np.uint64)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        for content in self._lists:
            yield from parse_key_list(content)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._number(key) >= 0

    def __getitem__(self, key: str) -> tuple[int, int]:
        if (number := self._number(key)) < 0:
            raise KeyError(key)
        shard = bisect_right(self._starts, number) - 1
        return shard, number - self._starts[shard]

    def key_list(self, shard: int) -> bytes:
        """Return the key list of a shard."""
        return self._lists[shard]

    def add(self, content: bytes) -> None:
        """Add the keys of the next shard.

        :param content: its key list, which is not empty and is valid
        :raises ValueError: a key occurs twice; the text of the error names it. The index can no
            longer be used then.
        """
        ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")).astype(np.uint32)
        first = self._count
        self._lists.append(content)
        self._ends.append(ends)
        self._starts.append(first)
        self._count += len(ends)
        if 2 * self._count <= len(self._slots):
            self._insert(_hashes(content, len(ends)), first)
            return
        self._slots = np.zeros(_slots(self._count), np.uint64)
        for start, held, places in zip(self._starts, self._lists, self._ends, strict=True):
            self._insert(_hashes(held, len(places)), start)

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """Return the shard number and row number of each key, (N, 2) int64; -1 where it is not."""
        wanted = [key.encode("utf-8", "surrogatepass") for key in keys]
        hashes = np.fromiter(map(hash, wanted), np.int64, len(wanted)).view(np.uint64)
        mask = np.uint64(len(self._slots) - 1)
        places, numbers = hashes & mask, np.full(len(wanted), -1, np.int64)
        waiting = np.arange(len(wanted))
        while waiting.size:
            held = self._slots[places[waiting]]
            waiting, held = waiting[held != 0], held[held != 0]
            found = np.zeros(len(waiting), bool)
            alike = np.flatnonzero((held ^ hashes[waiting]) >> _HALF == 0)
            candidates = (held[alike] & _LOW).astype(np.int64) - 1
            held_keys = self._keys(candidates)
            for i, number, key in zip(alike.tolist(), candidates.tolist(), held_keys, strict=True):
                if key == wanted[waiting[i]]:
                    numbers[waiting[i]] = number
                    found[i] = True
            waiting = waiting[~found]
            places[waiting] = (places[waiting] + _ONE) & mask
        return self._places(numbers)

    def _places(self, numbers: np.ndarray) -> np.ndarray:
        """Return the shard number and row number of keys by their numbers, (N, 2); -1 for -1."""
        starts = np.array([0, *self._starts], np.int64)
        shards = np.searchsorted(starts[1:], numbers, "right") - 1
        rows = np.where(numbers < 0, -1, numbers - starts[1 + shards])
        return np.stack([shards, rows], axis=1)

    def _keys(self, numbers: np.ndarray) -> list[bytes]:
        """Return keys by their numbers; each list of keys is split once."""
        lists: dict[int, list[bytes]] = {}
        keys = []
        for shard, row in self._places(numbers).tolist():
            if shard not in lists:
                lists[shard] = self._lists[shard].split(b"\n")
            keys.append(lists[shard][row])
        return keys

    def _number(self, key: str) -> int:
        """Return the number of a key, or -1."""
        wanted = key.encode("utf-8", "surrogatepass")
        value = hash(wanted) & ((1 << 64) - 1)
        mask = len(self._slots) - 1
        place = value & mask
        while held := int(self._slots[place]):
            if held >> 32 == value >> 32 and self._key(number := (held & _LOWER) - 1) == wanted:
                return number
            place = (place + 1) & mask
        return -1

    def _key(self, number: int) -> bytes:
        shard = bisect_right(self._starts, number) - 1
        row, ends = number - self._starts[shard], self._ends[shard]
        return self._lists[shard][int(ends[row - 1]) + 1 if row else 0 : int(ends[row])]

    def _insert(self, hashes: np.ndarray, first: int) -> None:
        """Put keys into the table; the number of the first one is ``first``."""
        mask = np.uint64(len(self._slots) - 1)
        numbers = np.arange(first + 1, first + 1 + len(hashes), dtype=np.uint64)
        entries = (hashes & ~_LOW) | numbers
        places, waiting = hashes & mask, np.arange(len(hashes))
        while waiting.size:
            at, mine = places[waiting], entries[waiting]
            free = self._slots[at] == 0
            self._slots[at[free]] = mine[free]  # of several keys for one slot the last one stays
            held = self._slots[at]
            for i in np.flatnonzero(((held ^ mine) >> _HALF == 0) & (held != mine)).tolist():
                self._check_differ(int(held[i] & _LOW) - 1, int(mine[i] & _LOW) - 1)
            waiting = waiting[held != mine]
            places[waiting] = (places[waiting] + _ONE) & mask

    def _check_differ(self, one: int, two: int) -> None:
        if (key := self._key(one)) != self._key(two):
            return
        shards = {bisect_right(self._starts, number) for number in (one, two)}
        where = "occurs twice" if len(shards) == 1 else "is in another shard too"
        raise ValueError(f"{key.decode()} {where}")


def _slots(count: int) -> int:
    """Return the size of the table for a number of keys: a power of two, at most half full."""
    return max(_MIN_SLOTS, 1 << (2 * count - 1).bit_length())


def _hashes(content: bytes, count: int) -> np.ndarray:
    """Return the hash of each key of a key list, uint64."""
    keys = content.split(b"\n")
    return np.fromiter(map(hash, keys), np.int64, count + 1)[:-1].view(np.uint64)
