"""Plain text tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from multispace.pipeline.console.printable import one_line


def text_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as lines of text: the first column left-aligned, the others right-aligned.

    Two blanks separate the columns. Characters that are not printable become spaces.
    """
    cells = [[one_line(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for first, *rest in cells:
        columns = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *columns]).rstrip())
    return "\n".join(lines)
