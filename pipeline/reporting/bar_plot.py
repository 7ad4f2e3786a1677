"""Bars of many values as one small SVG image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT, TOP = 360, 100, 16  # pixels
MAX_BARS = 512


@dataclass(frozen=True)
class BarPlot:
    """A plot, and the line below it."""

    svg: Markup
    caption: str


def draw_bars(bars: Sequence[tuple[float, str]], caption: str, top_label: str) -> BarPlot:
    """Return bars from 0, with the largest value beside the top.

    :param bars: values and the texts that the page shows when the pointer is on the bar; at most
        MAX_BARS are drawn
    :param top_label: the largest value with its unit
    """
    shown = bars[:MAX_BARS]
    values = [max(value, 0.0) if math.isfinite(value) else 0.0 for value, _ in shown]
    top = max(values, default=0.0) or 1.0
    step = WIDTH / max(len(shown), 1)
    head = Markup(
        '<svg class="bars" viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}">'
        '<text x="0" y="11">{}</text><path d="M0 {y}H{}" stroke="currentColor"/>'
    )
    bar = Markup(
        '<g data-tip="{}"><path d="M{:.1f} {y}h{:.1f}v{}h-{:.1f}z" fill="transparent"/>'
        '<path d="M{:.1f} {:.1f}h{:.1f}V{bottom}h-{:.1f}z"/></g>'
    )
    bottom, room = HEIGHT - 2, HEIGHT - 2 - TOP
    width = step * 0.8
    parts = [head.format(WIDTH, HEIGHT, caption, top_label, WIDTH, y=bottom)]
    for place, (value, (_, text)) in enumerate(zip(values, shown, strict=True)):
        x, y = place * step, bottom - room * value / top
        parts.append(
            bar.format(text, x, step, room, step, x, y, width, width, y=TOP, bottom=bottom)
        )
    return BarPlot(Markup("").join([*parts, Markup("</svg>")]), caption)
