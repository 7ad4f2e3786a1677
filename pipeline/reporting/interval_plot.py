"""Scores as dots with their intervals, one small SVG image per score."""

import math
from collections.abc import Mapping

from markupsafe import Markup

from multispace.pipeline.comparison.sections import Estimate, Section
from multispace.pipeline.reporting.group_marks import GroupMark

WIDTH, ROW, TOP = 140, 16, 18  # pixels
MARGIN = 8


def draw_intervals(section: Section, marks: Mapping[str, GroupMark]) -> list[Markup]:
    """Return an ``<svg>`` element per column: a row per group, in the order of the table.

    :param marks: of each group
    """
    return [
        _draw(label, {name: cells[column] for name, cells in section.groups.items()}, marks)
        for column, label in zip(section.columns, section.labels(), strict=True)
    ]


def _draw(column: str, scores: Mapping[str, Estimate], marks: Mapping[str, GroupMark]) -> Markup:
    values = [value for s in scores.values() for value in (s.low, s.mean, s.high)]
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    scale = (WIDTH - 2 * MARGIN) / ((high - low) or 1)
    height = TOP + ROW * len(scores) + 16
    head = Markup(
        '<svg viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{} with 95 % intervals">'
        '<text x="{}" y="12">{}</text>'
    )
    parts = [head.format(WIDTH, height, column, MARGIN, column)]
    row = Markup(
        '<g data-tip="{}"><path d="M0 {top}H{}v{}H0z" fill="transparent"/>'
        '<path d="M{:.1f} {y}H{:.1f}" stroke="{colour}" stroke-width="2"/>'
        '<path d="{}" transform="translate({:.1f} {y})" fill="{colour}"/></g>'
    )
    for place, (name, score) in enumerate(scores.items()):
        found = (score.low, score.mean, score.high)
        if all(map(math.isfinite, found)):
            x = [MARGIN + (value - low) * scale for value in found]
            text = f"{name}: {column} {score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"
            mark, top = marks[name], TOP + ROW * place
            parts.append(
                row.format(
                    text, WIDTH, ROW, x[0], x[2], mark.path, x[1],
                    y=top + ROW // 2, top=top, colour=mark.colour,
                )
            )  # fmt: skip
    end = Markup('<text x="{}" y="{y}">{:.3f}</text><text x="{}" y="{y}" text-anchor="end">{:.3f}')
    parts.append(end.format(MARGIN, low, WIDTH - MARGIN, high, y=height - 3))
    return Markup("").join([*parts, Markup("</text></svg>")])
