"""Checking a cache: every byte against the manifest, then what the bytes say.

Nothing is written, and a file whose digest is wrong is never parsed.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from multispace.data.cache.format.failure_list import parse_failures
from multispace.data.cache.format.keys import is_key, parse_key_list
from multispace.data.cache.format.listed_file import UNLINK_HINT, Entry, check_size, read_entry
from multispace.data.cache.format.manifest import NAME, SHARD_FILE, Manifest
from multispace.data.cache.format.manifest_reader import (
    check_is_cache,
    parse_manifest,
    read_manifest_bytes,
)
from multispace.data.cache.format.shard import Shard, ShardEntry, read_shard
from multispace.data.cache.unlisted import unlisted_damage
from multispace.data.captions.encoded_captions import parse_captions
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.maintenance.hints import encode_hint, repair_hint
from multispace.data.watch import Watch, counter
from multispace.errors import CacheError, CaptionsError, VocabularyError, brief, shown
from multispace.exit_status import FAILED

THREADS = 2  # hashing runs outside Python's lock; more threads than disks gain nothing


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file (relative to the cache), and what to do about it."""

    file: str
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.hint}"


@dataclass(frozen=True)
class Verification:
    """Result of a check of a cache.

    ``files``, ``rows`` and ``bytes`` count what the manifest lists, and the manifest itself;
    ``notes`` are worth knowing and are not faults.
    """

    cache: Path
    quick: bool
    files: int
    rows: int
    bytes: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "cache": str(self.cache)}

    @property
    def exit_status(self) -> int:
        """1 if there are faults."""
        return FAILED if self.faults else 0

    def render(self) -> str:
        """Return the faults, one a line, and a summary."""
        how = "looked at" if self.quick else "checked"
        return "\n".join(
            (
                *(f"fault: {brief(fault)}" for fault in self.faults),
                f"{self.files} files, {self.rows} vectors, {self.bytes / 1e6:.1f} MB {how}: "
                f"{len(self.faults)} faults",
            )
        )


def verify_cache(root: Path, *, quick: bool = False, watch: Watch | None = None) -> Verification:
    """Check the cache at ``root`` against its manifest.

    :param quick: check only the manifest and the sizes of the files that it lists
    :param watch: called with the bytes of the files that the manifest lists
    :raises CacheError: there is no cache at ``root``.
    """
    check_is_cache(root)
    try:
        content = read_manifest_bytes(root)
        manifest = parse_manifest(content, str(root / NAME), repair_hint(root))
    except CacheError as error:
        hint = error.hint if os.path.lexists(root / NAME) else None
        fault = Fault(NAME, error.what, hint or repair_hint(root))
        return Verification(root, quick, 1, 0, 0, (fault,), ())
    listed = list(manifest.files())
    size = sum(entry.bytes for entry in listed)
    check = _Check(root, manifest, quick, counter(size, watch))
    check.run()
    return Verification(
        root,
        quick,
        files=1 + len(listed),
        rows=check.rows,
        bytes=len(content) + size,
        faults=tuple(check.faults),
        notes=tuple(check.notes),
    )


