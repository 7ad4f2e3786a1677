"""Reading a feature cache."""

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from multispace.data.cache.feature_rows import non_finite_rows
from multispace.data.cache.format.failure_list import read_failures
from multispace.data.cache.format.listed_file import CheckedFile, read_entry
from multispace.data.cache.format.manifest import Manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.format.shard import Shard, open_rows, open_shard
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.key_index import KeyIndex
from multispace.data.cache.shard_index import (
    add_key_list,
    add_keys,
    check_fingerprint,
    check_keys_agree,
    find_keys,
)
from multispace.data.captions.encoded_captions import Captions, parse_captions
from multispace.data.captions.vocabulary import Vocabulary
from multispace.errors import (
    CacheError,
    CaptionsError,
    MissingFeatureError,
    ShardError,
    VocabularyError,
    brief,
    shown,
)

_FEW = 100  # keys are few if the cache has more than so many for each of them


@dataclass(frozen=True)
class Cache:
    """A cache to read from.

    A shard is checked at its first use. No descriptor is kept open, however many there are.
    Reading never changes a file of the cache.
    """

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
            raise CacheError(
                "holds no features",
                where=self.root,
                hint="run `multispace preprocess` with --images",
            )
        return self.manifest.spec

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, each checked against its digest and its key list.

        :raises DamagedFileError: a shard is missing, or not the bytes that the manifest lists.
        :raises ShardError: a shard does not keep to the format, or is of another spec.
        """
        if self._has_key_lists:
            _ = self.rows  # checks that no key is in two shards
        with ThreadPoolExecutor() as pool:  # mostly hashing, which runs outside Python's lock
            return tuple(pool.map(self.shard, range(len(self.manifest.shards))))

    @cached_property
    def rows(self) -> KeyIndex:
        """Map each key to its shard number and row number; no vectors are read for it.

        :raises DamagedFileError: a key list is missing, or not the bytes that the manifest lists.
        :raises ShardError: a key is in two shards, or a key list is not that of its shard.
        """
        index = KeyIndex(self.manifest.rows)
        for number, entry in enumerate(self.manifest.shards):
            if entry.keys is not None:
                add_key_list(index, self.root, entry)
            else:  # version 1
                add_keys(index, self.shard(number))
        return index

    @cached_property
    def failures(self) -> dict[str, str]:
        """Map the key of each image that has no vector to the reason.

        :raises CacheError: the file of failures is damaged.
        """
        return read_failures(self.root, self.manifest)

    def shard(self, number: int) -> Shard:
        """Return a shard, checked against its digest and its key list.

        :raises DamagedFileError: it is missing, or not the bytes that the manifest lists.
        :raises ShardError: it does not keep to the format, or is of another spec.
        """
        if (held := self._opened.get(number)) is not None:
            return held
        entry = self.manifest.shards[number]
        shard = open_shard(self.root, entry)
        check_fingerprint(self.spec, shard.spec, shard.path)
        if entry.keys is not None:
            indexed = "rows" in vars(self)  # then the list was read already
            content = self.rows.key_list(number) if indexed else read_entry(self.root, entry.keys)
            check_keys_agree(content, entry.keys, shard)
        return self._opened.setdefault(number, shard)

    @cached_property
    def _opened(self) -> dict[int, Shard]:
        return {}

    @property
    def _has_key_lists(self) -> bool:
        return all(entry.keys is not None for entry in self.manifest.shards)

    def features(self, keys: Sequence[str]) -> np.ndarray:
        """Return the vectors of ``keys``, (len(keys), D), in the widest storage type present.

        Only the shards that hold them are read.

        :raises CacheError: the cache holds captions only.
        :raises MissingFeatureError: a key has no vector; names the first one and its reason.
        :raises ShardError: a vector is not finite.
        :raises DamagedFileError: a shard was changed since it was checked.
        """
        _ = self.spec  # a cache without features has none of the keys
        places = self.find(keys)
        if (absent := np.flatnonzero(places[:, 0] < 0)).size:
            first = keys[int(absent[0])]
            raise MissingFeatureError(
                f"{len(absent)} images have no vector, the first is {first}{self._reason(first)}",
                where=self.root,
                hint="run `multispace preprocess` on them",
            )
        return self.read(keys, places)

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """Return the shard number and row number of each key, (N, 2) int64; -1 where it is not.

        The index of all keys is made when many are asked for, or a second time.

        :raises DamagedFileError: a key list is missing, or not the bytes that the manifest lists.
        :raises ShardError: a key is in two shards, or a key list is not that of its shard.
        """
        first = not (self._files or self._opened or "rows" in vars(self))
        if first and self._has_key_lists and len(keys) * _FEW < self.manifest.rows:
            return find_keys(self.root, self.manifest.shards, keys)
        return self.rows.find(keys)

    def read(self, keys: Sequence[str], places: np.ndarray) -> np.ndarray:
        """Return the vectors of ``keys`` at the places that :meth:`find` returned, (N, D).

        :param places: none of them -1
        :raises CacheError: the cache holds captions only.
        :raises ShardError: a vector is not finite, or a row has another key than its key list.
        :raises DamagedFileError: a shard is damaged, or was changed since it was checked.
        """
        gathered = np.empty((len(places), self.spec.dimension), self.dtype)

        def gather(number: int) -> None:
            here = np.flatnonzero(places[:, 0] == number)
            self._gather(number, keys, places[here, 1], gathered, here)

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(gather, np.unique(places[:, 0]).tolist()):
                pass
        return gathered

    @property
    def dtype(self) -> np.dtype[Any]:
        """The widest storage type present."""
        listed = {entry.dtype for entry in self.manifest.shards}
        if None in listed:  # version 1
            listed = {shard.spec.dtype for shard in self.shards}
        return np.result_type(self.spec.dtype, *(np.dtype(name) for name in listed))

    def _gather(
        self,
        number: int,
        keys: Sequence[str],
        rows: np.ndarray,
        gathered: np.ndarray,
        here: np.ndarray,
    ) -> None:
        """Copy rows of one shard to the places ``here`` of ``gathered``.

        :param keys: those of all places
        :param here: ascending
        """
        entry = self.manifest.shards[number]
        file = self._file(number)
        spec, features = open_rows(file, entry, rows, [keys[place] for place in here.tolist()])
        check_fingerprint(self.spec, spec, file.path)
        consecutive = np.ptp(here) == len(here) - 1 and np.array_equal(
            rows, rows[0] + np.arange(len(rows))
        )
        if consecutive and features.dtype == gathered.dtype:
            part = gathered[here[0] : here[-1] + 1]
            features.read_into(part, int(rows[0]))  # no copy in between
        else:
            part = gathered[here] = features[rows]
        if (bad := non_finite_rows(part)).size:
            raise ShardError(
                f"the vector of {keys[int(here[bad[0]])]} is not finite",
                where=file.path,
                hint=f"`multispace cache repair {shlex.quote(str(self.root))}` takes it out",
            )

    def _file(self, number: int) -> CheckedFile:
        """Return the file of a shard, always the same one, which keeps what it checked."""
        if (shard := self._opened.get(number)) is not None:
            return shard.features.file
        entry = self.manifest.shards[number]
        return self._files.setdefault(number, CheckedFile(self.root, entry))

    @cached_property
    def _files(self) -> dict[int, CheckedFile]:
        return {}

    def vocabulary(self) -> Vocabulary:
        """Return the cache's vocabulary.

        :raises VocabularyError: there is none, or it is damaged.
        """
        entry = self.manifest.vocabulary
        if entry is None:
            raise VocabularyError(
                "no vocabulary",
                where=self.root,
                hint="run `multispace preprocess` on a training split (--split train)",
            )
        return Vocabulary.parse(read_entry(self.root, entry), self.root / entry.file)

    def captions(self, split: str) -> Captions:
        """Return the encoded captions of ``split``.

        :raises CaptionsError: there is no such split, or its file is damaged or was encoded with
            another vocabulary.
        """
        entry = self.manifest.captions.get(split)
        if entry is None:
            known = ", ".join(self.manifest.captions) or "none"
            raise CaptionsError(
                f"no captions of split {split!r}", where=self.root, hint=f"there are: {known}"
            )
        path = self.root / entry.file
        captions = parse_captions(read_entry(self.root, entry), path, self.vocabulary())
        if captions.split != split:
            raise CaptionsError(
                f"holds split {shown(captions.split)}, not {split!r}",
                where=path,
                hint="run `multispace preprocess` on the split again",
            )
        return captions

    def _reason(self, key: str) -> str:
        reason = self.failures.get(key)
        return f" ({brief(reason)})" if reason else ""
