"""How help is laid out: sections of two columns, in lines that never cut an option in two."""

import textwrap
from collections.abc import Iterable, Sequence

import click

WIDTH = 80
COLUMN = 26  # the widest first column; a longer entry has a line of its own


class Formatter(click.HelpFormatter):
    """A formatter that wraps at blanks alone: ``--val-split`` stays whole."""

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = COLUMN, col_spacing: int = 2
    ) -> None:
        """Write a list of entries and what they mean."""
        rows = list(rows)
        widths = [len(first) for first, _ in rows if len(first) <= col_max]
        indent = self.current_indent + max(widths, default=col_max) + col_spacing
        for first, text in rows:
            start = f"{'':{self.current_indent}}{first}"
            if len(start) > indent - col_spacing:
                self.write(f"{start}\n")
                start = ""
            lines = textwrap.wrap(text, self.width - indent, break_on_hyphens=False) or [""]
            for line in lines:
                self.write(f"{start:{indent}}{line}".rstrip() + "\n")
                start = ""


class Context(click.Context):
    """A context whose help is laid out by :class:`Formatter`."""

    formatter_class = Formatter


def write_section(
    formatter: click.HelpFormatter, heading: str, rows: Sequence[tuple[str, str]]
) -> None:
    """Write entries under a heading, if there are any."""
    if rows:
        with formatter.section(heading):
            formatter.write_dl(rows)


def write_lines(formatter: click.HelpFormatter, heading: str, lines: Sequence[str]) -> None:
    """Write lines under a heading as they are, if there are any."""
    if lines:
        with formatter.section(heading):
            for line in lines:
                formatter.write(f"{'':{formatter.current_indent}}{line}".rstrip() + "\n")
