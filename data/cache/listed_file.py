"""A file as the manifest lists it: where it is, how long, and its digest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from multispace.errors import DamagedFileError


@dataclass(frozen=True)
class Entry:
    """A file as the manifest lists it; ``file`` is relative to the cache folder."""

    file: str
    sha256: str
    bytes: int


def describe(root: Path, path: Path) -> Entry:
    """Return the entry of a file that lies under ``root``."""
    return Entry(path.relative_to(root).as_posix(), file_sha256(path), path.stat().st_size)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of the bytes of ``path``, read in a stream."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_entry(root: Path, entry: Entry) -> Path:
    """Return the path of ``entry`` if its size and digest are as listed.

    :raises DamagedFileError: the file is missing, a link, or not the bytes that the manifest lists.
    """
    path = root / entry.file
    hint = "run `preprocess` again, or fetch the cache anew"
    if path.is_symlink() or not path.is_file():
        raise DamagedFileError(f"{path}: listed in the manifest but not there as a file; {hint}")
    if (size := path.stat().st_size) != entry.bytes:
        raise DamagedFileError(f"{path}: {size} bytes, the manifest says {entry.bytes}; {hint}")
    if (digest := file_sha256(path)) != entry.sha256:
        raise DamagedFileError(
            f"{path}: digest {digest[:12]}..., the manifest says {entry.sha256[:12]}...; {hint}"
        )
    return path
