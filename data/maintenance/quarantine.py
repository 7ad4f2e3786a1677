"""Taking away what is bad in a cache, and only that, so that it can be written to again.

Bytes that are proven wrong are deleted; whole files that do not belong are set aside under
another name, for features are dear.
"""

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from multispace.data.cache.encoded_captions import load_captions
from multispace.data.cache.keys import is_key, parse_key_list
from multispace.data.cache.listed_file import Entry, describe
from multispace.data.cache.manifest import (
    NAME,
    SHARD_FILE,
    SPLIT_NAME,
    Manifest,
    read_manifest,
    write_manifest,
)
from multispace.data.cache.shard import Shard, ShardEntry, non_finite_rows, read_shard, write_shard
from multispace.data.cache.spec import FeatureSpec
from multispace.data.cache.vocabulary import Vocabulary
from multispace.data.cache.writer import lock_cache
from multispace.data.maintenance.damage import damage, of_another_version, unlisted_damage
from multispace.errors import CacheError, CaptionsError, ShardError, VocabularyError, shown

ASIDE = ".aside"
NOT_FINITE = "its vector was not finite"
LOST = "its vector was lost with its shard"


@dataclass(frozen=True)
class Settled:
    """What was done and what is left for the user, a line each.

    ``rebuilt`` says that there was no whole manifest. ``known`` has the keys that whole captions
    name; ``lost`` counts the rows of deleted shards, those of a shard that was not listed as
    one. Images that a whole key list names and that lost their vectors are failures now.
    """

    done: tuple[str, ...]
    left: tuple[str, ...]
    rebuilt: bool
    known: frozenset[str]
    lost: int


