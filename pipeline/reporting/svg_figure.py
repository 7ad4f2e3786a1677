"""Plots as SVG elements that take their text color from the page around them."""

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

WIDTH = 9.0  # inches
DOTS = 72  # per inch, as in all SVG of matplotlib
INK = "#010203"  # no color of a line; replaced by the color of the page's text
TEXT_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Tip:
    """A point of a panel, and the text that the page shows when the pointer is on it."""

    axis: Any
    x: float
    y: float
    text: str


def svg_figure(draw: Callable[[Figure], Iterable[Tip]], label: str, height: float) -> Markup:
    """Return an ``<svg>`` element.

    It refers to no other document, and is the same for the same content.

    :param draw: adds the content to an empty figure, and returns the points with a text
    :param label: names the image for screen readers
    :param height: in inches
    """
    # Ids inside the image are made from the salt: two images of one page must not share them.
    with matplotlib.rc_context({**TEXT_STYLE, "svg.hashsalt": label}):
        layout = ConstrainedLayoutEngine(h_pad=0.15)
        figure = Figure((WIDTH, height), DOTS, layout=layout, facecolor="none")
        tips = list(draw(figure))
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file, metadata=NO_METADATA)
        targets = Markup("").join(_target(tip, height) for tip in tips if _is_visible(tip))
    return _inline(file.getvalue(), label, targets)


def _is_visible(tip: Tip) -> bool:
    x, y = tip.axis.transData.transform((tip.x, tip.y))
    return bool(np.isfinite((x, y)).all() and tip.axis.bbox.padded(1).contains(x, y))


def _target(tip: Tip, height: float) -> Markup:
    """Return what the pointer has to hit; ``y`` of SVG points down."""
    x, y = tip.axis.transData.transform((tip.x, tip.y))
    target = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="6" data-tip="{}"/>')
    return target.format(x, DOTS * height - y, tip.text)


def style_axis(axis: Any, x_label: str) -> None:
    """Draw the frame, the ticks and the labels of a panel in the color of the text."""
    axis.set_xlabel(x_label, color=INK)
    axis.set_facecolor("none")
    axis.tick_params(colors=INK)
    axis.grid(color=INK, alpha=0.15, linewidth=0.6)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def _inline(svg: str, label: str, targets: Markup) -> Markup:
    """Return the element for an HTML page: without prologue, namespaces and size."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    head, rest = svg.split(">", 1)
    head = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", head)
    tips = Markup('<g class="tips">{}</g></svg>').format(targets)
    rest = rest[: rest.rindex("</svg>")] + str(tips)
    # Matplotlib escapes what it writes.
    return Markup(f'{head} role="img" aria-label="{label}" tabindex="0">{rest}')
