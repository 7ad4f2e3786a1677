"""Reading a manifest: nothing in it is taken for granted."""

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from multispace.data.cache.format.canonical_json import canonical_digest
from multispace.data.cache.format.listed_file import Entry, open_listed
from multispace.data.cache.format.manifest import (
    FORMAT,
    KEY_LIST_FILE,
    NAME,
    SHARD_FILE,
    SPLIT_NAME,
    VERSION,
    Manifest,
)
from multispace.data.cache.format.shard import ShardEntry
from multispace.data.cache.format.spec import DTYPES, FeatureSpec
from multispace.data.files import json_bytes
from multispace.errors import CacheError, brief, shown

MAX_BYTES = 256 << 20  # of a cache.json
_SIZE_LIMIT = 1 << 53  # beyond any file's size; JSON has no larger exact numbers
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FAILURES = re.compile(r"failures-[0-9a-f]{8}\.json")
_VOCABULARY = re.compile(r"vocabulary-[0-9a-f]{8}\.json")
_VOCABULARY_1 = re.compile(r"vocabulary\.json")
_KEY_LIST_1 = re.compile(r"keys-[0-9a-f]{8}\.txt")


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
    """Check the bytes of a manifest of version 1 or 2.

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
    if (version := value.get("version")) not in (1, VERSION):
        raise CacheError(
            f"version {shown(version)}, this software reads 1 and {VERSION}",
            where=source,
            hint="update this software" if is_other_version(content) else hint,
        )
    try:
        manifest = _parse(value, _parts_1 if version == 1 else _parts)
    except (CacheError, RecursionError) as error:  # the latter where a deep value is quoted
        raise CacheError(brief(error), where=source, hint=hint) from error
    try:
        same = manifest.to_bytes() == content
    except ValueError:  # JSON's escapes can spell what is no text
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
        if body["format"] != FORMAT or body["version"] in (1, VERSION):
            return False
        return digest in (canonical_digest(body), hashlib.sha256(json_bytes(body)).hexdigest())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        return False


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _parse(value: dict[str, Any], parts: Callable[[dict[str, Any]], dict[str, Any]]) -> Manifest:
    """Check what both versions share; ``parts`` returns the other fields of the manifest."""
    spec, shards, captions = value.get("spec"), value.get("shards"), value.get("captions")
    if not isinstance(shards, list) or not isinstance(captions, dict):
        raise CacheError("shards and captions must be a list and an object")
    for split in captions:
        if not SPLIT_NAME.fullmatch(split):
            raise CacheError(f"{split!r} is not a name for a split")
    if shards and spec is None:
        raise CacheError("shards without a feature spec")
    found = parts(value)
    if len({entry.file for entry in found["shards"]}) != len(shards):
        raise CacheError("a shard is listed twice")
    read = None if spec is None else FeatureSpec.from_json(spec, "spec")
    if read is not None and value["version"] != 1:
        read = read.with_doubles()
    return Manifest(spec=read, **found)


def _parts(value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest of version 2."""
    failures, vocabulary = value.get("failures"), value.get("vocabulary")
    return {
        "shards": tuple(
            _shard_entry(entry, f"shards[{i}]") for i, entry in enumerate(value["shards"])
        ),
        "failures": failures and _named_entry(failures, "failures", _FAILURES),
        "vocabulary": vocabulary and _named_entry(vocabulary, "vocabulary", _VOCABULARY),
        "captions": {
            split: _named_entry(
                entry,
                "captions",
                re.compile(rf"captions/{re.escape(split)}-[0-9a-f]{{8}}\.h5"),
            )
            for split, entry in value["captions"].items()
        },
    }


def _parts_1(value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest of version 1."""
    failures, vocabulary = value.get("failures"), value.get("vocabulary")
    if not isinstance(failures, dict) or not all(isinstance(v, str) for v in failures.values()):
        raise CacheError("failures must map keys to reasons")
    return {
        "version": 1,
        "shards": tuple(
            _shard_entry_1(entry, f"shards[{i}]") for i, entry in enumerate(value["shards"])
        ),
        "failures_1": failures,
        "vocabulary": None
        if vocabulary is None
        else _entry(vocabulary, "vocabulary", _VOCABULARY_1),
        "captions": {
            split: _entry(entry, "captions", re.compile(rf"captions/{re.escape(split)}\.h5"))
            for split, entry in value["captions"].items()
        },
        "key_list_1": _named_entry(value["keys"], "keys", _KEY_LIST_1) if "keys" in value else None,
    }


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


def _shard_entry_1(value: object, where: str) -> ShardEntry:
    rest = dict(value) if isinstance(value, dict) else {}
    rows = rest.pop("rows", None)
    if type(rows) is not int or not 1 <= rows < _SIZE_LIMIT:
        raise CacheError(f"rows is {rows!r}, expected a positive number", where=where)
    entry = _named_entry(rest, where, SHARD_FILE)
    return ShardEntry(entry.file, entry.sha256, entry.bytes, rows)


def _shard_entry(value: object, where: str) -> ShardEntry:
    rest = dict(value) if isinstance(value, dict) else {}
    keys, dtype = rest.pop("keys", None), rest.pop("dtype", None)
    entry = _shard_entry_1(rest, where)
    key_list = _named_entry(keys, f"{where}.keys", KEY_LIST_FILE)
    if dtype not in DTYPES:
        raise CacheError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}", where=where)
    return ShardEntry(entry.file, entry.sha256, entry.bytes, entry.rows, key_list, dtype)
