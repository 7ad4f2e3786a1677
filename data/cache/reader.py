"""A feature cache: opening it to read, and the one writer that may extend it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from multispace.data.cache.encoded_captions import Captions, load_captions
from multispace.data.cache.listed_file import check_entry
from multispace.data.cache.manifest import Manifest, read_manifest
from multispace.data.cache.shard import Shard, non_finite_rows, open_shard
from multispace.data.cache.spec import FeatureSpec
from multispace.data.cache.vocabulary import Vocabulary
from multispace.errors import (
    CacheError,
    CaptionsError,
    MissingFeatureError,
    ShardError,
    VocabularyError,
    brief,
    shown,
)


@dataclass(frozen=True)
class Cache:
    """A cache to read from. Shards are checked and mapped at first use, once a process."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, root: Path) -> "Cache":
        """Open the cache at ``root``.

        :raises CacheError: there is none, or its manifest is damaged.
        """
        return cls(root, read_manifest(root))

    @property
    def spec(self) -> FeatureSpec:
        """How the vectors were made.

        :raises CacheError: the cache holds captions only.
        """
        if self.manifest.spec is None:
            raise CacheError(f"{self.root}: holds no features; run `preprocess` with --images")
        return self.manifest.spec

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, each checked against its digest.

        :raises DamagedFileError: a shard is missing, or not the bytes that the manifest lists.
        :raises ShardError: a shard does not keep to the format, or is of another spec.
        """
        with ThreadPoolExecutor() as pool:  # most of it is hashing, which threads do side by side
            shards = tuple(pool.map(partial(open_shard, self.root), self.manifest.shards))
        for shard in shards:
            _same_meaning(self.spec, shard)
        return shards

    @cached_property
    def rows(self) -> Mapping[str, tuple[int, int]]:
        """Key to (shard number, row number)."""
        return _index(self.shards)

    def features(self, keys: Sequence[str]) -> np.ndarray:
        """Return the vectors of ``keys``, (len(keys), D), in the widest storage type present.

        :raises CacheError: the cache holds captions only.
        :raises MissingFeatureError: a key has no vector; names the first and the mend.
        :raises ShardError: a vector is not finite.
        """
        spec = self.spec
        absent = [key for key in keys if key not in self.rows]
        if absent:
            raise MissingFeatureError(
                f"{self.root}: {len(absent)} images have no vector, the first is {absent[0]}"
                f"{self._reason(absent[0])}; run `preprocess` on them"
            )
        dtype = np.result_type(spec.dtype, *(shard.features.dtype for shard in self.shards))
        gathered = np.empty((len(keys), spec.dimension), dtype)
        places = np.array([self.rows[key] for key in keys], dtype=np.int64).reshape(-1, 2)

        def gather(number: int) -> None:
            here = np.flatnonzero(places[:, 0] == number)
            if not here.size:
                return
            features, rows = self.shards[number].features, places[here, 1]
            if np.ptp(here) == len(here) - 1 and np.array_equal(
                rows, rows[0] + np.arange(len(rows))
            ):
                part = gathered[here[0] : here[-1] + 1]
                part[:] = features[rows[0] : rows[-1] + 1]  # no copy between
            else:
                part = gathered[here] = features[rows]
            if (bad := non_finite_rows(part)).size:
                raise ShardError(
                    f"{self.shards[number].path}: the vector of {keys[here[bad[0]]]} is not "
                    f"finite; `cache repair {self.root}` takes it out"
                )
            self.shards[number].forget()  # or all of it would be in memory twice

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(gather, range(len(self.shards))):
                pass
        return gathered

    def vocabulary(self) -> Vocabulary:
        """Return the cache's vocabulary.

        :raises VocabularyError: there is none, or it is damaged.
        """
        entry = self.manifest.vocabulary
        if entry is None:
            raise VocabularyError(
                f"{self.root}: no vocabulary; `preprocess` a training split (--split train)"
            )
        return Vocabulary.load(check_entry(self.root, entry))

    def captions(self, split: str) -> Captions:
        """Return the encoded captions of ``split``.

        :raises CaptionsError: no such split, damaged, or encoded with another vocabulary.
        """
        entry = self.manifest.captions.get(split)
        if entry is None:
            known = ", ".join(self.manifest.captions) or "none"
            raise CaptionsError(f"{self.root}: no captions of split {split!r}; there are: {known}")
        captions = load_captions(check_entry(self.root, entry), self.vocabulary())
        if captions.split != split:
            raise CaptionsError(
                f"{self.root / entry.file}: holds split {shown(captions.split)}, not {split!r}; "
                "preprocess the split again"
            )
        return captions

    def _reason(self, key: str) -> str:
        reason = self.manifest.failures.get(key)
        return f" ({brief(reason)})" if reason else ""


def _index(shards: Sequence[Shard]) -> dict[str, tuple[int, int]]:
    rows = {key: (s, r) for s, shard in enumerate(shards) for r, key in enumerate(shard.keys)}
    if len(rows) != sum(len(shard.keys) for shard in shards):
        seen: set[str] = set()
        for shard in shards:
            if twice := seen.intersection(shard.keys):
                raise ShardError(
                    f"{shard.path}: {min(twice)} is in another shard too; delete one of them"
                )
            seen.update(shard.keys)
    return rows


def _same_meaning(spec: FeatureSpec, shard: Shard) -> None:
    if shard.spec.fingerprint != spec.fingerprint:
        raise ShardError(
            f"{shard.path}: its vectors were made otherwise: "
            f"{'; '.join(spec.differences(shard.spec))} (cache and shard); delete it"
        )
