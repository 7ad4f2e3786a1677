"""From the names of vectors, such as image ids, to keys: the file names of the images."""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from multispace.data.annotations import read_collection
from multispace.data.files import read_file
from multispace.errors import CacheError, DataError, OptionError, brief, shown

MAX_MAP_BYTES = 1 << 30

_FORMAT = re.compile("(d|0[0-9]{1,2}d)?")  # of a whole number, if there is any


class NamePattern:
    """A pattern such as ``COCO_val2014_{:012d}.jpg``, whose field stands for the name.

    :raises OptionError: it has no field, several, or one of another form.
    """

    def __init__(self, pattern: str) -> None:
        where = f"--name-pattern {pattern}"
        try:
            fields = [part[1:] for part in string.Formatter().parse(pattern) if part[1] is not None]
        except ValueError as error:
            raise OptionError(brief(error), where=where) from error
        if len(fields) != 1 or not _is_plain(*fields[0]):
            raise OptionError(
                "expected one field, {} for text or {:012d} for a number of 12 digits, such as "
                '"COCO_val2014_{:012d}.jpg"',
                where=where,
            )
        self.pattern = pattern
        self._of_number = bool(fields[0][1])

    def __call__(self, name: str) -> str:
        """Return the key of a name.

        :raises ValueError: the pattern is for numbers, and the name is none.
        """
        if not self._of_number:
            return self.pattern.format(name)
        if not (name.isascii() and name.isdecimal()):
            raise ValueError(f"{shown(name)} is not a whole number")
        return self.pattern.format(int(name))


def _is_plain(name: str | None, format: str | None, conversion: str | None) -> bool:
    """Return whether a field has no name, so that nothing is looked up, and an allowed format."""
    return not name and conversion is None and bool(_FORMAT.fullmatch(format or ""))


def map_names(names: Sequence[str], pattern: str | None, name_map: Path | None) -> list[str]:
    """Return the keys of names.

    :param pattern: see :class:`NamePattern`
    :param name_map: see :func:`read_name_map`
    :raises CacheError: a name has no key.
    """
    if name_map is not None:
        return _mapped(names, read_name_map(name_map), name_map)
    if pattern is None:
        return list(names)
    key_of: Callable[[str], str] = NamePattern(pattern)
    try:
        return [key_of(name) for name in names]
    except ValueError as error:
        raise CacheError(
            str(error),
            where=f"--name-pattern {pattern}",
            hint="use {} for names that are text",
        ) from error


def _mapped(names: Sequence[str], keys: Mapping[str, str], name_map: Path) -> list[str]:
    missing = [name for name in names if name not in keys]
    if missing:
        example = f", its first is {shown(next(iter(keys)))}" if keys else ""
        raise CacheError(
            f"has no entry for {len(missing)} of {len(names)} names, such as "
            f"{shown(missing[0])}{example}",
            where=f"--name-map {name_map}",
            hint="add them, or remove their vectors",
        )
    return [keys[name] for name in names]


def read_name_map(path: Path) -> dict[str, str]:
    """Read a table of names and keys, or annotations, whose image ids are the names.

    A table has a line for each name: the name, a tab or a comma, and the key. JSON is read as
    annotations.

    :raises CacheError: it is neither, or a name has two keys.
    """
    where = f"--name-map {path}"
    keys: dict[str, str] = {}
    try:
        if path.suffix == ".json":
            pairs = _ids_in(path)
        else:
            pairs = _pairs_in(read_file(path, MAX_MAP_BYTES).decode("utf-8-sig"))
        for name, key in pairs:
            if keys.setdefault(name, key) != key:
                raise ValueError(f"{shown(name)} has two: {shown(keys[name])} and {shown(key)}")
    except DataError as error:
        raise CacheError(error.what, where=where, hint=error.hint) from error
    except (OSError, ValueError) as error:
        raise CacheError(
            f"cannot be read ({brief(error)})",
            where=where,
            hint="write one line for each vector: its name, a tab, and the file name of the image",
        ) from error
    return keys


def _ids_in(path: Path) -> list[tuple[str, str]]:
    return [
        (str(image_id), image.key)
        for image in read_collection(path).images
        for image_id in (image.image_id, *image.other_ids)
    ]


def _pairs_in(text: str) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, separator, key = line.partition("\t" if "\t" in line else ",")
        if not separator or not name.strip() or not key.strip():
            raise ValueError(f"line {number} is {shown(line)}, expected a name, a tab and a key")
        pairs.append((name.strip(), key.strip()))
    return pairs
