"""Tables for papers and pages, with everything escaped that the format would interpret."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from multispace.pipeline.console.printable import one_line
from multispace.pipeline.console.table import wrapped_table

LATEX = {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "--": "-{}-",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}  # fmt: skip
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {sign: f"\\{sign}" for sign in r"\`*_[]|~$^"}


@dataclass(frozen=True)
class Table:
    """A heading, the names of the columns, and rows of text; the first column names the row.

    Plain text keeps line breaks in cells; Markdown and LaTeX have blanks in their place.

    :param note: a line below the table
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """Return plain text that fits a terminal; the title heads the first column."""
        lines = [wrapped_table([self.title, *self.head[1:]], self.rows)]
        return "\n".join([*lines, *filter(None, [self.note])])

    def markdown(self) -> str:
        """Return a table for GitHub and pandoc, below its title if it has one."""
        rule = ["---", *(["---:"] * (len(self.head) - 1))]
        cells = [[_escape(cell, MARKDOWN) for cell in row] for row in (self.head, *self.rows)]
        lines = [" | ".join(["", *row, ""]).strip() for row in (cells[0], rule, *cells[1:])]
        title = f"{escape_markdown(self.title)}\n\n" if self.title else ""
        note = f"\n\n{escape_markdown(self.note)}" if self.note else ""
        return title + "\n".join(lines) + note

    def latex(self, *, booktabs: bool = False) -> str:
        """Return a ``tabular``, with the title and the note in comments.

        :param booktabs: draw the rules of the package booktabs instead of plain LaTeX's
        """
        rules = ("toprule", "midrule", "bottomrule") if booktabs else ("hline",) * 3
        top, middle, bottom = (rf"\{rule}" for rule in rules)
        body = [_latex_row(row) for row in (self.head, *self.rows)]
        columns = "l" + "r" * (len(self.head) - 1)
        title = latex_comment(self.title)
        lines = [title, rf"\begin{{tabular}}{{{columns}}}", top, body[0]]
        note = [latex_comment(self.note)] if self.note else []
        return "\n".join([*lines, middle, *body[1:], bottom, r"\end{tabular}", *note])


def escape_markdown(text: str) -> str:
    """Return text on one line for GitHub and pandoc."""
    return _escape(text, MARKDOWN)


def latex_comment(text: str) -> str:
    """Return text on one line as a comment of LaTeX."""
    return f"% {_escape(text, LATEX)}"


def _latex_row(row: Sequence[str]) -> str:
    text = " & ".join(_escape(cell, LATEX) for cell in row) + r" \\"
    # The line break of the row above would read "[" or "*" as its argument.
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def _escape(text: str, escapes: dict[str, str]) -> str:
    """Return ``text`` on one line, each sign escaped once."""
    signs = "|".join(re.escape(sign) for sign in sorted(escapes, key=len, reverse=True))
    return re.sub(signs, lambda found: escapes[found.group()], one_line(text))
