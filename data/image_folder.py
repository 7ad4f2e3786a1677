"""The files of the images of a collection, in a folder."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from multispace.errors import shown


@dataclass(frozen=True)
class LocatedImages:
    """The files of images.

    :param files: key -> file; a file that does not exist has the path that the key gives it
    :param missing: keys without a file
    :param renamed: how many of them are in the folder under another name
    :param reasons: how their names differ, or examples of both names
    """

    files: dict[str, Path]
    missing: tuple[str, ...] = ()
    renamed: int = 0
    reasons: tuple[str, ...] = ()


def locate_images(folder: Path, keys: Iterable[str], *, match_names: bool = False) -> LocatedImages:
    """Find the file of each key.

    :param match_names: use a file in another folder, in other case or in another Unicode form, if
        exactly one file has the name
    """
    files = {key: folder / key for key in keys}
    missing = [key for key, path in files.items() if not path.exists()]
    if not missing:
        return LocatedImages(files)
    index = _NameIndex(folder)
    if match_names:
        found = {key: path for key in missing if (path := index.match(key)) is not None}
        files |= found
        missing = [key for key in missing if key not in found]
    return LocatedImages(files, tuple(missing), *_renamed(index, missing))


def _renamed(index: "_NameIndex", missing: list[str]) -> tuple[int, tuple[str, ...]]:
    """Return the number of files under other names, and lines about the differences."""
    kinds: Counter[str] = Counter()
    examples: dict[str, tuple[str, str]] = {}
    for key in missing:
        if (near := index.match(key)) is not None:
            name = near.relative_to(index.folder).as_posix()
            kind = _difference(key, name)
            kinds[kind] += 1
            examples.setdefault(kind, (key, name))
    lines = [
        f"{count} are there {kind}: {shown(key)} is {shown(name)}"
        for kind, count in kinds.most_common()
        for key, name in [examples[kind]]
    ]
    if not lines and missing:
        there = shown(index.first) if index.first else "no file"
        lines.append(f"expected names such as {shown(missing[0])}, the folder has {there}")
    return kinds.total(), tuple(lines)


def _difference(key: str, name: str) -> str:
    if unicodedata.normalize("NFC", key) == unicodedata.normalize("NFC", name):
        return "in another Unicode form"
    if _plain(key) == _plain(name):
        return "in upper or lower case"
    return "in another folder"


class _NameIndex:
    """The files below a folder, by their names without regard to case and Unicode form."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first: str | None = None
        self._paths: dict[str, list[str]] = {}
        self._names: dict[str, list[str]] = {}
        for path in files_below(folder):
            self.first = self.first or path
            self._paths.setdefault(_plain(path), []).append(path)
            self._names.setdefault(_plain(PurePosixPath(path).name), []).append(path)

    def match(self, key: str) -> Path | None:
        """Return the only file whose path, or else whose name, is that of a key."""
        plain = _plain(key)
        found = self._paths.get(plain) or self._names.get(PurePosixPath(plain).name, [])
        return self.folder / found[0] if len(found) == 1 else None


def files_below(folder: Path) -> Iterator[str]:
    """Yield the files below a folder as relative paths, in the order of folders and names.

    Links to folders are not followed.
    """
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield (Path(root, name)).relative_to(folder).as_posix()


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
