"""Plain text tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from multispace.pipeline.console.printable import one_line


def text_table(head: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> str:
    """Return a table as lines of text: the first columns left-aligned, the others right-aligned.

    Two blanks separate the columns. Characters that are not printable become spaces.

    :param left: number of left-aligned columns
    """
    cells = [[one_line(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        columns = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(columns).rstrip())
    return "\n".join(lines)
