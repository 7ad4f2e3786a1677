"""Learning curves of runs as one SVG image that takes its text colour from the page."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

PANELS = {  # quantity in the log: title, and the quantity that is its target
    "cider": ("CIDEr of greedy captions, validation", ""),
    "recon": ("reconstruction, nats a caption", ""),
    "kl_z": ("KL of z, nats", "capacity_z"),
    "kl_c": ("KL of c, nats", "capacity_c"),
}
READING = (
    "Thin line: training, mean since the last line of the log; points: validation; dashes: the "
    "capacity that the KL is held to."
)
# Okabe & Ito's colours for the colour-blind, without those that are faint on white or black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MAX_VALUE = 1e30  # larger numbers are gaps, as NaN is: the axes would overflow
INK = "#010203"  # no colour of a curve; replaced by the colour of the page's text
TEXT_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "curves", "font.size": 9}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Curve:
    """The lines of one run's ``metrics.jsonl``, and the colour they are drawn in."""

    colour: str
    lines: Sequence[Mapping[str, Any]]

    def points(self, split: str, name: str) -> tuple[list[int], list[float]]:
        """Return the steps at which a quantity of a split was logged, and its values."""
        found = [x for x in self.lines if x["split"] == split and x.get(name) is not None]
        values = [line[name] if abs(line[name]) < MAX_VALUE else math.nan for line in found]
        return [line["step"] for line in found], values

    def has(self, name: str) -> bool:
        """Return whether the log has a quantity; the KL of a channel that the system lacks is 0."""
        values = (line.get(name) for line in self.lines)
        return any(value is not None and (value or name == "cider") for value in values)


def draw_curves(curves: Sequence[Curve]) -> str:
    """Return an ``<svg>`` element with a panel for each of PANELS that a curve has.

    It refers to no other document, and is the same for the same curves. It is empty where there
    is no panel.
    """
    panels = [name for name in PANELS if any(curve.has(name) for curve in curves)]
    if not panels:
        return ""
    rows = -(-len(panels) // 2)
    with matplotlib.rc_context(TEXT_STYLE):
        figure = Figure(
            figsize=(9, 2.9 * rows), layout=ConstrainedLayoutEngine(h_pad=0.15), facecolor="none"
        )
        axes = list(figure.subplots(rows, 2, squeeze=False).flat)
        for axis in axes[len(panels) :]:
            axis.remove()
        for axis, name in zip(axes, panels, strict=False):
            _draw(axis, name, [curve for curve in curves if curve.has(name)])
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file, metadata=NO_METADATA)
    return _inline(file.getvalue())


def _draw(axis: Any, name: str, curves: Sequence[Curve]) -> None:
    title, target = PANELS[name]
    for curve in curves:
        colour = curve.colour
        axis.plot(*curve.points("train", name), color=colour, linewidth=0.8, alpha=0.7)
        axis.plot(*curve.points("val", name), color=colour, marker="o", markersize=3, linewidth=1.6)
        axis.plot(*curve.points("train", target), color=colour, linestyle="--", linewidth=1.1)
    axis.set_title(title, color=INK, loc="left", fontsize=10)
    axis.set_xlabel("optimizer steps", color=INK)
    axis.set_facecolor("none")
    axis.tick_params(colors=INK)
    axis.grid(color=INK, alpha=0.15, linewidth=0.6)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def _inline(svg: str) -> str:
    """Return the element for an HTML page: without prologue, namespaces and size."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    head, rest = svg.split(">", 1)
    head = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="learning curves">{rest}'
