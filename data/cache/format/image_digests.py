"""The digests of the images of a cache, read from its shards when they are asked for."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from multispace.data.cache.format.shard import Shard
from multispace.data.cache.key_index import KeyIndex


class ImageDigests(Mapping[str, bytes]):
    """Maps the key of each vector to the SHA-256 (32 bytes) of its image.

    Which keys there are is known without opening a shard.

    :param open_shard: opens and checks a shard, by its number
    """

    def __init__(self, index: KeyIndex, open_shard: Callable[[int], Shard]) -> None:
        self._index = index
        self._open_shard = open_shard
        self._held: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __getitem__(self, key: str) -> bytes:
        shard, row = self._index[key]
        if shard not in self._held:
            self._held[shard] = self._open_shard(shard).image_sha256
        digest: bytes = self._held[shard][row].tobytes()
        return digest
