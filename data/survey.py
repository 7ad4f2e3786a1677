"""A survey of an image folder: what decoding would do to each file."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multispace.data.images import decode, kinds, read_bytes
from multispace.errors import ImageError


@dataclass(frozen=True)
class Survey:
    """What was found.

    ``plain`` counts the images that nothing is changed about, ``converted`` those that are,
    by what is done (an image may count twice); ``failures`` maps a file to its reason. Where
    only headers were read, a damaged image may count as a good one.
    """

    images: Path
    files: int
    decoded: int
    plain: int
    converted: dict[str, int]
    failures: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "images": str(self.images)}


def survey(images: Path, sample: int | None = None) -> Survey:
    """Look at every file under ``images``; links to folders are not followed.

    :param sample: decode so many, evenly spread, and read only the headers of the others.
    :raises PictureError: ``images`` is not a folder.
    """
    if not images.is_dir():
        raise ImageError(f"{images}: not a folder; give the folder of the images")
    files = sorted(Path(root, name) for root, _, names in os.walk(images) for name in names)
    count = len(files) if sample is None else min(sample, len(files))
    chosen = {i * len(files) // count for i in range(count)}
    failures: dict[str, str] = {}
    converted: Counter[str] = Counter()
    plain = 0
    with ThreadPoolExecutor() as pool:
        found = pool.map(_look, files, (number in chosen for number in range(len(files))))
        for path, (changes, reason) in zip(files, found, strict=True):
            if reason:
                failures[str(path.relative_to(images))] = reason
            else:
                converted.update(changes)
                plain += not changes
    return Survey(images, len(files), count, plain, dict(converted.most_common()), failures)


def _look(path: Path, whole: bool) -> tuple[list[str], str]:
    """Return what would be changed about an image, and why it would fail if it would."""
    if path.exists() and not path.is_file():
        return [], "not a plain file"  # reading a pipe would wait for ever
    try:
        content = read_bytes(path)
        changes = kinds(content, path)
        if whole:
            decode(content, path)
    except ImageError as error:
        return [], str(error).removeprefix(f"{path}: ")
    return changes, ""
