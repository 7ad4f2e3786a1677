"""Tables for papers and pages."""

from collections.abc import Sequence
from dataclasses import dataclass

LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "--": "-{}-"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


@dataclass(frozen=True)
class Table:
    """A heading, the names of the columns, and rows of text; the first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return it as GitHub and pandoc read tables, the title above."""
        lines = [["", *self.head, ""], ["", "---", *(["---:"] * (len(self.head) - 1)), ""]]
        lines += [["", *(cell.replace("|", r"\|") for cell in row), ""] for row in self.rows]
        return f"{self.title}\n\n" + "\n".join(" | ".join(line).strip() for line in lines)

    def latex(self) -> str:
        """Return it as a ``tabular`` of plain LaTeX, the title in a comment."""
        body = [" & ".join(map(_latex, row)) + r" \\" for row in [self.head, *self.rows]]
        columns = "l" + "r" * (len(self.head) - 1)
        lines = [f"% {self.title}", rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0]]
        return "\n".join([*lines, r"\hline", *body[1:], r"\hline", r"\end{tabular}"])


def _latex(text: str) -> str:
    """Escape each sign once: what an escape brings in is not escaped again."""
    out, place = "", 0
    while place < len(text):
        sign = text[place : place + 2] if text[place : place + 2] in LATEX else text[place]
        out += LATEX.get(sign, sign)
        place += len(sign)
    return out
