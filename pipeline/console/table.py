"""Plain text tables."""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from multispace.pipeline.console.printable import one_line

WIDTH = 100  # columns of the widest tables
GAP = "  "  # between two columns
MIN_NAME = 16  # columns for the names of rows, however wide the table is

Cells = Sequence[Sequence[str]]  # the lines of each cell of a row


def text_table(head: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> str:
    """Return a table as lines of text: the first columns left-aligned, the others right-aligned.

    Two blanks separate the columns. Characters that are not printable become spaces.

    :param left: number of left-aligned columns
    """
    return _layout([[[one_line(str(cell))] for cell in row] for row in (head, *rows)], left)


def wrapped_table(head: Sequence[str], rows: Iterable[Sequence[str]], width: int = WIDTH) -> str:
    """Return a table as :func:`text_table` does, but at most ``width`` columns wide.

    A line break in a cell begins a new line of its row. Where the table is too wide, the heads of
    the columns are wrapped, and then the names of the rows. A table of very many columns stays
    wider than ``width``.
    """
    names, cells = [head[0]], []
    for name, *others in rows:
        names.append(name)
        cells.append([_lines(cell) for cell in others])
    heads = [_lines(name) for name in head[1:]]
    if max(len(one_line(name)) for name in names) + _width([heads, *cells]) > width:
        widths = _widths(cells) or [0] * len(heads)
        heads = [_wrap(name, max(w, *map(len, name.split()), 1))
                 for name, w in zip(head[1:], widths, strict=True)]  # fmt: skip
    room = max(MIN_NAME, width - _width([heads, *cells]))
    first, *wrapped = [_wrap(name, room) for name in names]
    depth = max(map(len, (first, *heads)))  # heads stand at the bottom of their row
    top = [[""] * (depth - len(lines)) + lines for lines in (first, *heads)]
    return _layout([top, *([name, *row] for name, row in zip(wrapped, cells, strict=True))])


def _layout(rows: Sequence[Cells], left: int = 1) -> str:
    """Align the lines of all cells, those of the first ``left`` columns at the left."""
    widths = _widths(rows)
    text = []
    for row in rows:
        for lines in zip_longest(*row, fillvalue=""):
            columns = [
                line.ljust(width) if column < left else line.rjust(width)
                for column, (line, width) in enumerate(zip(lines, widths, strict=True))
            ]
            text.append(GAP.join(columns).rstrip())
    return "\n".join(text)


def _widths(rows: Sequence[Cells]) -> list[int]:
    """Return the width of the longest line of each column."""
    columns = zip(*rows, strict=True)
    return [max(len(line) for lines in column for line in lines) for column in columns]


def _width(rows: Sequence[Cells]) -> int:
    """Return the width of all columns, with the gap before each."""
    return sum(len(GAP) + width for width in _widths(rows))


def _lines(text: str) -> list[str]:
    return [one_line(line) for line in text.split("\n")]


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(one_line(text), width, break_on_hyphens=False) or [""]
