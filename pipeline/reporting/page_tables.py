"""Tables of a page: marked cells, dots with intervals, and texts to copy."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from multispace.pipeline.compare import Comparison
from multispace.pipeline.comparison.sections import Section
from multispace.pipeline.metrics.samples.diversity import CORPUS_MBLEU
from multispace.pipeline.reporting.export_tables import Table
from multispace.pipeline.reporting.group_marks import GroupMark
from multispace.pipeline.reporting.interval_plot import draw_intervals

LOWER_IS_BETTER = ("mBLEU-4", CORPUS_MBLEU)  # of diverse samples
Marks = Mapping[tuple[int, int], str]  # row and column of a cell -> class


@dataclass(frozen=True)
class PageTable:
    """A table as the page shows it.

    :param marks: ``best`` values of a column, and ``clear`` differences, which exclude 0
    :param plots: the same scores as dots
    """

    table: Table
    marks: Marks = field(default_factory=dict)
    plots: tuple[Markup, ...] = ()


def comparison_tables(comparison: Comparison, marks: Mapping[str, GroupMark]) -> list[PageTable]:
    """Return the tables of a comparison, marked, with plots beside the scores.

    :param marks: of each group
    """
    decorated: list[tuple[Marks, tuple[Markup, ...]]] = []
    for section in comparison.sections:
        decorated += _decorations(section, marks)
    if comparison.curves.curves:
        decorated.append(({}, ()))
    if comparison.curves.section:
        decorated += _decorations(comparison.curves.section, marks)
    decorated.append(({}, ()))  # single captions
    return [
        PageTable(table, *found)
        for table, found in zip(comparison.tables(), decorated, strict=True)
    ]


def copy_texts(table: Table) -> dict[str, str]:
    """Return a table as text in the formats that people paste."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([table.head, *table.rows])
    return {
        "CSV": file.getvalue(),
        "Markdown": table.markdown(),
        "LaTeX": table.latex(booktabs=True),
    }


def _decorations(
    section: Section, marks: Mapping[str, GroupMark]
) -> list[tuple[Marks, tuple[Markup, ...]]]:
    """Return marks and plots of the scores and, if there are any, of the differences."""
    scores: tuple[Marks, tuple[Markup, ...]] = (
        _best(section), tuple(draw_intervals(section, marks)),
    )  # fmt: skip
    clear = {
        (row, column): "clear"
        for row, (_, _, cells) in enumerate(section.differences)
        for column, cell in enumerate(cells.values(), 1)
        if cell.low > 0 or cell.high < 0
    }
    return [scores, (clear, ())] if section.differences else [scores]


def _best(section: Section) -> dict[tuple[int, int], str]:
    """Return the cells with the best value of their column, unless all are equal."""
    best: dict[tuple[int, int], str] = {}
    for column, name in enumerate(section.columns, 1):
        sign = -1 if name in LOWER_IS_BETTER else 1
        values = [sign * cells[name].mean for cells in section.groups.values()]
        top = max(filter(math.isfinite, values), default=math.nan)
        if len(set(values)) > 1:
            best |= {(row, column): "best" for row, value in enumerate(values) if value == top}
    return best
