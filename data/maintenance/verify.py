"""Checking a cache: every byte against the manifest, then what the bytes say.

Nothing is written, and a file whose digest is wrong is never opened.
"""

import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from multispace.data.cache.encoded_captions import load_captions
from multispace.data.cache.keys import is_key, parse_key_list
from multispace.data.cache.listed_file import Entry
from multispace.data.cache.manifest import NAME, SHARD_FILE, Manifest, read_manifest
from multispace.data.cache.shard import Shard, ShardEntry, non_finite_rows, read_shard
from multispace.data.cache.vocabulary import Vocabulary
from multispace.data.maintenance.damage import damage, of_another_version, unlisted_damage
from multispace.errors import CacheError, CaptionsError, ShardError, VocabularyError, shown

THREADS = 2  # hashing runs outside Python's lock; more threads than disks gain nothing


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file (relative to the cache) and the command that mends it."""

    file: str
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.hint}"


@dataclass(frozen=True)
class Verification:
    """What was checked and what is wrong.

    ``files``, ``rows`` and ``bytes`` count what the manifest lists, and the manifest itself;
    ``notes`` are worth knowing and no faults.
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


def verify_cache(root: Path, *, quick: bool = False) -> Verification:
    """Check the cache at ``root`` against its manifest.

    :param quick: look only at the manifest and at the sizes of the files that it lists.
    :raises CacheError: there is no cache at ``root``.
    """
    if not any((root / name).exists() for name in (NAME, "features", "captions")):
        raise CacheError(f"{root}: not a cache; `preprocess --cache {root}` makes one")
    try:
        manifest = read_manifest(root)
    except CacheError as error:
        what, _, hint = str(error).removeprefix(f"{root / NAME}: ").rpartition("; ")
        if of_another_version(root / NAME):
            hint = "update this software"
        else:
            hint = f"`cache repair {shlex.quote(str(root))}`"
        return Verification(root, quick, 1, 0, 0, (Fault(NAME, what, hint),), ())
    check = _Check(root, manifest, quick)
    check.run()
    listed = list(_listed(manifest))
    return Verification(
        root,
        quick,
        files=1 + len(listed),
        rows=check.rows,
        bytes=(root / NAME).stat().st_size + sum(entry.bytes for entry in listed),
        faults=tuple(check.faults),
        notes=tuple(check.notes),
    )


def _listed(manifest: Manifest) -> Iterator[Entry]:
    yield from manifest.shards
    if manifest.vocabulary is not None:
        yield manifest.vocabulary
    if manifest.keys is not None:
        yield manifest.keys
    yield from manifest.captions.values()


