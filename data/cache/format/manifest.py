"""The manifest of a cache: ``cache.json``, the list of what the cache holds.

It is written last, after the files that it lists, and it carries its own digest: its bytes are
the only accepted spelling of its content, so that any change to it is detected.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from multispace.data.cache.format.canonical_json import canonical_json
from multispace.data.cache.format.listed_file import Entry
from multispace.data.cache.format.shard import ShardEntry
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.files import atomic_write, json_bytes

NAME = "cache.json"
FORMAT = "multispace-feature-cache"
VERSION = 2

SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SHARD_FILE = re.compile(r"features/([0-9]{5,9})-[0-9a-f]{8}\.h5")
KEY_LIST_FILE = re.compile(r"features/([0-9]{5,9})-[0-9a-f]{8}\.txt")


@dataclass(frozen=True)
class Manifest:
    """The list of what a cache holds.

    ``failures`` is a file with the reason of each image that has no vector.

    A cache of version 1 has no key list beside its shards, may have one, ``key_list_1``, of all
    keys, and has its failures in the manifest itself, ``failures_1``. While a writer converts
    it, a manifest in memory may list files of both versions; :attr:`version` is 1 until all are
    converted.
    """

    spec: FeatureSpec | None = None
    shards: tuple[ShardEntry, ...] = ()
    failures: Entry | None = None
    vocabulary: Entry | None = None
    captions: Mapping[str, Entry] = field(default_factory=dict)
    version: int = VERSION
    failures_1: Mapping[str, str] = field(default_factory=dict)
    key_list_1: Entry | None = None

    @property
    def rows(self) -> int:
        """The number of images with a vector."""
        return sum(shard.rows for shard in self.shards)

    def with_captions(self, split: str, entry: Entry) -> "Manifest":
        """Return the manifest with the captions of one split added or replaced."""
        return replace(self, captions={**self.captions, split: entry})

    def files(self) -> Iterator[Entry]:
        """Yield the entries of all listed files."""
        yield from self.shards
        yield from self.small_files()

    def small_files(self) -> Iterator[Entry]:
        """Yield the entries of all listed files but the shards."""
        for shard in self.shards:
            if shard.keys is not None:
                yield shard.keys
        for entry in (self.failures, self.vocabulary, self.key_list_1):
            if entry is not None:
                yield entry
        yield from self.captions.values()

    def to_bytes(self) -> bytes:
        """Return the file's content.

        :raises ValueError: JSON has no such value.
        """
        return self._bytes_1() if self.version == 1 else self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        """Canonical JSON, whose ``digest`` is that of the same without it.

        The entries of the shards, which can be many, are spelled once each.
        """
        captions = {name: asdict(entry) for name, entry in self.captions.items()}
        head = b'{"captions":%s,' % canonical_json(captions)
        rest = b'"failures":%s,"fingerprint":%s,"format":"%s","shards":[%s],"spec":%s,' % (
            canonical_json(asdict(self.failures) if self.failures else None),
            canonical_json(self.spec.fingerprint if self.spec else None),
            FORMAT.encode(),
            b",".join(shard.canonical for shard in self.shards),
            canonical_json(self.spec.to_json() if self.spec else None),
        )
        vocabulary = asdict(self.vocabulary) if self.vocabulary else None
        rest += b'"version":%d,"vocabulary":%s}' % (VERSION, canonical_json(vocabulary))
        digest = hashlib.sha256(head + rest).hexdigest()
        return b'%s"digest":"%s",%s' % (head, digest.encode(), rest)

    def _bytes_1(self) -> bytes:
        body = {
            "format": FORMAT,
            "version": 1,
            "fingerprint": self.spec.fingerprint_1 if self.spec else None,
            "spec": self.spec.to_json() if self.spec else None,
            "shards": [
                {"file": s.file, "sha256": s.sha256, "bytes": s.bytes, "rows": s.rows}
                for s in self.shards
            ],
            "failures": dict(sorted(self.failures_1.items())),
            "vocabulary": asdict(self.vocabulary) if self.vocabulary else None,
            "captions": {name: asdict(e) for name, e in sorted(self.captions.items())},
        }
        if self.key_list_1:  # without one the spelling is that of before there were key lists
            body["keys"] = asdict(self.key_list_1)
        return json_bytes({**body, "digest": hashlib.sha256(json_bytes(body)).hexdigest()})


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write ``cache.json`` under ``root``, whole or not at all."""
    with atomic_write(root / NAME) as file:
        file.write(manifest.to_bytes())
