"""Signs of damage in the files of a cache, one by one; nothing is written."""

import hashlib
import json
from pathlib import Path

from multispace.data.cache.listed_file import Entry, file_sha256
from multispace.data.cache.manifest import FORMAT, VERSION
from multispace.data.files import json_bytes


def damage(path: Path, entry: Entry, *, quick: bool = False) -> str:
    """Say what is wrong with the bytes of a listed file; nothing is the empty text.

    :param quick: leave the digest out.
    """
    if path.is_symlink() or not path.is_file():
        return "not there as a file"
    if (size := path.stat().st_size) != entry.bytes:
        return f"{size} bytes, the manifest says {entry.bytes}"
    if not quick and (digest := file_sha256(path)) != entry.sha256:
        return f"digest {digest[:12]}..., the manifest says {entry.sha256[:12]}..."
    return ""


def unlisted_damage(path: Path) -> str:
    """Say what is wrong with a shard that only its name vouches for; nothing is the empty text."""
    if path.is_symlink() or not path.is_file():
        return "not a plain file"
    if not path.stem.endswith(file_sha256(path)[:8]):
        return "its bytes do not match its name"
    return ""


def of_another_version(path: Path) -> bool:
    """Whether ``path`` is a whole manifest of a version that this software does not read.

    A damaged version number does not pass: the digest would not fit.
    """
    try:
        body = json.loads(path.read_bytes())
        digest = body.pop("digest")
        other = body["format"] == FORMAT and body["version"] != VERSION
        return other and digest == hashlib.sha256(json_bytes(body)).hexdigest()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
