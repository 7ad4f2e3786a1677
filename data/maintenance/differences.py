"""Comparison of two caches: how they were made, what they hold, and how far vectors differ."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multispace.data.cache.format.keys import parse_key_list
from multispace.data.cache.format.spec import IMPORTED_UNSEEN, FeatureSpec
from multispace.data.cache.reader import Cache
from multispace.data.maintenance.hints import repair_hint
from multispace.errors import CacheError, brief
from multispace.long_lists import first_lines

WORST = 5

_ROWS = 4096  # compared together: 32 MB of each cache at 2048 numbers a vector


@dataclass(frozen=True)
class Field:
    """One value that both caches record; ``None`` where a cache has none."""

    name: str
    a: Any
    b: Any

    @property
    def same(self) -> bool:
        """Whether the two are equal."""
        return bool(self.a == self.b)


@dataclass(frozen=True)
class Cosine:
    """Cosine similarity of the vectors of the same images; ``worst`` has the lowest first."""

    minimum: float
    median: float
    worst: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CacheDifferences:
    """Result of a comparison of two caches.

    ``meaning`` holds the fields of the feature spec that change what a vector means, ``detail``
    the others. ``splits`` gives images and captions of each split. ``changed`` names the
    images in both whose bytes differ. ``cosine`` is None where it cannot be computed; a note
    says why.
    """

    a: Path
    b: Path
    meaning: tuple[Field, ...]
    detail: tuple[Field, ...]
    vocabulary: Field
    splits: tuple[Field, ...]
    both: int
    only_a: int
    only_b: int
    changed: tuple[str, ...]
    cosine: Cosine | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "a": str(self.a), "b": str(self.b)}

    def render(self) -> str:
        """Return a line for each field, marked by * where it differs, and a summary."""
        lines = [
            _line(title, row)
            for title, rows in (
                ("meaning", self.meaning),
                ("detail", self.detail),
                ("", (self.vocabulary,)),
                ("split", self.splits),
            )
            for row in rows
        ]
        lines.append(
            f"{self.both} images in both, {self.only_a} only in A, {self.only_b} only in B"
        )
        if self.cosine is not None:
            lowest, median = self.cosine.minimum, self.cosine.median
            lines.append(f"cosine: min {lowest:.6f}, median {median:.6f}")
            lines += [f"  {value:.6f}  {brief(key)}" for key, value in self.cosine.worst]
        return "\n".join(
            lines + first_lines([f"another image: {brief(key)}" for key in self.changed])
        )


def _line(title: str, row: Field) -> str:
    values = brief(row.a) if row.same else f"{brief(row.a)} | {brief(row.b)}"
    return f"{' ' if row.same else '*'} {title:8}{brief(row.name):26}{values}"


def compare_caches(a: Path, b: Path) -> CacheDifferences:
    """Compare the caches at ``a`` and ``b``.

    :raises DataError: one of them is missing or damaged, or holds a vector that is not finite.
    """
    first, second = Cache.open(a), Cache.open(b)
    specs = first.manifest.spec, second.manifest.spec
    meaning, detail = _spec_fields(*specs)
    both = sum(int((second.rows.find(keys)[:, 0] >= 0).sum()) for keys in _parts(first))
    notes = [f"{c.root}: holds no features" for c in (first, second) if c.manifest.spec is None]
    cosine = None
    changed: list[str] = []
    if both:
        assert specs[0] is not None
        assert specs[1] is not None
        alike = specs[0].dimension == specs[1].dimension
        keys, cosines, changed = _vectors(first, second, alike)
        if alike:
            cosine = _summary(keys, cosines)
        else:
            notes.append(
                f"vectors of {specs[0].dimension} and {specs[1].dimension} numbers have no cosine"
            )
        if IMPORTED_UNSEEN in (specs[0].origin, specs[1].origin):
            changed = []
            notes.append("the digests of the images of one are not known")
    elif None not in specs:
        notes.append("no image has a vector in both")
    return CacheDifferences(
        a,
        b,
        meaning,
        detail,
        Field("vocabulary", _vocabulary(first), _vocabulary(second)),
        _fields(_splits(first), _splits(second)),
        both=both,
        only_a=len(first.rows) - both,
        only_b=len(second.rows) - both,
        changed=tuple(sorted(changed)),
        cosine=cosine,
        notes=tuple(notes),
    )


def _parts(cache: Cache) -> Iterator[list[str]]:
    """Yield the keys of each shard."""
    for number in range(len(cache.manifest.shards)):
        yield parse_key_list(cache.rows.key_list(number))


def _spec_fields(
    a: FeatureSpec | None, b: FeatureSpec | None
) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """Return the fields of the fingerprint and the others, nested ones as ``transform.crop``."""
    specs = [spec for spec in (a, b) if spec is not None]
    meant = {"origin", *(name for spec in specs for name in _flat(spec.meaning))}
    rows = _fields(*(_flat(asdict(spec)) if spec else {} for spec in (a, b)))
    return (
        tuple(row for row in rows if row.name in meant),
        tuple(row for row in rows if row.name not in meant),
    )


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    flat = {}
    for name, held in value.items():
        inner = {f"{name}.{key}": v for key, v in held.items()} if isinstance(held, dict) else {}
        flat.update(inner or {name: held})
    return flat


def _fields(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Field, ...]:
    return tuple(Field(name, a.get(name), b.get(name)) for name in {**a, **b})


def _vocabulary(cache: Cache) -> str | None:
    return cache.vocabulary().digest if cache.manifest.vocabulary else None


def _splits(cache: Cache) -> dict[str, dict[str, int]]:
    held = {split: cache.captions(split) for split in cache.manifest.captions}
    return {s: {"pictures": c.images, "captions": len(c.texts)} for s, c in held.items()}


def _vectors(a: Cache, b: Cache, alike: bool) -> tuple[list[str], np.ndarray, list[str]]:
    """Compare the images in both caches, some rows of a shard of ``a`` at a time.

    :param alike: whether the vectors of both have one dimension
    :returns: their keys, their cosines (float32; none unless ``alike``), and the keys of those
        whose image files differ
    """
    keys: list[str] = []
    cosines, changed = [np.empty(0, np.float32)], []
    for shard in a.shards:
        found = b.rows.find(shard.keys)
        rows = np.flatnonzero(found[:, 0] >= 0).tolist()
        for start in range(0, len(rows), _ROWS):
            here = rows[start : start + _ROWS]
            names = [shard.keys[row] for row in here]
            keys += names
            places = found[here]
            differ = shard.image_sha256[here] != _gather(b, places, "image_sha256")
            changed += [names[i] for i in np.flatnonzero(differ.any(axis=1))]
            if alike:
                mine = _unit(a, names, shard.features[here])
                theirs = _unit(b, names, _gather(b, places, "features"))
                cosines.append(_cosine(mine, theirs))
    return keys, np.concatenate(cosines), changed


def _gather(cache: Cache, places: np.ndarray, name: str) -> np.ndarray:
    """Return rows of a shard's array ``name``, by (N, 2) shard and row numbers, in that order."""
    arrays = [getattr(shard, name) for shard in cache.shards]
    numbers = np.unique(places[:, 0])
    dtype = np.result_type(*(arrays[number].dtype for number in numbers))
    gathered = np.empty((len(places), arrays[0].shape[1]), dtype)
    for number in numbers:
        here = places[:, 0] == number
        gathered[here] = arrays[number][places[here, 1]]
    return gathered


def _unit(cache: Cache, keys: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Return (N, D) at unit length, float32; a vector of zeros stays one."""
    rows = rows.astype(np.float32)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(largest))
    if bad.size:
        raise CacheError(
            f"the vector of {keys[bad[0]]} is not finite",
            where=cache.root,
            hint=f"run {repair_hint(cache.root)}",
        )
    rows /= np.where(largest > 0, largest, 1)  # squares of large numbers would overflow
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)  # below 1 only for zeros
    return rows


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosines (N,) of unit vectors; of two vectors of zeros it is taken as 1."""
    cosine = np.einsum("nd,nd->n", a, b)
    cosine[~(a.any(axis=1) | b.any(axis=1))] = 1
    return cosine.clip(-1, 1)


def _summary(keys: Sequence[str], cosines: np.ndarray) -> Cosine:
    lowest = heapq.nsmallest(WORST, zip(cosines.tolist(), keys, strict=True))
    return Cosine(
        minimum=float(cosines.min()),
        median=float(np.median(cosines)),
        worst=tuple((key, value) for value, key in lowest),
    )
