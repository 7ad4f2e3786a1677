"""The failures of a cache: why an image has no vector, by its key; one JSON file."""

import json
from collections.abc import Mapping
from pathlib import Path

from multispace.data.cache.format.canonical_json import canonical_json
from multispace.data.cache.format.listed_file import Entry, read_entry, write_named
from multispace.data.cache.format.manifest import Manifest
from multispace.errors import CacheError, brief


def read_failures(root: Path, manifest: Manifest) -> dict[str, str]:
    """Return the reasons that a cache records, by key.

    A writer that was killed may leave the reason of an image that has a vector by now.

    :raises DamagedFileError: the file is missing, or not the bytes that the manifest lists.
    :raises CacheError: it does not keep to the format.
    """
    failures = dict(manifest.failures_1)
    if (entry := manifest.failures) is not None:
        failures |= parse_failures(read_entry(root, entry), root / entry.file)
    return failures


def parse_failures(content: bytes, source: Path) -> dict[str, str]:
    """Read the bytes of a failures file.

    :param source: where the bytes are from; for messages
    :raises CacheError: they do not keep to the format.
    """
    hint = "run `multispace cache repair` on the cache"
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CacheError(f"not JSON ({brief(error)})", where=source, hint=hint) from error
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise CacheError("must map keys to reasons", where=source, hint=hint)
    return value


def write_failures(root: Path, failures: Mapping[str, str]) -> Entry | None:
    """Write the failures file and return its entry; None, and no file, where nothing failed."""
    if not failures:
        return None
    return write_named(root, "failures", ".json", canonical_json(dict(failures)))
