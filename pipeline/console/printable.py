"""Text for terminals: names and captions come from other people's files."""

import json
from typing import Any

LAYOUT = "\n\t"  # control characters that are printed


def printable(text: str) -> str:
    """Return ``text`` with spaces in place of characters that a terminal may act on.

    These are control characters other than line breaks and tabs, characters that change the
    direction of text, and lone surrogates, which cannot be printed at all.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in LAYOUT else " " for sign in text)


def one_line(text: str) -> str:
    """Return ``text`` with a space in place of every character that is not printable."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def printable_json(value: Any) -> str:
    """Return ``value`` as indented JSON, with such characters as ``\\u`` escapes."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text
    )
