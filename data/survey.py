"""A survey of an image folder: what decoding would do to each file."""

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multispace.data.images import conversions, decode, read_bytes
from multispace.errors import ImageError, brief
from multispace.exit_status import SKIPPED
from multispace.long_lists import first_lines


@dataclass(frozen=True)
class Survey:
    """Result of a survey.

    If only the header of an image was read, damage behind the header is not found.

    :param files: files under ``images``
    :param decoded: files that were decoded completely; only the headers of the others were read
    :param plain: images that need no conversion
    :param converted: kind of conversion -> images; an image may need several
    :param failures: file -> reason why it cannot be read
    """

    images: Path
    files: int
    decoded: int
    plain: int
    converted: dict[str, int]
    failures: dict[str, str]

    @property
    def exit_status(self) -> int:
        """3 if an image cannot be read."""
        return SKIPPED if self.failures else 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "images": str(self.images)}

    def render(self) -> str:
        """Return the counts, and the first failures."""
        headers = self.files - self.decoded
        lines = [
            f"{self.files} files under {brief(self.images)}: {self.decoded} decoded"
            + (f", {headers} checked only by their headers" if headers else ""),
            f"{self.plain} need no conversion",
            *(f"{count} converted: {kind}" for kind, count in self.converted.items()),
            f"{len(self.failures)} cannot be read",
        ]
        reasons = [f"  {brief(file)}: {brief(why)}" for file, why in self.failures.items()]
        lines += first_lines(reasons)
        return "\n".join(lines)


def survey(images: Path, sample: int | None = None) -> Survey:
    """Look at every file under ``images``; links to folders are not followed.

    :param sample: number of files to decode, evenly spread; only the headers of the others are
        read. None decodes all.
    :raises ImageError: ``images`` is not a folder.
    """
    if not images.is_dir():
        raise ImageError("not a folder", where=images, hint="give the folder of the images")
    files = sorted(Path(root, name) for root, _, names in os.walk(images) for name in names)
    count = len(files) if sample is None else min(sample, len(files))
    chosen = {i * len(files) // count for i in range(count)}
    with ThreadPoolExecutor() as pool:
        looks = pool.map(_look, files, (number in chosen for number in range(len(files))))
        return _count(images, files, count, looks)


def _count(
    images: Path, files: list[Path], decoded: int, looks: Iterable[tuple[list[str], str]]
) -> Survey:
    failures: dict[str, str] = {}
    converted: Counter[str] = Counter()
    plain = 0
    for path, (changes, reason) in zip(files, looks, strict=True):
        if reason:
            failures[str(path.relative_to(images))] = reason
        else:
            converted.update(changes)
            plain += not changes
    return Survey(images, len(files), decoded, plain, dict(converted.most_common()), failures)


def _look(path: Path, whole: bool) -> tuple[list[str], str]:
    """Return the conversions that an image needs, and why it cannot be read, if it cannot."""
    try:
        content = read_bytes(path)
        changes = conversions(content, path)
        if whole:
            decode(content, path)
    except ImageError as error:
        return [], error.what
    return changes, ""
