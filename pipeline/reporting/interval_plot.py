"""Scores as dots with their intervals, one small SVG image per score."""

import math
from collections.abc import Mapping

from markupsafe import Markup

from multispace.pipeline.comparison.sections import Estimate, Section

WIDTH, ROW, TOP = 200, 18, 22  # pixels
MARGIN = 8


def draw_intervals(section: Section, colours: Mapping[str, str]) -> list[Markup]:
    """Return an ``<svg>`` element per column: a row per group, in the order of the table.

    :param colours: of each group
    """
    return [
        _draw(column, {name: cells[column] for name, cells in section.groups.items()}, colours)
        for column in section.columns
    ]


def _draw(column: str, scores: Mapping[str, Estimate], colours: Mapping[str, str]) -> Markup:
    values = [value for s in scores.values() for value in (s.low, s.mean, s.high)]
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    scale = (WIDTH - 2 * MARGIN) / ((high - low) or 1)
    height = TOP + ROW * len(scores) + 16
    parts = [
        Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{} with 95 % intervals">').format(
            WIDTH, height, column
        ),
        Markup('<text x="{}" y="12">{}</text>').format(MARGIN, column),
    ]
    for place, (name, score) in enumerate(scores.items()):
        text = f"{name}: {score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"
        parts.append(Markup("<g><title>{}</title>").format(text))
        if all(map(math.isfinite, (score.low, score.mean, score.high))):
            x = [MARGIN + (value - low) * scale for value in (score.low, score.mean, score.high)]
            parts.append(
                Markup(
                    '<path d="M{:.1f} {y}H{:.1f}" stroke="{colour}" stroke-width="2"/>'
                    '<circle cx="{:.1f}" cy="{y}" r="4" fill="{colour}"/>'
                ).format(x[0], x[2], x[1], y=TOP + ROW * place + 8, colour=colours[name])
            )
        parts.append(Markup("</g>"))
    end = Markup('<text x="{}" y="{y}">{:.3f}</text><text x="{}" y="{y}" text-anchor="end">{:.3f}')
    parts.append(end.format(MARGIN, low, WIDTH - MARGIN, high, y=height - 3))
    return Markup("").join([*parts, Markup("</text></svg>")])
