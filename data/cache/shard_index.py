"""What the shards of one cache must agree on: one fingerprint, and one row a key."""

from collections.abc import Sequence

from multispace.data.cache.shard import Shard
from multispace.data.cache.spec import FeatureSpec
from multispace.errors import ShardError

HINT = "run `multispace cache repair` on the cache"


def index_rows(shards: Sequence[Shard]) -> dict[str, tuple[int, int]]:
    """Return where each key is: shard number and row number.

    :raises ShardError: a key is in two shards.
    """
    rows = {key: (s, r) for s, shard in enumerate(shards) for r, key in enumerate(shard.keys)}
    if len(rows) == sum(len(shard.keys) for shard in shards):
        return rows
    seen: set[str] = set()
    for shard in shards:
        if repeated := seen.intersection(shard.keys):
            what = f"{min(repeated)} is in another shard too"
            raise ShardError(what, where=shard.path, hint=HINT)
        seen.update(shard.keys)
    raise AssertionError("unreachable")


def check_fingerprint(spec: FeatureSpec, shard: Shard) -> None:
    """Check that the vectors of a shard were made as ``spec`` says.

    :raises ShardError: they were not; names the fields that differ.
    """
    if shard.spec.fingerprint != spec.fingerprint:
        differences = "; ".join(spec.differences(shard.spec))
        raise ShardError(
            f"its vectors were made differently: {differences} (cache and shard)",
            where=shard.path,
            hint=HINT,
        )
