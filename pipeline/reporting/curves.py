"""Learning curves of runs as one SVG image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from multispace.pipeline.reporting.svg_figure import INK, style_axis, svg_figure

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

    def draw(figure: Figure) -> None:
        axes = list(figure.subplots(rows, 2, squeeze=False).flat)
        for axis in axes[len(panels) :]:
            axis.remove()
        for axis, name in zip(axes, panels, strict=False):
            _draw(axis, name, [curve for curve in curves if curve.has(name)])

    return svg_figure(draw, "learning curves", height=2.9 * rows)


def _draw(axis: Any, name: str, curves: Sequence[Curve]) -> None:
    title, target = PANELS[name]
    for curve in curves:
        colour = curve.colour
        axis.plot(*curve.points("train", name), color=colour, linewidth=0.8, alpha=0.7)
        axis.plot(*curve.points("val", name), color=colour, marker="o", markersize=3, linewidth=1.6)
        axis.plot(*curve.points("train", target), color=colour, linestyle="--", linewidth=1.1)
    axis.set_title(title, color=INK, loc="left", fontsize=10)
    style_axis(axis, "optimizer steps")
