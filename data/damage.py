"""Signs of damage in the files of a cache, one by one; nothing is written."""

import hashlib
import json
from pathlib import Path

import numpy as np

from data.annotations.collection import check_key
from data.atomic import json_bytes
from data.entry import Entry, file_sha256
from data.manifest import FORMAT, VERSION

_BLOCK = 1 << 18  # values looked at together: small enough to stay in the processor's cache


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


def parse_key_list(content: bytes) -> list[str]:
    """Return the keys of a key list whose bytes are trusted: one a line, each line ended."""
    return content.decode(errors="replace").split("\n")[:-1]


def non_finite_rows(features: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows of (N, D) that hold a NaN or an infinity, in order."""
    step = max(1, _BLOCK // features.shape[1])
    bad = []
    for start in range(0, len(features), step):
        block = features[start : start + step]
        if block.dtype == np.float16:  # by its exponent: numpy tests halves one at a time
            odd = (block.view(np.uint16) & np.uint16(0x7C00)) == 0x7C00
        else:
            odd = ~np.isfinite(block)
        if odd.any():
            bad.append(start + np.flatnonzero(odd.any(axis=1)))
    return np.concatenate(bad) if bad else np.empty(0, np.int64)


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


def is_key(key: str) -> bool:
    """Whether ``key`` can be a picture's key."""
    try:
        check_key(key)
    except ValueError:
        return False
    return True