@dataclass
class _Check:
    """Collects the faults of one cache."""

    root: Path
    manifest: Manifest
    quick: bool
    count: Callable[[int], None]  # called with the bytes of each file that is read
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)  # key to the shard that has it
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.repair = repair_hint(self.root)
        self.extract = f"{self.repair[:-1]} --images DIR`"

    def run(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            results = pool.map(self._read, self.manifest.shards)
            for entry, (wrong, shard) in zip(self.manifest.shards, results, strict=True):
                self.rows += entry.rows
                for what, hint in wrong:
                    self._fault(entry.file, what, hint)
                if entry.keys is not None:
                    self._key_list(entry.keys, shard)
                if shard is not None:
                    self._keys(entry.file, shard)
        self._key_list_1()
        self._failures()
        self._captions(self._vocabulary())
        self._unlisted()

    def _fault(self, file: str, what: str, hint: str) -> None:
        self.faults.append(Fault(file, what, hint))

    def _content(self, entry: Entry, hint: str) -> bytes | None:
        """Return the bytes of a listed file; record a fault if they are not those listed."""
        try:
            if not self.quick:
                return read_entry(self.root, entry)
            check_size(self.root, entry)
        except CacheError as error:
            self._fault(entry.file, error.what, UNLINK_HINT if _is_link(error) else hint)
        except OSError as error:
            self._fault(entry.file, f"cannot be read ({error.strerror})", hint)
        finally:
            self.count(entry.bytes)
        return None

    def _read(self, entry: ShardEntry) -> tuple[list[tuple[str, str]], Shard | None]:
        """Return faults of a shard with their hints, and the shard if it could be opened."""
        try:
            if self.quick:
                check_size(self.root, entry)
                return [], None
            shard = read_shard(self.root, entry)
            bad = shard.features.non_finite()
        except CacheError as error:
            return [(error.what, UNLINK_HINT if _is_link(error) else self.extract)], None
        except OSError as error:
            return [(f"cannot be read ({error.strerror})", self.extract)], None
        finally:
            self.count(entry.bytes)
        wrong = []
        if len(shard) != entry.rows:
            wrong.append(f"{len(shard)} rows, the manifest says {entry.rows}")
        if entry.dtype not in (None, shard.spec.dtype):
            wrong.append(f"{shard.spec.dtype} vectors, the manifest says {entry.dtype}")
        assert self.manifest.spec is not None  # the manifest has none without a spec
        if shard.spec.fingerprint != self.manifest.spec.fingerprint:
            differences = "; ".join(self.manifest.spec.differences(shard.spec))
            wrong.append(f"vectors made differently: {differences} (manifest and shard)")
        if bad.size:
            wrong.append(
                f"{bad.size} vectors are not finite, the first is that of {shard.keys[bad[0]]}"
            )
        return [(what, self.extract) for what in wrong], shard

    def _keys(self, file: str, shard: Shard) -> None:
        repeated = [key for key in shard.keys if key in self.places]
        if repeated:
            what = f"{len(repeated)} keys are in another shard too, the first is {repeated[0]} in "
            self._fault(file, what + self.places[repeated[0]], self.repair)
        self.places.update(dict.fromkeys(shard.keys, file))

    def _key_list(self, entry: Entry, shard: Shard | None) -> None:
        content = self._content(entry, self.repair)
        if content is not None and shard is not None and content != shard.key_list:
            self._fault(entry.file, "not the keys of its shard", self.repair)

    def _key_list_1(self) -> None:
        """Check the only key list of a cache of version 1."""
        if (entry := self.manifest.key_list_1) is None:
            return
        content = self._content(entry, self.repair)
        all_read = len(self.places) == self.manifest.rows
        if content is not None and all_read and parse_key_list(content) != list(self.places):
            self._fault(entry.file, "not the keys of the shards in their order", self.repair)

    def _failures(self) -> None:
        file, self.failures = NAME, dict(self.manifest.failures_1)
        if (entry := self.manifest.failures) is not None:
            file = entry.file
            if (content := self._content(entry, self.repair)) is None:
                return
            try:
                self.failures = parse_failures(content, self.root / file)
            except CacheError as error:
                self._fault(file, error.what, self.repair)
        for key in self.failures:
            if not is_key(key):
                self._fault(
                    file, f"failures names {shown(key)}, which is no image's key", self.repair
                )
            elif key in self.places and self.manifest.version == 1:
                self._fault(file, f"failures names {key}, which has a vector", self.repair)
            elif key in self.places:
                self.notes.append(f"{file}: names {key}, which has a vector by now")

    def _vocabulary(self) -> Vocabulary | None:
        entry = self.manifest.vocabulary
        if entry is None:
            return None
        hint = f"{self.repair}, then {encode_hint(self.root, 'train', ' --captions-only')}"
        if (content := self._content(entry, hint)) is not None:
            try:
                return Vocabulary.parse(content, self.root / entry.file)
            except VocabularyError as error:
                self._fault(entry.file, error.what, hint)
        return None

    def _captions(self, vocabulary: Vocabulary | None) -> None:
        for split, entry in self.manifest.captions.items():
            hint = encode_hint(self.root, split, " --captions-only")
            if (content := self._content(entry, hint)) is None:
                continue
            if self.manifest.vocabulary is None:
                self._fault(entry.file, "its vocabulary is not listed", self.repair)
            try:
                captions = parse_captions(content, self.root / entry.file, vocabulary)
            except CaptionsError as error:
                self._fault(entry.file, error.what, hint)
                continue
            if captions.split != split:
                self._fault(entry.file, f"holds split {shown(captions.split)}, not {split!r}", hint)
            have = self.places.keys() | self.failures.keys()
            if absent := [key for key in captions.keys if key not in have]:
                self.notes.append(
                    f"{entry.file}: {len(absent)} images have neither a readable vector nor a "
                    f"recorded failure, the first is {absent[0]}; "
                    + encode_hint(self.root, split, " --images DIR")
                )

    def _unlisted(self) -> None:
        listed = {entry.file for entry in self.manifest.files()}
        paths = (path for name in ("features", "captions") for path in (self.root / name).glob("*"))
        for path in sorted(paths):
            file = path.relative_to(self.root).as_posix()
            if file in listed:
                continue
            if not SHARD_FILE.fullmatch(file):
                self.notes.append(f"{file}: not listed, and no part of the cache")
            elif self.quick:
                self.notes.append(f"{file}: not listed; {self.repair} checks it")
            elif what := self._unlisted_damage(path):
                self._fault(file, f"not listed, and {what}", self.repair)
            else:
                self.notes.append(f"{file}: not listed yet, and whole; {self.repair} lists it")

    def _unlisted_damage(self, path: Path) -> str:
        try:
            return unlisted_damage(self.root, path)
        except CacheError as error:
            return error.what
        except OSError as error:
            return f"cannot be read ({error.strerror})"


def _is_link(error: CacheError) -> bool:
    return error.hint == UNLINK_HINT
