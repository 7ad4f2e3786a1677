"""Result of a push or a pull, and the plan of a pull."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Planned:
    """What a pull is about to fetch: so many ``files``, of ``bytes`` in all."""

    url: str
    folder: Path
    files: int
    bytes: int

    def render(self) -> str:
        """Return the plan as one line."""
        files = "1 file" if self.files == 1 else f"{self.files} files"
        return f"fetching {files}, {self.bytes / 1e6:.1f} MB, from {self.url} to {self.folder}"


@dataclass(frozen=True)
class Transferred:
    """Result of a push or a pull of a cache or a model.

    :param digest: of a cache, the SHA-256 (hexadecimal) of the source's ``cache.json``; after a
        partial pull (``whole`` is false) that of the folder differs. Of a model, the digest over
        all files in ``model.json``.
    :param sent: the files that were transferred, of ``bytes`` in all
    :param present: the number of files that were there already
    :param notes: what else there is to know, one line each
    """

    url: str
    folder: Path
    digest: str
    sent: tuple[str, ...]
    bytes: int
    present: int
    whole: bool = True
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "folder": str(self.folder)}

    def render(self) -> str:
        """Return what was transferred, and the digest as `cache pull --digest` takes it."""
        lines = [
            f"{len(self.sent)} files, {self.bytes / 1e6:.1f} MB; {self.present} already there",
            f"the source's digest: sha256:{self.digest}",
        ]
        if not self.whole:
            lines.append("the folder holds a part of the cache, and a manifest of its own")
        return "\n".join(lines)
