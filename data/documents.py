"""JSON, YAML and JSON-lines files from anywhere: read within limits, checked by type.

A :class:`DocumentFormat` says what a kind of file may contain. It never returns a value that
does not fit: a file that is too large, too deeply nested, of a wrong type or out of range raises
one error that names the file, the place in it and the value::

    STATE = DocumentFormat(
        Object({"step": Integer(min=0)}, optional={"best": Nullable(Number())}),
        error=CheckpointError,
        hint="the file is damaged",
    )
    state = STATE.read_json(folder / "state.json")
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from multispace.data.files import read_file
from multispace.errors import DataError, Error, brief, shown

MAX_BYTES = 64 << 20
MAX_DEPTH = 32
MAX_LINES = 1_000_000
MAX_YAML_BYTES = 64 << 10  # PyYAML takes a second or so for as much
MAX_INTEGER = (1 << 63) - 1
MAX_TEXT = 1 << 20


class MismatchError(ValueError):
    """A value that does not fit, and its place in the document; never leaves this module."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place} {reason}" if place else reason)


class Kind:
    """A kind of value; this one takes any."""

    expected: ClassVar[str] = "a value"

    def check(self, value: Any, place: str) -> None:
        """Check a value.

        :param place: where the value stands in the document, for the message
        :raises MismatchError: it is not of this kind.
        """

    def refuse(self, value: Any, place: str, expected: str | None = None) -> MismatchError:
        """Return the error for a value that is not of this kind."""
        subject = "is" if place else "it is"
        return MismatchError(
            place, f"{subject} {shown(value)}, expected {expected or self.expected}"
        )


