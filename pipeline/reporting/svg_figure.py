"""Plots as SVG elements that take their text color from the page around them."""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

WIDTH = 9.0  # inches
INK = "#010203"  # no color of a line; replaced by the color of the page's text
TEXT_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def svg_figure(draw: Callable[[Figure], None], label: str, height: float) -> str:
    """Return an ``<svg>`` element.

    It refers to no other document, and is the same for the same content.

    :param draw: adds the content to an empty figure
    :param label: names the image for screen readers
    :param height: in inches
    """
    # Ids inside the image are made from the salt: two images of one page must not share them.
    with matplotlib.rc_context({**TEXT_STYLE, "svg.hashsalt": label}):
        layout = ConstrainedLayoutEngine(h_pad=0.15)
        figure = Figure(figsize=(WIDTH, height), layout=layout, facecolor="none")
        draw(figure)
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file, metadata=NO_METADATA)
    return _inline(file.getvalue(), label)


def style_axis(axis: Any, x_label: str) -> None:
    """Draw the frame, the ticks and the labels of a panel in the color of the text."""
    axis.set_xlabel(x_label, color=INK)
    axis.set_facecolor("none")
    axis.tick_params(colors=INK)
    axis.grid(color=INK, alpha=0.15, linewidth=0.6)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def _inline(svg: str, label: str) -> str:
    """Return the element for an HTML page: without prologue, namespaces and size."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    head, rest = svg.split(">", 1)
    head = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{label}">{rest}'
