"""Typed access to the entries of a JSON annotation file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multispace.data.annotations.json_members import EntryList
from multispace.errors import AnnotationError, shown


def entries(source: Path, document: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each entry of the list ``document[name]``.

    :raises AnnotationError: it is not a list.
    """
    values = document[name]
    if not isinstance(values, EntryList):
        raise fault(source, name, values, "a list")
    return ((f"{name}[{index}]", entry) for index, entry in enumerate(values))


def field(source: Path, place: str, entry: Any, name: str, kind: type, expected: str) -> Any:
    """Return ``entry[name]``.

    :param place: where the entry is in the file, for errors
    :raises AnnotationError: there is none, or it is not a ``kind``.
    """
    if not isinstance(entry, dict):
        raise fault(source, place, entry, "an object")
    if name not in entry:
        raise AnnotationError(
            f"{place} has no {name}", where=source, hint="add it, or remove the entry"
        )
    value = entry[name]
    if not isinstance(value, kind):
        raise fault(source, f"{place}.{name}", value, expected)
    return value


def text_field(source: Path, place: str, entry: Any, name: str) -> str:
    """Return the text ``entry[name]``.

    :raises AnnotationError: there is none, or it is not text.
    """
    value: str = field(source, place, entry, name, str, "text")
    return value


def caption_field(source: Path, place: str, entry: Any, name: str) -> Any:
    """Return the caption ``entry[name]``; null and numbers are returned, to be skipped.

    :raises AnnotationError: there is none, or it is a list or an object.
    """
    value = field(source, place, entry, name, object, "")
    if isinstance(value, list | dict):
        raise fault(source, f"{place}.{name}", value, "text")
    return value


def id_field(source: Path, place: str, entry: Any, name: str) -> int | str:
    """Return the identifier ``entry[name]``: a whole number or text.

    :raises AnnotationError: there is none, or it is something else.
    """
    value = field(source, place, entry, name, object, "")
    if type(value) is int or (isinstance(value, str) and value and value.isprintable()):
        return value
    raise fault(source, f"{place}.{name}", value, "a whole number or printable text")


def fault(source: Path, place: str, value: Any, expected: str) -> AnnotationError:
    """Return the error for a value of the wrong kind."""
    return AnnotationError(
        f"{place} is {shown(value)}, expected {expected}",
        where=source,
        hint="correct the entry, or remove it",
    )