def settle_damage(root: Path) -> Settled:
    """Bring the cache at ``root`` into a state in which :func:`writer.write_cache` opens it.

    Whole shards that the manifest does not list are left to it.

    :raises CacheError: there is no cache, another process writes to it, or it is of another
        version of the format.
    """
    if not any((root / name).exists() for name in (NAME, "features", "captions")):
        raise CacheError(f"{root}: not a cache; `preprocess --cache {root}` makes one")
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
    """Brings a cache into a state that can be opened for writing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done: list[str] = []
        self.left: list[str] = []
        self.rebuilt = False
        self.known: set[str] = set()
        self.lost = 0
        self._deleted: list[Path] = []
        self._aside: list[Path] = []

    def run(self) -> None:
        """Write the mended manifest, then take the bad files away."""
        try:
            manifest = before = read_manifest(self.root)
        except CacheError:
            if of_another_version(self.root / NAME):
                raise
            self.rebuilt, manifest, before = True, Manifest(), Manifest()
        manifest = self._text(manifest)
        manifest = self._shards(manifest)
        for key in [key for key in manifest.failures if not is_key(key)]:
            self.done.append(
                f"{NAME}: failures named {shown(key)}, which is no image's key; taken out"
            )
            manifest = replace(
                manifest, failures={k: v for k, v in manifest.failures.items() if k != key}
            )
        if self.rebuilt or manifest != before:
            write_manifest(self.root, manifest)
        for path in self._deleted:
            path.unlink(missing_ok=True)
        for path in self._aside:
            path.replace(path.with_name(path.name + ASIDE))

    def _shards(self, manifest: Manifest) -> Manifest:
        """Sort out the shards on disk; those that stay unlisted here are taken in later."""
        listed = {entry.file: entry for entry in manifest.shards}
        on_disk = {f"features/{p.name}": p for p in (self.root / "features").glob("*.h5")}
        names = sorted(listed.keys() | {n for n in on_disk if SHARD_FILE.fullmatch(n)})
        whole: dict[str, Shard] = {}
        for name in sorted(names, key=lambda name: (name not in listed, name)):
            path, entry = self.root / name, listed.get(name)
            wrong = damage(path, entry) if entry else unlisted_damage(path)
            if wrong:
                self._lose(path, entry, wrong)
                continue
            try:
                whole[name] = read_shard(path)
                if entry is None and not self.rebuilt:
                    self.done.append(f"{name}: whole and not listed; taken in")
            except ShardError as error:
                self._set_aside(path, str(error).removeprefix(f"{path}: ").rpartition("; ")[0])
        failures = dict(manifest.failures)
        for name in list(whole):
            if (bad := non_finite_rows(whole[name].features)).size:
                shard = whole.pop(name)
                failures |= dict.fromkeys((shard.keys[row] for row in bad), NOT_FINITE)
                whole.update(self._without_rows(name, shard, bad))
        spec = manifest.spec or _commonest(whole.values())
        seen: set[str] = set()
        for name, shard in list(whole.items()):
            assert spec is not None
            if shard.spec.fingerprint != spec.fingerprint:
                differences = "; ".join(spec.differences(shard.spec))
                self._set_aside(shard.path, f"vectors made otherwise: {differences}")
            elif twice := seen.intersection(shard.keys):
                self._set_aside(shard.path, f"{min(twice)} is in another shard too")
            else:
                seen.update(shard.keys)
                continue
            del whole[name]
        stay = (e for e in manifest.shards if e.file in whole and _rows(whole[e.file]) == e.rows)
        manifest = replace(manifest, spec=spec, shards=tuple(stay))
        if (held := manifest.keys) is not None:
            wrong = damage(self.root / held.file, held)
            content = b"" if wrong else (self.root / held.file).read_bytes()
            keys = list(filter(is_key, parse_key_list(content)))
            failures |= {key: LOST for key in keys if key not in seen | failures.keys()}
            if wrong or keys != [k for name in whole if name in listed for k in whole[name].keys]:
                wrong = wrong or "no longer the keys of the shards"
                self.done.append(f"{held.file}: {wrong}; made again")
                manifest = replace(manifest, keys=None)  # a writer lists the keys anew
        return replace(manifest, failures=failures)

    def _lose(self, path: Path, entry: ShardEntry | None, wrong: str) -> None:
        self.lost += entry.rows if entry else 1
        if path.is_dir():
            self._set_aside(path, wrong)
            return
        self._deleted.append(path)
        rows = f" with {entry.rows} vectors" if entry else ""
        name = path.relative_to(self.root).as_posix()
        self.done.append(f"{name}: {wrong}; deleted{rows}")

    def _set_aside(self, path: Path, why: str) -> None:
        self._aside.append(path)
        name = path.relative_to(self.root).as_posix()
        self.done.append(f"{name}: {why}; set aside as {path.name}{ASIDE}")

    def _without_rows(self, name: str, shard: Shard, bad: np.ndarray) -> dict[str, Shard]:
        """Write the good rows of a shard as another of its number; return it, if there are any."""
        self._deleted.append(shard.path)
        self.done.append(f"{name}: {bad.size} of {_rows(shard)} vectors are not finite; taken out")
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
        return {entry.file: read_shard(self.root / entry.file)}

    def _text(self, manifest: Manifest) -> Manifest:
        """Keep the vocabulary and the captions that load and belong together."""
        held, captions = manifest.vocabulary, dict(manifest.captions)
        if self.rebuilt:  # no digest is left to check them against but those inside them
            held = self._found(self.root / "vocabulary.json")
            for path in sorted((self.root / "captions").glob("*.h5")):
                if SPLIT_NAME.fullmatch(path.stem) and (entry := self._found(path)):
                    captions[path.stem] = entry
        vocabulary = None
        if held is not None:
            path = self.root / held.file
            try:
                if wrong := damage(path, held):
                    raise VocabularyError(wrong)
                vocabulary = Vocabulary.load(path)
            except VocabularyError as error:
                self._drop(path, str(error))
                self._left("train")
                held = None
        for split, entry in list(captions.items()):
            path = self.root / entry.file
            try:
                if wrong := damage(path, entry):
                    raise CaptionsError(wrong)
                self.known.update(load_captions(path, None).keys)
                if vocabulary is None:
                    raise CaptionsError("its vocabulary is gone")
                if (inside := load_captions(path, vocabulary).split) != split:
                    raise CaptionsError(f"holds split {shown(inside)}")
            except CaptionsError as error:
                self._drop(path, str(error))
                self._left(split)
                del captions[split]
        return replace(manifest, vocabulary=held, captions=captions)

    def _found(self, path: Path) -> Entry | None:
        return describe(self.root, path) if path.is_file() and not path.is_symlink() else None

    def _drop(self, path: Path, why: str) -> None:
        if path.exists() or path.is_symlink():
            self._set_aside(path, why.removeprefix(f"{path}: "))
        else:
            self.done.append(f"{path.relative_to(self.root).as_posix()}: {why}; taken off the list")

    def _left(self, split: str) -> None:
        line = f"`preprocess --annotations FILE --split {split} --captions-only --cache "
        line += f"{shlex.quote(str(self.root))}`: for the captions of {split}"
        if line not in self.left:
            self.left.append(line)


def _rows(shard: Shard) -> int:
    return len(shard.keys)


def _commonest(shards: Iterable[Shard]) -> FeatureSpec | None:
    """Return the spec of most vectors; the manifest that said which it is may be lost."""
    counts: Counter[str] = Counter()
    specs: dict[str, FeatureSpec] = {}
    for shard in shards:
        counts[shard.spec.fingerprint] += _rows(shard)
        specs.setdefault(shard.spec.fingerprint, shard.spec)
    return specs[counts.most_common(1)[0][0]] if specs else None
