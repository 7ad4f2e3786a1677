"""Taking damaged files out of a cache, so that it can be written to again.

Nothing is deleted: what is damaged or does not belong is moved into the folder ``damaged`` of
the cache, where no command reads it.
"""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from multispace.data.cache.conversion import convert
from multispace.data.cache.format.failure_list import read_failures
from multispace.data.cache.format.keys import is_key, parse_key_list
from multispace.data.cache.format.listed_file import UNLINK_HINT, Entry, describe, read_entry
from multispace.data.cache.format.manifest import KEY_LIST_FILE, NAME, Manifest, write_manifest
from multispace.data.cache.format.manifest_reader import (
    check_is_cache,
    is_other_version,
    read_manifest,
    read_manifest_bytes,
)
from multispace.data.cache.format.shard import Shard, ShardEntry, read_shard, write_shard
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.lock import lock_cache
from multispace.data.cache.unlisted import remove_replaced, unlisted_damage, unlisted_shards
from multispace.data.captions.encoded_captions import parse_captions
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.maintenance.text_files import find_text
from multispace.errors import (
    CacheError,
    CaptionsError,
    DamagedFileError,
    ShardError,
    VocabularyError,
    shown,
)

FOLDER = "damaged"
NOT_FINITE = "its vector was not finite"
LOST = "its vector was lost with its shard"


@dataclass(frozen=True)
class Settled:
    """Result of :func:`settle_damage`.

    ``done`` and ``left`` are lines for the user: what was done, and what is left to do.
    ``rebuilt`` says that there was no whole manifest. ``known`` has the keys that whole captions
    name. ``lost`` counts the vectors of the shards that were taken out; of a shard that was not
    listed, one. The images of a whole key list that lost their vectors are recorded as failures.
    """

    done: tuple[str, ...]
    left: tuple[str, ...]
    rebuilt: bool
    known: frozenset[str]
    lost: int


def settle_damage(root: Path) -> Settled:
    """Take damaged files out of the cache at ``root``, so that it can be opened for writing.

    Whole shards that the manifest does not list are left; the next writer lists them.

    :raises CacheError: there is no cache, another process writes to it, it is of another
        version of the format, or a listed file is a symbolic link.
    """
    check_is_cache(root)
    with lock_cache(root):
        repairer = _Repairer(root)
        repairer.run()
    return Settled(
        tuple(repairer.done),
        tuple(repairer.left),
        repairer.rebuilt,
        frozenset(repairer.known),
        repairer.lost,
    )