@dataclass
class _Check:
    """One verification under way."""

    root: Path
    manifest: Manifest
    quick: bool
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)  # key to the shard that has it

    def __post_init__(self) -> None:
        cache = shlex.quote(str(self.root))
        self.repair = f"`cache repair {cache}`"
        self.extract = f"`cache repair {cache} --images DIR`"
        self.encode = f"`preprocess --annotations FILE --split {{}} --cache {cache}{{}}`"

    def run(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            results = pool.map(self._read, self.manifest.shards)
            for entry, (wrong, shard) in zip(self.manifest.shards, results, strict=True):
                self.rows += entry.rows
                for what in wrong:
                    self._fault(entry.file, what, self.extract)
                if shard is not None:
                    self._keys(entry.file, shard)
        self._key_list()
        self._failures()
        self._captions(self._vocabulary())
        self._unlisted()

    def _fault(self, file: str, what: str, hint: str) -> None:
        self.faults.append(Fault(file, what, hint))

    def _damage(self, entry: Entry) -> str:
        path = self.root / entry.file
        return _unless_unreadable(partial(damage, entry=entry, quick=self.quick), path)

    def _read(self, entry: ShardEntry) -> tuple[list[str], Shard | None]:
        """Return what is wrong with a shard, and the shard if it could be opened."""
        path = self.root / entry.file
        if (what := self._damage(entry)) or self.quick:
            return [what] if what else [], None
        try:
            shard = read_shard(path)
        except ShardError as error:
            return [_what(error, path)], None
        wrong = []
        if len(shard.keys) != entry.rows:
            wrong.append(f"{len(shard.keys)} rows, the manifest says {entry.rows}")
        assert self.manifest.spec is not None  # the manifest has none without a spec
        if shard.spec.fingerprint != self.manifest.spec.fingerprint:
            differences = "; ".join(self.manifest.spec.differences(shard.spec))
            wrong.append(f"vectors made otherwise: {differences} (manifest and shard)")
        if (bad := non_finite_rows(shard.features)).size:
            wrong.append(
                f"{bad.size} vectors are not finite, the first is that of {shard.keys[bad[0]]}"
            )
        return wrong, shard

    def _keys(self, file: str, shard: Shard) -> None:
        twice = [key for key in shard.keys if key in self.places]
        if twice:
            where = self.places[twice[0]]
            what = f"{len(twice)} keys are in another shard too, the first is {twice[0]} in {where}"
            self._fault(file, what, self.repair)
        self.places.update(dict.fromkeys(shard.keys, file))

    def _key_list(self) -> None:
        if (entry := self.manifest.keys) is None:
            return
        if what := self._damage(entry):
            self._fault(entry.file, what, self.repair)
        elif len(self.places) == self.manifest.rows and (  # all shards could be read
            parse_key_list((self.root / entry.file).read_bytes()) != list(self.places)
        ):
            self._fault(entry.file, "not the keys of the shards in their order", self.repair)

    def _failures(self) -> None:
        for key in self.manifest.failures:
            if not is_key(key):
                self._fault(
                    NAME, f"failures names {shown(key)}, which is no image's key", self.repair
                )
            elif key in self.places:
                self._fault(NAME, f"failures names {key}, which has a vector", self.repair)

    def _vocabulary(self) -> Vocabulary | None:
        entry = self.manifest.vocabulary
        if entry is None:
            return None
        path = self.root / entry.file
        hint = f"{self.repair}, then {self.encode.format('train', ' --captions-only')}"
        if what := self._damage(entry):
            self._fault(entry.file, what, hint)
        elif not self.quick:
            try:
                return Vocabulary.load(path)
            except VocabularyError as error:
                self._fault(entry.file, _what(error, path), hint)
        return None

    def _captions(self, vocabulary: Vocabulary | None) -> None:
        for split, entry in self.manifest.captions.items():
            path = self.root / entry.file
            hint = self.encode.format(split, " --captions-only")
            if what := self._damage(entry):
                self._fault(entry.file, what, hint)
            if what or self.quick:
                continue
            if self.manifest.vocabulary is None:
                self._fault(entry.file, "its vocabulary is not listed", self.repair)
            try:
                captions = load_captions(path, vocabulary)
            except CaptionsError as error:
                self._fault(entry.file, _what(error, path), hint)
                continue
            if captions.split != split:
                self._fault(entry.file, f"holds split {shown(captions.split)}, not {split!r}", hint)
            have = self.places.keys() | self.manifest.failures.keys()
            if absent := [key for key in captions.keys if key not in have]:
                self.notes.append(
                    f"{entry.file}: {len(absent)} images have neither a readable vector nor a "
                    f"recorded failure, the first is {absent[0]}; "
                    + self.encode.format(split, " --images DIR")
                )

    def _unlisted(self) -> None:
        listed = {entry.file for entry in _listed(self.manifest)}
        paths = (path for name in ("features", "captions") for path in (self.root / name).glob("*"))
        for path in sorted(paths):
            file = path.relative_to(self.root).as_posix()
            if file in listed:
                continue
            if not SHARD_FILE.fullmatch(file):
                self.notes.append(f"{file}: not listed, and no part of the cache")
            elif self.quick:
                self.notes.append(f"{file}: not listed; {self.repair} checks it")
            elif what := _unless_unreadable(unlisted_damage, path):
                self._fault(file, f"not listed, and {what}", self.repair)
            else:
                self.notes.append(f"{file}: not listed yet, and whole; {self.repair} takes it in")


def _unless_unreadable(look: Callable[[Path], str], path: Path) -> str:
    try:
        return look(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _what(error: Exception, path: Path) -> str:
    """Return an error's text without the file before it and the general mend after it."""
    return str(error).removeprefix(f"{path}: ").rpartition("; ")[0]
