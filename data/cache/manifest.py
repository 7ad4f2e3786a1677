"""The manifest of a cache: ``cache.json``, the list of what the cache holds.

It is written last, after the files that it lists, and it carries its own digest: its bytes are
the only accepted spelling of its content, so that any change to it is detected.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from multispace.data.cache.listed_file import Entry, open_listed
from multispace.data.cache.shard import ShardEntry
from multispace.data.cache.spec import FeatureSpec
from multispace.data.files import atomic_write, json_bytes
from multispace.errors import CacheError, brief, shown

NAME = "cache.json"
FORMAT = "multispace-feature-cache"
VERSION = 1

SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SHARD_FILE = re.compile(r"features/[0-9]{5,9}-[0-9a-f]{8}\.h5")
_KEY_LIST = re.compile(r"keys-[0-9a-f]{8}\.txt")
MAX_BYTES = 256 << 20  # four million failures fit
_SIZE_LIMIT = 1 << 63  # beyond any file's size; sums of unbounded integers cannot be printed
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """The list of what a cache holds.

    ``failures`` maps an image's key to the reason why it has no vector. ``keys`` is the key list:
    a file of all keys in the order of the shards and their rows, one a line. It says which shards
    a part of the cache needs, and which vectors a lost shard held. A cache may have none.
    """

    spec: FeatureSpec | None = None
    shards: tuple[ShardEntry, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    vocabulary: Entry | None = None
    captions: Mapping[str, Entry] = field(default_factory=dict)
    keys: Entry | None = None

    @property
    def rows(self) -> int:
        """The number of images with a vector."""
        return sum(shard.rows for shard in self.shards)

    def with_captions(self, split: str, entry: Entry) -> "Manifest":
        """Return the manifest with the captions of one split added or replaced."""
        return replace(self, captions={**self.captions, split: entry})

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        body = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.spec.fingerprint if self.spec else None,
            "spec": self.spec.to_json() if self.spec else None,
            "shards": [asdict(shard) for shard in self.shards],
            "failures": dict(sorted(self.failures.items())),
            "vocabulary": asdict(self.vocabulary) if self.vocabulary else None,
            "captions": {name: asdict(e) for name, e in sorted(self.captions.items())},
        }
        if self.keys:  # without one the spelling is that of before there were key lists
            body["keys"] = asdict(self.keys)
        return json_bytes({**body, "digest": hashlib.sha256(json_bytes(body)).hexdigest()})


def write_manifest(root: Path, manifest: Manifest, previous: Manifest | None = None) -> None:
    """Write ``cache.json`` under ``root``, whole or not at all.

    :param previous: the manifest that is replaced; a key list that only it listed is removed.
    """
    with atomic_write(root / NAME) as file:
        file.write(manifest.to_bytes())
    old = previous.keys if previous is not None else None
    if old is not None and (manifest.keys is None or manifest.keys.file != old.file):
        (root / old.file).unlink(missing_ok=True)


def read_manifest(root: Path) -> Manifest:
    """Read and check ``cache.json``. Nothing else is opened.

    :raises CacheError: there is none, or :func:`parse_manifest` refuses it.
    """
    path, quoted = root / NAME, shlex.quote(str(root))
    return parse_manifest(
        read_manifest_bytes(root),
        str(path),
        f"run `multispace cache repair {quoted}`, or fetch the cache again",
    )


def read_manifest_bytes(root: Path) -> bytes:
    """Return the bytes of ``cache.json``, unchecked.

    :raises CacheError: there is none, it is not a plain file, or it is longer than MAX_BYTES.
    """
    path, quoted = root / NAME, shlex.quote(str(root))
    if not path.exists() and not path.is_symlink():
        raise CacheError(
            "not found", where=path, hint=f"`multispace preprocess --cache {quoted}` makes a cache"
        )
    content = bytearray()
    with open_listed(root, NAME) as file:
        while block := file.read(1 << 20):
            content += block
            if len(content) > MAX_BYTES:
                raise CacheError(f"more than {MAX_BYTES} bytes", where=path)
    return bytes(content)


def check_is_cache(root: Path) -> None:
    """Check that ``root`` holds a cache, perhaps a damaged one.

    :raises CacheError: it does not.
    """
    if not any((root / name).exists() for name in (NAME, "features", "captions")):
        raise CacheError(
            "not a cache",
            where=root,
            hint=f"`multispace preprocess --cache {shlex.quote(str(root))}` makes one",
        )


def parse_manifest(content: bytes, source: str, hint: str) -> Manifest:
    """Check the bytes of a manifest.

    :param source: the path or URL of the bytes; for messages
    :param hint: what to do if they are damaged; for messages
    :raises CacheError: they are damaged, of an unknown version, or name files that are not
        inside a cache.
    """
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CacheError(f"not JSON ({brief(error)})", where=source, hint=hint) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CacheError(
            f"not a feature cache (its format is not {FORMAT!r})", where=source, hint=hint
        )
    if (version := value.get("version")) != VERSION:
        raise CacheError(
            f"version {shown(version)}, this software reads {VERSION}",
            where=source,
            hint="update this software" if is_other_version(content) else hint,
        )
    try:
        manifest = _parse(value)
    except (CacheError, RecursionError) as error:  # the latter where a deep value is quoted
        raise CacheError(brief(error), where=source, hint=hint) from error
    try:
        same = manifest.to_bytes() == content
    except UnicodeEncodeError:  # JSON's escapes can spell what is no text
        same = False
    if not same:
        raise CacheError("its content does not match its digest", where=source, hint=hint)
    return manifest


def is_other_version(content: bytes) -> bool:
    """Whether ``content`` is a whole manifest of a version that this software does not read.

    A damaged version number does not pass: the digest would not match.
    """
    try:
        body = json.loads(content)
        digest = body.pop("digest")
        other = body["format"] == FORMAT and body["version"] != VERSION
        return other and digest == hashlib.sha256(json_bytes(body)).hexdigest()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _parse(value: dict[str, Any]) -> Manifest:
    spec, failures = value.get("spec"), value.get("failures")
    shards, captions = value.get("shards"), value.get("captions")
    vocabulary = value.get("vocabulary")
    if not isinstance(shards, list) or not isinstance(captions, dict):
        raise CacheError("shards and captions must be a list and an object")
    if not isinstance(failures, dict) or not all(isinstance(v, str) for v in failures.values()):
        raise CacheError("failures must map keys to reasons")
    for split in captions:
        if not SPLIT_NAME.fullmatch(split):
            raise CacheError(f"{split!r} is not a name for a split")
    entries = tuple(_shard_entry(entry, f"shards[{i}]") for i, entry in enumerate(shards))
    if len({entry.file for entry in entries}) != len(entries):
        raise CacheError("a shard is listed twice")
    if entries and spec is None:
        raise CacheError("shards without a feature spec")
    return Manifest(
        spec=None if spec is None else FeatureSpec.from_json(spec, "spec"),
        shards=entries,
        failures=failures,
        vocabulary=None
        if vocabulary is None
        else _entry(vocabulary, "vocabulary", re.compile(r"vocabulary\.json")),
        captions={
            split: _entry(entry, "captions", re.compile(rf"captions/{re.escape(split)}\.h5"))
            for split, entry in captions.items()
        },
        keys=_named_entry(value["keys"], "keys", _KEY_LIST) if "keys" in value else None,
    )


def _entry(value: object, where: str, name: re.Pattern[str]) -> Entry:
    """Check one listed file.

    :param where: the entry's place in the manifest; for messages
    :param name: the pattern that its path must match
    """
    if not isinstance(value, dict) or set(value) != {"file", "sha256", "bytes"}:
        raise CacheError("expected file, sha256 and bytes", where=where)
    file, sha256, size = value["file"], value["sha256"], value["bytes"]
    if not isinstance(file, str) or not name.fullmatch(file):
        raise CacheError(f"{file!r} is not where a cache keeps such a file", where=where)
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise CacheError(f"{sha256!r} is not a SHA-256 digest", where=where)
    if type(size) is not int or not 1 <= size < _SIZE_LIMIT:
        raise CacheError(f"{size!r} is not a size in bytes", where=where)
    return Entry(file, sha256, size)


def _named_entry(value: object, where: str, name: re.Pattern[str]) -> Entry:
    """Check a listed file whose name ends in the first digits of its digest."""
    entry = _entry(value, where, name)
    if entry.sha256[:8] not in entry.file.rsplit("-", 1)[1]:
        raise CacheError(f"{entry.file} is not named by its digest", where=where)
    return entry


def _shard_entry(value: object, where: str) -> ShardEntry:
    rest = dict(value) if isinstance(value, dict) else {}
    rows = rest.pop("rows", None)
    if type(rows) is not int or not 1 <= rows < _SIZE_LIMIT:
        raise CacheError(f"rows is {rows!r}, expected a positive number", where=where)
    entry = _named_entry(rest, where, SHARD_FILE)
    return ShardEntry(entry.file, entry.sha256, entry.bytes, rows)