class _Repairer:
    """Brings one cache into a state in which it can be opened for writing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done: list[str] = []
        self.left: list[str] = []
        self.rebuilt = False
        self.known: set[str] = set()
        self.lost = 0
        self.failures: dict[str, str] = {}
        self._outcasts: list[Path] = []  # moved at the end
        self._replaced: list[Path] = []  # moved first: files are written under their names

    def run(self) -> None:
        """Write the repaired manifest, then move the damaged files away."""
        before = Manifest()
        try:
            before = read_manifest(self.root)
        except CacheError:
            if os.path.lexists(self.root / NAME) and is_other_version(
                read_manifest_bytes(self.root)
            ):
                raise
            self.rebuilt = True
        self._refuse_links(before)
        manifest = self._recorded_failures(before)
        recorded = dict(self.failures)
        manifest = self._shards(self._text(manifest))
        for key in [key for key in self.failures if not is_key(key)]:
            self.done.append(
                f"{NAME}: failures named {shown(key)}, which is not a key of an image; removed"
            )
            del self.failures[key]
        if self.failures != recorded:
            manifest = replace(manifest, failures=None, failures_1=self.failures)
        if self.rebuilt and os.path.lexists(self.root / NAME):
            self._move(self.root / NAME)
        changed = self.rebuilt or manifest != before
        for path in self._replaced:
            self._move(path)
        if changed:
            manifest = convert(self.root, manifest)
            write_manifest(self.root, manifest)
        for path in self._outcasts:
            self._move(path)
        if changed:
            remove_replaced(self.root, before, manifest)

    def _recorded_failures(self, manifest: Manifest) -> Manifest:
        """Read the failures; take out their file if it is damaged."""
        try:
            self.failures = read_failures(self.root, manifest)
        except CacheError as error:
            assert manifest.failures is not None
            path = self.root / manifest.failures.file
            self._replaced.append(path)
            self.done.append(f"{path.name}: {error.what}; recorded failures are lost")
            return replace(manifest, failures=None)
        return manifest

    def _refuse_links(self, manifest: Manifest) -> None:
        """Refuse to take out a link: what it points to may be whole, and is not the cache's."""
        for entry in manifest.files():
            if (path := self.root / entry.file).is_symlink():
                raise CacheError(
                    "is a symbolic link; links in a cache are not followed",
                    where=path,
                    hint=UNLINK_HINT,
                )

    def _move(self, path: Path) -> None:
        """Move a file into the folder of damaged files, under a name that is free there."""
        if not os.path.lexists(path):
            return
        folder = self.root / FOLDER
        if folder.is_symlink():
            raise CacheError(
                "is a symbolic link; nothing is written through links",
                where=folder,
                hint="replace it by a folder of its own",
            )
        folder.mkdir(exist_ok=True)
        place, number = folder / path.name, 1
        while os.path.lexists(place):
            place, number = folder / f"{path.name}.{number}", number + 1
        path.rename(place)

    def _shards(self, manifest: Manifest) -> Manifest:
        """Sort the shards on disk; those that stay unlisted here are listed by a writer later."""
        whole = self._whole_shards(manifest)
        for name in list(whole):
            if (bad := whole[name].features.non_finite()).size:
                shard = whole.pop(name)
                self.failures |= dict.fromkeys((shard.keys[row] for row in bad), NOT_FINITE)
                whole.update(self._without_rows(name, shard, bad))
        spec = manifest.spec or _commonest(whole.values())
        seen = self._fitting(whole, spec)
        stay = [e for e in manifest.shards if e.file in whole and _rows(whole[e.file]) == e.rows]
        lost = [key for e in manifest.shards if e not in stay for key in self._keys_of(e)]
        if manifest.key_list_1 is not None:
            manifest, lost = self._key_list_1(manifest, [whole[entry.file] for entry in stay])
        shards = tuple(self._with_key_list(entry, whole[entry.file]) for entry in stay)
        self._unlisted_key_lists({e.keys.file for e in manifest.shards if e.keys})
        self.failures |= {key: LOST for key in lost if key not in seen | self.failures.keys()}
        for key in self.failures.keys() & seen:
            del self.failures[key]
        return replace(manifest, spec=spec, shards=shards)

    def _keys_of(self, entry: ShardEntry) -> list[str]:
        """Return the keys of a shard that is no longer listed, and move its key list with it."""
        if entry.keys is None:
            return []
        keys = self._read_keys(entry.keys)
        self._outcasts.append(self.root / entry.keys.file)
        return keys

    def _unlisted_key_lists(self, listed: set[str]) -> None:
        """Take out the damaged key lists that are not listed; a writer could need their names."""
        for path in sorted((self.root / "features").glob("*.txt")):
            file = path.relative_to(self.root).as_posix()
            if file in listed or not KEY_LIST_FILE.fullmatch(file):
                continue
            if wrong := unlisted_damage(self.root, path):
                self._replaced.append(path)
                self.done.append(f"{file}: {wrong}; moved into {FOLDER}/")

    def _read_keys(self, entry: Entry) -> list[str]:
        """Return the keys that a key list names; none if it is damaged."""
        try:
            return list(filter(is_key, parse_key_list(read_entry(self.root, entry))))
        except CacheError:
            return []

    def _with_key_list(self, entry: ShardEntry, shard: Shard) -> ShardEntry:
        """Return the entry without its key list if that is wrong; it is then written again."""
        if (held := entry.keys) is None:
            return entry
        try:
            content = read_entry(self.root, held)
            wrong = "" if content == shard.key_list else "not the keys of its shard"
        except CacheError as error:
            wrong = error.what
        if not wrong and shard.spec.dtype == entry.dtype:
            return entry
        if wrong:
            self.done.append(f"{held.file}: {wrong}; written anew")
            self._replaced.append(self.root / held.file)
        return replace(entry, keys=None)

    def _key_list_1(self, manifest: Manifest, stay: Sequence[Shard]) -> tuple[Manifest, list[str]]:
        """Check the key list of a cache of version 1; return the keys that it names, too.

        A wrong list is no longer listed, and so the cache is converted.
        """
        held = manifest.key_list_1
        assert held is not None
        keys, wrong = self._read_keys(held), ""
        try:
            read_entry(self.root, held)
        except CacheError as error:
            wrong = error.what
            self._outcasts.append(self.root / held.file)
        if wrong or keys != [key for shard in stay for key in shard.keys]:
            wrong = wrong or "no longer the keys of the shards"
            self.done.append(f"{held.file}: {wrong}; written anew")
            manifest = replace(manifest, key_list_1=None)
        return manifest, keys

    def _whole_shards(self, manifest: Manifest) -> dict[str, Shard]:
        """Return the shards that can be read, by file, the listed ones first; lose the others."""
        whole: dict[str, Shard] = {}
        for entry in sorted(manifest.shards, key=lambda entry: entry.file):
            try:
                whole[entry.file] = read_shard(self.root, entry)
            except DamagedFileError as error:
                self._lose(self.root / entry.file, entry, error.what)
            except ShardError as error:
                self._take_out(self.root / entry.file, error.what)
        for path in unlisted_shards(self.root, manifest):
            if wrong := unlisted_damage(self.root, path):
                self._lose(path, None, wrong)
                continue
            name = path.relative_to(self.root).as_posix()
            try:
                whole[name] = read_shard(self.root, describe(self.root, path))
                if not self.rebuilt:
                    self.done.append(f"{name}: whole and not listed; it is listed now")
            except ShardError as error:
                self._take_out(path, error.what)
        return whole

    def _fitting(self, whole: dict[str, Shard], spec: FeatureSpec | None) -> set[str]:
        """Remove from ``whole`` what does not fit the rest; return the keys of what stays."""
        seen: set[str] = set()
        for name, shard in list(whole.items()):
            assert spec is not None
            if shard.spec.fingerprint != spec.fingerprint:
                differences = "; ".join(spec.differences(shard.spec))
                self._take_out(shard.path, f"vectors made differently: {differences}")
            elif repeated := seen.intersection(shard.keys):
                self._take_out(shard.path, f"{min(repeated)} is in another shard too")
            else:
                seen.update(shard.keys)
                continue
            del whole[name]
        return seen

    def _lose(self, path: Path, entry: ShardEntry | None, wrong: str) -> None:
        self.lost += entry.rows if entry else 1
        self._take_out(path, f"{wrong} ({entry.rows} vectors are lost)" if entry else wrong)

    def _take_out(self, path: Path, why: str) -> None:
        """Plan to move a file away, and say so."""
        name = path.relative_to(self.root).as_posix()
        if not os.path.lexists(path):
            self.done.append(f"{name}: {why}; no longer listed")
            return
        self._outcasts.append(path)
        self.done.append(f"{name}: {why}; moved into {FOLDER}/")

    def _without_rows(self, name: str, shard: Shard, bad: np.ndarray) -> dict[str, Shard]:
        """Write the good rows of a shard as another of its number; return it, if there are any."""
        self._take_out(shard.path, f"{bad.size} of {_rows(shard)} vectors are not finite")
        good = np.setdiff1d(np.arange(_rows(shard)), bad)
        if not good.size:
            return {}
        entry = write_shard(
            self.root / "features",
            int(shard.path.name.split("-")[0]),
            shard.spec,
            [shard.keys[row] for row in good],
            shard.image_sha256[good],
            shard.features[good],
        )
        return {entry.file: read_shard(self.root, entry)}

    def _text(self, manifest: Manifest) -> Manifest:
        """Keep the vocabulary and the captions that can be read and belong together."""
        held, captions = manifest.vocabulary, dict(manifest.captions)
        if self.rebuilt:
            found = find_text(self.root)
            held, captions = found.vocabulary, found.captions
            for path, why, split in found.damaged:
                self._take_out(path, why)
                if split:
                    self._left(split)
        vocabulary = None
        if held is not None:
            path = self.root / held.file
            try:
                vocabulary = Vocabulary.parse(read_entry(self.root, held), path)
            except (DamagedFileError, VocabularyError) as error:
                self._take_out(path, error.what)
                self._left("train")
                held = None
        for split, entry in list(captions.items()):
            if wrong := self._wrong_captions(split, entry, vocabulary):
                self._take_out(self.root / entry.file, wrong)
                self._left(split)
                del captions[split]
        return replace(manifest, vocabulary=held, captions=captions)

    def _wrong_captions(self, split: str, entry: Entry, vocabulary: Vocabulary | None) -> str:
        """Return what is wrong with the captions of a split, or ""; note the keys they name."""
        path = self.root / entry.file
        try:
            content = read_entry(self.root, entry)
            self.known.update(parse_captions(content, path, None).keys)
            if vocabulary is None:
                return "its vocabulary is missing"
            inside = parse_captions(content, path, vocabulary).split
        except (DamagedFileError, CaptionsError) as error:
            return error.what
        return "" if inside == split else f"holds split {shown(inside)}"

    def _left(self, split: str) -> None:
        line = f"`multispace preprocess --annotations FILE --split {split} --captions-only --cache "
        line += f"{shlex.quote(str(self.root))}`: for the captions of {split}"
        if line not in self.left:
            self.left.append(line)


def _rows(shard: Shard) -> int:
    return len(shard)


def _commonest(shards: Iterable[Shard]) -> FeatureSpec | None:
    """Return the spec of most vectors; the manifest that names it may be lost."""
    counts: Counter[str] = Counter()
    specs: dict[str, FeatureSpec] = {}
    for shard in shards:
        counts[shard.spec.fingerprint] += _rows(shard)
        specs.setdefault(shard.spec.fingerprint, shard.spec)
    return specs[counts.most_common(1)[0][0]] if specs else None
