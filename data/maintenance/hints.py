"""Commands that faults of a cache recommend."""

import shlex
from pathlib import Path


def repair_hint(root: Path) -> str:
    """Return the command that repairs the cache at ``root``."""
    return f"`multispace cache repair {shlex.quote(str(root))}`"


def encode_hint(root: Path, split: str, more: str = "") -> str:
    """Return the command that encodes the captions of a split for the cache at ``root``."""
    quoted = shlex.quote(str(root))
    return f"`multispace preprocess --annotations FILE --split {split} --cache {quoted}{more}`"
