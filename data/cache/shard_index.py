"""What the shards of one cache must agree on: one fingerprint, and one row a key."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multispace.data.cache.format.keys import check_key_list
from multispace.data.cache.format.listed_file import Entry, read_entry
from multispace.data.cache.format.shard import Shard, ShardEntry
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.key_index import KeyIndex
from multispace.errors import ShardError

HINT = "run `multispace cache repair` on the cache"


def add_key_list(index: KeyIndex, root: Path, entry: ShardEntry) -> None:
    """Add the keys of the next shard, which its key list gives.

    :raises DamagedFileError: the key list is missing, or not the bytes that the manifest lists.
    :raises ShardError: it is no key list of this shard, or a key is in another shard too.
    """
    assert entry.keys is not None
    content, where = read_entry(root, entry.keys), root / entry.keys.file
    try:
        check_key_list(content, entry.rows)
    except ValueError as error:
        raise ShardError(str(error), where=where, hint=HINT) from error
    _add(index, content, root / entry.file)


def find_keys(root: Path, entries: Sequence[ShardEntry], keys: Sequence[str]) -> np.ndarray:
    """Find keys in the key lists of shards, without an index: faster for few keys.

    :returns: the shard number and row number of each key, (N, 2) int64; -1 where it is not
    :raises DamagedFileError: a key list is missing, or not the bytes that the manifest lists.
    :raises ShardError: one of the keys occurs twice.
    """
    wanted = [key.encode(errors="surrogatepass") for key in keys]
    distinct = frozenset(wanted)
    places: dict[bytes, tuple[int, int]] = {}
    for number, entry in enumerate(entries):
        assert entry.keys is not None
        content = b"\n" + read_entry(root, entry.keys)
        for key in distinct.intersection(content.split(b"\n")[1:-1]):
            line = b"\n%b\n" % key
            start = content.index(line)
            twice = content.find(line, start + 1) >= 0
            if twice or key in places:
                where = "occurs twice" if twice else "is in another shard too"
                raise ShardError(f"{key.decode()} {where}", where=root / entry.file, hint=HINT)
            places[key] = number, content.count(b"\n", 0, start)
    return np.array([places.get(key, (-1, -1)) for key in wanted], np.int64).reshape(-1, 2)


def add_keys(index: KeyIndex, shard: Shard) -> None:
    """Add the keys of the next shard, which the shard itself gives.

    :raises ShardError: a key is in another shard too.
    """
    _add(index, shard.key_list, shard.path)


def _add(index: KeyIndex, content: bytes, where: Path) -> None:
    try:
        index.add(content)
    except ValueError as error:
        raise ShardError(str(error), where=where, hint=HINT) from error


def check_keys_agree(content: bytes, entry: Entry, shard: Shard) -> None:
    """Check that a key list has the keys of its shard, in their order.

    :param content: the key list; ``entry`` lists it
    :raises ShardError: it has other keys.
    """
    if content != shard.key_list:
        raise ShardError(
            f"its keys are not those of its key list {entry.file}", where=shard.path, hint=HINT
        )


def check_fingerprint(spec: FeatureSpec, of_shard: FeatureSpec, path: Path) -> None:
    """Check that the vectors of a shard were made as ``spec`` says.

    :param path: of the shard
    :raises ShardError: they were not; names the fields that differ.
    """
    if of_shard.fingerprint != spec.fingerprint:
        differences = "; ".join(spec.differences(of_shard))
        raise ShardError(
            f"its vectors were made differently: {differences} (cache and shard)",
            where=path,
            hint=HINT,
        )
