"""A JSON object with long lists, of which one entry at a time is decoded.

The dicts of all entries of a file take several times the memory of its text.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_DECODER = json.JSONDecoder()
_SPACE = r"[ \t\n\r]*"
_MARKS = {mark: re.compile(rf"{_SPACE}{re.escape(mark)}{_SPACE}") for mark in "{}[:"}
_COMMA_OR_END = re.compile(rf"{_SPACE}([,\]}}]){_SPACE}")
_TOGETHER = 1000  # entries that are checked together


class EntryList:
    """A list in JSON text. Its entries are decoded each time that they are iterated over.

    :param start: where the list begins in ``text``
    :raises ValueError: while it is iterated over: it is not JSON.
    """

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = start
        self.end = start  # after the list, once it was iterated over

    def __iter__(self) -> Iterator[Any]:
        decode, text = _DECODER.raw_decode, self._text
        at = _after("[", text, self._start)
        end = text.startswith("]", at)
        self.end = at + 1
        while not end:
            entry, at = decode(text, at)
            yield entry
            at, end = _next(text, at, "]")
            self.end = at


def read_members(
    text: str, lists: frozenset[str], check: Callable[[Any], None]
) -> dict[str, Any] | None:
    """Return the members of the JSON object that ``text`` is.

    :param lists: names of members that are returned as an :class:`EntryList` if they are lists
    :param check: called with all parts of the object, each as deep as it is in the object
    :returns: None if the text is not a JSON object, or none that can be decoded
    """
    try:
        members: dict[str, Any] = {}
        at = _after("{", text, 0)
        end = text.startswith("}", at)
        if end:
            at = _after("}", text, at)
        while not end:
            name, at = _DECODER.raw_decode(text, at)
            if not isinstance(name, str):
                return None
            at = _after(":", text, at)
            if name in lists and text.startswith("[", at):
                members[name] = EntryList(text, at)
                _check_entries(members[name], check)
                at = members[name].end
            else:
                members[name], at = _DECODER.raw_decode(text, at)
                check({name: members[name]})
            at, end = _next(text, at, "}")
        return members if at == len(text) else None
    except (ValueError, RecursionError):  # the latter where lists are nested very deeply
        return None


def _check_entries(entries: EntryList, check: Callable[[Any], None]) -> None:
    held: list[Any] = []
    for entry in entries:
        held.append(entry)
        if len(held) == _TOGETHER:
            check([held])
            held = []
    check([held])


def _next(text: str, at: int, end: str) -> tuple[int, bool]:
    """Return where the text goes on after an entry, and whether the entry was the last one.

    :param end: the mark after the last entry
    :raises ValueError: neither a comma nor this mark follows.
    """
    found = _COMMA_OR_END.match(text, at)
    if found is None or (mark := found[1]) not in (",", end):
        raise ValueError(f"neither a comma nor {end} at character {at}")
    return found.end(), mark == end


def _after(mark: str, text: str, at: int) -> int:
    """Return where the text goes on after a punctuation mark and white space around it.

    :raises ValueError: something else is there.
    """
    found = _MARKS[mark].match(text, at)
    if found is None:
        raise ValueError(f"no {mark} at character {at}")
    return found.end()
