"""The vocabulary and the captions of a cache whose manifest is lost, found by their contents."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from multispace.data.cache.format.listed_file import Entry, describe, read_entry
from multispace.data.cache.format.manifest import SPLIT_NAME
from multispace.data.captions.encoded_captions import parse_captions
from multispace.data.captions.vocabulary import Vocabulary
from multispace.errors import CacheError, DataError

WRONG_NAME = "its bytes do not match its name"

_NAMED = re.compile(r"(?P<name>.+)-(?P<digest>[0-9a-f]{8})")


@dataclass
class FoundText:
    """What :func:`find_text` found.

    ``damaged`` has the path of each file that is not taken, the reason, and the split that it
    may hold.
    """

    vocabulary: Entry | None = None
    captions: dict[str, Entry] = field(default_factory=dict)
    damaged: list[tuple[Path, str, str]] = field(default_factory=list)


def find_text(root: Path) -> FoundText:
    """Find the vocabulary and the captions of each split; files of both versions are taken.

    The digest in the name of a file is all that is left to check it against, and there is none
    in those of version 1. Of several vocabularies the one of the most captions is taken, and of
    several captions of a split those that belong to it.
    """
    found = FoundText()
    candidates: dict[str, list[tuple[Entry, str]]] = {}
    votes: Counter[str] = Counter()
    for entry, name, fits in _plain_files(root, (root / "captions").glob("*.h5")):
        path = root / entry.file
        digest = ""
        try:
            held = parse_captions(read_entry(root, entry), path, None)
            name, digest = (path.stem if held.split == path.stem else name), held.vocabulary_digest
            fits = fits or held.split == path.stem
        except DataError:  # the caller reads it again, and says so
            pass
        if not fits:
            found.damaged.append((path, WRONG_NAME, name))
        elif SPLIT_NAME.fullmatch(name):
            candidates.setdefault(name, []).append((entry, digest))
            votes[digest] += 1
    vocabulary = _find_vocabulary(root, found, votes)
    for split, entries in candidates.items():
        entries.sort(key=lambda pair: vocabulary is None or not vocabulary.has_digest(pair[1]))
        found.captions[split] = entries[0][0]
        for entry, _ in entries[1:]:
            found.damaged.append((root / entry.file, "another file holds the split", ""))
    return found


def _find_vocabulary(root: Path, found: FoundText, votes: Counter[str]) -> Vocabulary | None:
    """Choose a vocabulary; ``votes`` counts the captions by the digest of theirs."""
    known: list[tuple[int, Entry, Vocabulary | None]] = []
    for entry, _, fits in _plain_files(root, root.glob("vocabulary*.json")):
        path = root / entry.file
        if not fits:
            found.damaged.append((path, WRONG_NAME, "train"))
            continue
        try:
            held = Vocabulary.parse(read_entry(root, entry), path)
            known.append((sum(votes[d] for d in {held.digest, held.digest_1}), entry, held))
        except DataError:
            known.append((-1, entry, None))
    known.sort(key=lambda choice: -choice[0])
    for _, entry, _ in known[1:]:
        found.damaged.append((root / entry.file, "another vocabulary is in use", ""))
    if not known:
        return None
    found.vocabulary = known[0][1]
    return known[0][2]


def _plain_files(root: Path, paths: Iterable[Path]) -> Iterator[tuple[Entry, str, bool]]:
    """Yield each plain file, its name without a digest, and whether the digest is its own."""
    for path in sorted(paths):
        try:
            entry = describe(root, path)
        except CacheError:  # a link, or no file
            continue
        named = _NAMED.fullmatch(path.stem)
        fits = not named or entry.sha256.startswith(named["digest"])
        yield entry, named["name"] if named else path.stem, fits