@dataclass(frozen=True)
class Text(Kind):
    """Text of at most ``max_length`` characters, one of ``choices`` or matching ``pattern``."""

    max_length: int = MAX_TEXT
    choices: tuple[str, ...] = ()
    pattern: str | None = None

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        if not isinstance(value, str):
            raise self.refuse(value, place, "text")
        if len(value) > self.max_length:
            raise self.refuse(value, place, f"at most {self.max_length} characters")
        if self.choices and value not in self.choices:
            raise self.refuse(value, place, f"one of {', '.join(self.choices)}")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise self.refuse(value, place, f"text of the form {self.pattern}")


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number from ``min`` to ``max``. ``true`` is none."""

    min: int = -MAX_INTEGER
    max: int = MAX_INTEGER

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        if type(value) is not int or not self.min <= value <= self.max:
            raise self.refuse(value, place, f"a whole number from {self.min} to {self.max}")


@dataclass(frozen=True)
class Number(Kind):
    """A number from ``min`` to ``max``, finite unless ``finite`` is false."""

    min: float = -math.inf
    max: float = math.inf
    finite: bool = True

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        if type(value) not in (int, float):
            raise self.refuse(value, place, "a number")
        if math.isnan(value) or math.isinf(value):
            if self.finite:
                raise self.refuse(value, place, "a finite number")
        elif not self.min <= value <= self.max:
            raise self.refuse(value, place, f"a number from {self.min:g} to {self.max:g}")


@dataclass(frozen=True)
class Boolean(Kind):
    """True or false."""

    expected: ClassVar[str] = "true or false"

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        if not isinstance(value, bool):
            raise self.refuse(value, place)


@dataclass(frozen=True)
class Nullable(Kind):
    """Null, or a value of ``kind``."""

    kind: Kind

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        if value is not None:
            self.kind.check(value, place)


@dataclass(frozen=True)
class Either(Kind):
    """A value of one of ``kinds``; the message is that of the last."""

    kinds: tuple[Kind, ...]

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        for kind in self.kinds[:-1]:
            try:
                return kind.check(value, place)
            except MismatchError:
                continue
        return self.kinds[-1].check(value, place)


@dataclass(frozen=True)
class ListOf(Kind):
    """A list of ``min_items`` to ``max_items`` values of one kind."""

    kind: Kind = field(default_factory=Kind)
    min_items: int = 0
    max_items: int = 1 << 24

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        if not isinstance(value, list):
            raise self.refuse(value, place, "a list")
        if not self.min_items <= len(value) <= self.max_items:
            raise MismatchError(
                place,
                f"has {len(value)} entries, expected {self.min_items} to {self.max_items}",
            )
        for index, entry in enumerate(value):
            self.kind.check(entry, f"{place}[{index}]")


@dataclass(frozen=True)
class MapOf(Kind):
    """An object of any names, whose values are of one kind."""

    kind: Kind = field(default_factory=Kind)
    max_items: int = 1 << 24

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        if not isinstance(value, dict):
            raise self.refuse(value, place, "an object")
        if len(value) > self.max_items:
            raise MismatchError(
                place, f"has {len(value)} entries, expected at most {self.max_items}"
            )
        for name, entry in value.items():
            self.kind.check(entry, _within(place, name))


@dataclass(frozen=True)
class Object(Kind):
    """An object with the names in ``required``, and perhaps those in ``optional``.

    :param others: the kind of all other values; None refuses other names
    """

    required: Mapping[str, Kind] = field(default_factory=dict)
    optional: Mapping[str, Kind] = field(default_factory=dict)
    others: Kind | None = None

    def check(self, value: Any, place: str) -> None:
        """Check a value."""
        if not isinstance(value, dict):
            raise self.refuse(value, place, "an object")
        for name in self.required:
            if name not in value:
                raise MismatchError(place, f"lacks {name!r}")
        known = {**self.optional, **self.required}
        for name, entry in value.items():
            kind = known.get(name, self.others)
            if kind is None:
                raise MismatchError(place, f"has the unknown name {shown(name)}")
            kind.check(entry, _within(place, name))


@dataclass(frozen=True)
class DocumentFormat:
    """What one kind of file may contain, and how to report a file that does not fit.

    :param error: the class of the error that is raised
    :param hint: what to do about a file that does not fit
    :param max_bytes: of the file, or of one line of JSON lines
    :param max_depth: of lists and objects inside each other
    :param max_integer: of whole numbers, positive or negative
    """

    kind: Kind = field(default_factory=Kind)
    error: type[Error] = DataError
    hint: str | None = None
    max_bytes: int = MAX_BYTES
    max_depth: int = MAX_DEPTH
    max_integer: int = MAX_INTEGER

    def read_json(self, path: Path) -> Any:
        """Return the content of a JSON file.

        :raises Error: the file is not readable, or its content does not fit.
        """
        return self.parse_json(self._read(path, self.max_bytes), path)

    def parse_json(self, content: bytes | str, where: object) -> Any:
        """Return the value of JSON text.

        :param content: the text, or its bytes in UTF-8
        :param where: the file or URL of the text, for the message
        :raises Error: it is not JSON, or does not fit.
        """
        if len(content) > self.max_bytes:
            raise self._error(where, f"larger than {self.max_bytes} bytes")

        def parse() -> Any:
            return json.loads(content if isinstance(content, str) else content.decode("utf-8-sig"))

        return self._parsed(parse, where, "JSON")

    def read_json_lines(
        self, path: Path, *, max_bytes: int = MAX_BYTES, max_lines: int = MAX_LINES
    ) -> list[Any]:
        """Return the values of a file with one JSON value a line.

        A last line without a line break is left out where it is not JSON: its writer was killed.

        :param max_bytes: of the whole file
        :raises Error: the file is not readable, or a line does not fit; names the line.
        """
        *lines, last = self._read(path, max_bytes).split(b"\n")
        if len(lines) > max_lines:
            raise self._error(path, f"has more than {max_lines} lines")
        values = [
            self.parse_json(line, f"{path}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        if last.strip():
            try:
                json.loads(last)
            except (ValueError, RecursionError):
                return values
            values.append(self.parse_json(last, f"{path}, line {len(lines) + 1}"))
        return values

    def read_yaml(self, path: Path) -> Any:
        """Return the content of a YAML file. Anchors, aliases and tags are not allowed.

        :raises Error: the file is not readable, or its content does not fit.
        """
        content = self._read(path, min(self.max_bytes, MAX_YAML_BYTES))

        def parse() -> Any:
            from multispace.data.plain_yaml import parse_yaml

            return parse_yaml(content.decode("utf-8-sig"))

        return self._parsed(parse, path, "YAML")

    def check(self, value: Any, where: object) -> None:
        """Check a value that was read in another way.

        :param where: the file or URL that it comes from, for the message
        :raises Error: it does not fit.
        """
        try:
            _check_plain(value, self.max_depth, self.max_integer)
            self.kind.check(value, "")
        except MismatchError as error:
            raise self._error(where, error) from error

    def _read(self, path: Path, max_bytes: int) -> bytes:
        try:
            return read_file(path, max_bytes)
        except FileNotFoundError:
            raise self._error(path, "not found") from None
        except OSError as error:
            raise self._error(path, f"not readable ({error.strerror})") from error
        except DataError as error:
            raise self._error(path, error.what) from error

    def _parsed(self, parse: Callable[[], Any], where: object, language: str) -> Any:
        try:
            value = parse()
        except RecursionError as error:
            raise self._error(where, "too deeply nested") from error
        except ValueError as error:
            raise self._error(where, f"not {language} ({brief(error, 200)})") from error
        self.check(value, where)
        return value

    def _error(self, where: object, what: object) -> Error:
        return self.error(brief(what), where=where, hint=self.hint)


def _check_plain(value: Any, max_depth: int, max_integer: int) -> None:
    """Check that a value is of JSON's types, and not too deep or large. Without recursion.

    :raises MismatchError: it is not.
    """
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for entry in level:
            if isinstance(entry, dict):
                for name in entry:
                    if not isinstance(name, str):
                        raise MismatchError("", f"the name {shown(name)} is not text")
                inner += entry.values()
            elif isinstance(entry, list):
                inner += entry
            elif isinstance(entry, int) and abs(entry) > max_integer:
                bits = max_integer.bit_length()
                raise MismatchError("", f"holds a whole number of more than {bits} bits")
            elif not isinstance(entry, str | int | float | None):
                raise MismatchError("", f"holds a value of type {type(entry).__name__}")
        level, depth = inner, depth + 1
        if depth > max_depth and level:
            raise MismatchError("", f"is nested more than {max_depth} levels deep")


def _within(place: str, name: str) -> str:
    """Return the place of an entry: ``shards[3].file``."""
    name = brief(name, 60)
    return f"{place}.{name}" if place else name
