"""Merging caches of one fingerprint, for example those that different labs made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import CacheWriter, write_cache
from multispace.data.captions.encoded_captions import Captions
from multispace.data.watch import Watch, counter
from multispace.errors import CacheError, brief
from multispace.long_lists import first_lines

# Two computations of one vector, in different precisions, stay this close; those of two images,
# or of other weights, do not.
MIN_COSINE = 0.9999
MAX_STRETCH = 0.01  # relative: a scaled vector is another one, although its cosine is 1

NAMED = 3  # conflicts in a message; all of them are in the error's list

_Place = tuple[int, int, int]  # cache, shard, row


@dataclass(frozen=True)
class Conflict:
    """A key of which two caches have different vectors or images."""

    key: str
    first: str
    second: str
    reason: str


class ConflictError(CacheError):
    """Caches that contradict each other; ``conflicts`` lists every key."""

    def __init__(self, what: str, where: Path, hint: str, conflicts: tuple[Conflict, ...]) -> None:
        super().__init__(what, where=where, hint=hint)
        self.conflicts = conflicts

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"conflicts": [asdict(conflict) for conflict in self.conflicts]}


@dataclass(frozen=True)
class LeftOut:
    """The captions of a split that were not taken over, and the reason."""

    cache: str
    split: str
    reason: str


@dataclass(frozen=True)
class Merged:
    """Result of a merge.

    ``identical`` and ``rounded`` count vectors that several caches have, the latter equal up to
    rounding. ``linked``, ``copied`` and ``rewritten`` count shards. ``settled`` are the conflicts
    that the preferred cache won.
    """

    into: str
    rows: int
    added: int
    identical: int
    rounded: int
    linked: int
    copied: int
    rewritten: int
    failures: int
    settled: tuple[Conflict, ...]
    splits: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def render(self) -> str:
        """Return the counts, and the conflicts that the preferred cache won."""
        settled = (f"settled: {c.key}: {c.first} before {c.second} ({c.reason})"
                   for c in self.settled)  # fmt: skip
        return "\n".join(
            (
                f"{self.rows} vectors in {self.into}, {self.added} of them new; {self.identical} "
                f"are identical in several caches, {self.rounded} are equal up to rounding",
                f"shards: {self.linked} linked, {self.copied} copied, {self.rewritten} rewritten",
                *first_lines([brief(line) for line in settled]),
            )
        )

    def messages(self) -> tuple[str, ...]:
        """Return a line for each split whose captions were left out."""
        return tuple(
            f"left out: split {entry.split!r} of {entry.cache}: {entry.reason}"
            for entry in self.left_out
        )


def merge_caches(
    sources: Sequence[Path],
    into: Path,
    prefer: Path | None = None,
    watch: Watch | None = None,
) -> Merged:
    """Merge the caches ``sources`` into ``into``, which may hold vectors already.

    A shard whose vectors are all new is taken whole, by a hard link where the file system allows
    it; of any other shard only the new vectors are written. Vectors that ``into`` has are never
    replaced. Nothing is written before all vectors are compared. A killed merge leaves a cache
    that the same call completes.

    :param prefer: the cache whose vectors win where they differ
    :param watch: called with twice the number of vectors: they are compared, then written
    :raises ConflictError: caches have different vectors of a key, and none is preferred.
    :raises CacheError: the fingerprints differ, or a cache is damaged or in use.
    """
    roots = {path.resolve(): path for path in sources}
    roots.pop(into.resolve(), None)
    if prefer is not None and prefer.resolve() not in {into.resolve(), *roots}:
        raise CacheError(
            "not one of the caches that are merged", where=f"--prefer {prefer}", hint="name one"
        )
    others = [Cache.open(root) for root in roots.values()]
    _check_meaning(others)
    with write_cache(into) as writer:
        caches = [Cache(into, writer.manifest), *others]
        _check_meaning(caches)
        count = counter(sum(2 * cache.manifest.rows for cache in caches), watch)
        plan = _compare(caches, prefer, count)
        before = len(writer.digests)
        counts = _write(writer, caches, plan.winners, count)
        now = Cache(into, writer.manifest)  # the first write may have converted it
        splits, left_out = _take_text(writer, [now, *others])
        _merge_failures(writer, others)
        return Merged(
            into=str(into),
            rows=len(writer.digests),
            added=len(writer.digests) - before,
            identical=plan.identical,
            rounded=plan.rounded,
            **counts,
            failures=len(writer.failures),
            settled=plan.settled,
            splits=splits,
            left_out=left_out,
        )


def _check_meaning(caches: Sequence[Cache]) -> None:
    with_rows = [cache for cache in caches if cache.manifest.spec is not None]
    for first, other in pairwise(with_rows):
        if differences := first.spec.differences(other.spec):
            raise CacheError(
                f"its vectors were made differently from those of {first.root}: "
                f"{'; '.join(differences)}",
                where=other.root,
                hint="only caches of one fingerprint are merged",
            )


@dataclass(frozen=True)
class _Plan:
    winners: Mapping[str, _Place]
    identical: int
    rounded: int
    settled: tuple[Conflict, ...]


def _compare(caches: Sequence[Cache], prefer: Path | None, count: Callable[[int], None]) -> _Plan:
    """Choose the row of each key that is kept; the first of ``caches`` is the one extended."""
    order = list(range(len(caches)))
    preferred = None
    if prefer is not None:
        preferred = [cache.root.resolve() for cache in caches].index(prefer.resolve())
        order.remove(preferred)
        order.insert(0, preferred)
    winners: dict[str, _Place] = {}
    identical = rounded = 0
    settled: list[Conflict] = []
    unsettled: list[Conflict] = []
    for place, key in (found for c in order for found in _places(c, caches[c], count)):
        winner = winners.setdefault(key, place)
        if winner is place:
            continue
        (one, digest), (two, other) = _row(caches, winner), _row(caches, place)
        if digest == other and np.array_equal(one, two):
            identical += 1
        elif digest == other and _is_rounding(one, two):
            rounded += 1
        else:
            reason = "another image" if digest != other else "another vector of the same image"
            first, second = str(caches[winner[0]].root), str(caches[place[0]].root)
            won = winner[0] == preferred and place[0] != 0  # what --into has is not replaced
            (settled if won else unsettled).append(Conflict(key, first, second, reason))
    if unsettled:
        named = "; ".join(
            f"{c.key} ({c.first} and {c.second}: {c.reason})" for c in unsettled[:NAMED]
        )
        more = f"; and {len(unsettled) - NAMED} more" if len(unsettled) > NAMED else ""
        raise ConflictError(
            f"{len(unsettled)} images have different vectors: {named}{more}",
            caches[0].root,
            "name the cache that wins with --prefer; vectors that are in --into already always win",
            tuple(unsettled),
        )
    return _Plan(winners, identical, rounded, tuple(settled))


def _places(
    number: int, cache: Cache, count: Callable[[int], None]
) -> Iterator[tuple[_Place, str]]:
    for s, shard in enumerate(cache.shards):
        for r, key in enumerate(shard.keys):
            yield (number, s, r), key
        count(len(shard))


def _row(caches: Sequence[Cache], place: _Place) -> tuple[np.ndarray, bytes]:
    """Return the vector (D,) and the digest of the image."""
    cache, shard, row = place
    held = caches[cache].shards[shard]
    return np.asarray(held.features[row]), held.image_sha256[row].tobytes()


def _is_rounding(one: np.ndarray, two: np.ndarray) -> bool:
    one, two = one.astype(np.float64), two.astype(np.float64)
    lengths = np.linalg.norm(one), np.linalg.norm(two)
    return bool(
        one @ two >= MIN_COSINE * lengths[0] * lengths[1]
        and abs(lengths[0] - lengths[1]) <= MAX_STRETCH * min(lengths)
    )


def _write(
    writer: CacheWriter,
    caches: Sequence[Cache],
    winners: Mapping[str, _Place],
    count: Callable[[int], None],
) -> dict[str, int]:
    count(caches[0].manifest.rows)  # they stay
    counts = {"linked": 0, "copied": 0, "rewritten": 0}
    for cache in caches[1:]:
        if cache.manifest.spec is not None:
            writer.begin(cache.spec)
    for c, cache in enumerate(caches[1:], start=1):
        entries = cache.manifest.shards
        for s, (shard, entry) in enumerate(zip(cache.shards, entries, strict=True)):
            rows = [
                r
                for r, key in enumerate(shard.keys)
                if winners[key] == (c, s, r) and key not in writer.digests
            ]
            if len(rows) == len(shard):
                counts["linked" if writer.take(shard, entry) else "copied"] += 1
            elif rows:
                keys = [shard.keys[r] for r in rows]
                digests, features = shard.image_sha256[rows], shard.features[rows]
                writer.append(shard.spec, keys, digests, features, {})
                counts["rewritten"] += 1
            count(len(shard))
    return counts


def _merge_failures(writer: CacheWriter, others: Sequence[Cache]) -> None:
    spec = writer.manifest.spec
    if spec is not None:
        failures: dict[str, str] = {}
        for cache in reversed(others):  # the reason in the first cache wins
            failures |= cache.failures
        failures |= writer.failures
        nothing = np.empty((0, 32), np.uint8), np.empty((0, spec.dimension), np.float32)
        writer.append(spec, [], *nothing, failures)


def _take_text(
    writer: CacheWriter, caches: Sequence[Cache]
) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """Take the first vocabulary, and each split that was encoded with it, from its first cache."""
    taken: dict[str, Captions] = {}
    left_out: list[LeftOut] = []
    digest = None
    for cache in caches:
        if cache.manifest.vocabulary is None:
            continue
        vocabulary = cache.vocabulary()
        digest = digest or vocabulary.digest
        if writer.manifest.vocabulary is None:
            writer.put_vocabulary(vocabulary)
        for split in cache.manifest.captions:
            if vocabulary.digest != digest:
                reason = "encoded with another vocabulary"
            elif split not in taken:
                taken[split] = cache.captions(split)
                if split not in writer.manifest.captions:
                    writer.put_captions(taken[split])
                continue
            elif _same(taken[split], cache.captions(split)):
                continue
            else:
                reason = "another split of that name comes before it"
            left_out.append(LeftOut(str(cache.root), split, reason))
    return tuple(taken), tuple(left_out)


def _same(one: Captions, two: Captions) -> bool:
    plain = [
        (c.keys, c.image_ids, c.texts, c.factors, c.image.tolist(), c.tokens.tolist())
        for c in (one, two)
    ]
    return plain[0] == plain[1]
