"""Learning curves of runs as one SVG image."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from multispace.pipeline.reporting.group_marks import GroupMark
from multispace.pipeline.reporting.svg_figure import INK, Tip, style_axis, svg_figure

PANELS = {  # quantity in the log: title, and the quantity that is its target
    "cider": ("CIDEr of greedy captions, validation", ""),
    "recon": ("reconstruction, nats a caption", ""),
    "kl_z": ("KL of z, nats", "capacity_z"),
    "kl_c": ("KL of c, nats", "capacity_c"),
}
READING = (
    "Thin line: training, mean since the last line of the log; points: validation; large ring: "
    "the checkpoint that was evaluated; dashes: the capacity that the KL is held to."
)
AXES = {"epoch": "epochs", "step": "optimizer steps"}  # names in the log, and of the axis
MAX_VALUE = 1e30  # larger numbers are gaps, as NaN is: the axes would overflow
LINEAR = ("cider",)  # quantities that are never drawn over a logarithmic axis: they start at 0


@dataclass(frozen=True)
class Curve:
    """The lines of one run's ``metrics.jsonl``, and how they are drawn.

    :param name: of the run
    :param chosen: the optimizer steps of the checkpoints that were evaluated
    """

    name: str
    mark: GroupMark
    lines: Sequence[Mapping[str, Any]]
    chosen: frozenset[int] = frozenset()

    def points(self, split: str, name: str, by: str) -> tuple[list[float], list[float]]:
        """Return the values of a quantity of a split over ``epoch`` or ``step``."""
        found = [x for x in self.lines if x["split"] == split and x.get(name) is not None]
        return [_bounded(line[by]) for line in found], [_bounded(line[name]) for line in found]

    def chosen_points(self, name: str, by: str) -> tuple[list[float], list[float]]:
        """Return the points of the checkpoints that were evaluated, in validation if possible."""
        lines = [x for x in self.lines if x["step"] in self.chosen and x.get(name) is not None]
        latest = {x["step"]: x for x in sorted(lines, key=lambda x: x["split"] == "val")}
        found = latest.values()
        return [_bounded(line[by]) for line in found], [_bounded(line[name]) for line in found]

    def has(self, name: str) -> bool:
        """Return whether the log has a quantity; the KL of a channel that the system lacks is 0."""
        values = (line.get(name) for line in self.lines)
        return any(value is not None and (value or name == "cider") for value in values)


def _bounded(value: float) -> float:
    return value if abs(value) < MAX_VALUE else math.nan


def draw_curves(curves: Sequence[Curve], *, log: bool = False) -> Markup:
    """Return an ``<svg>`` element with a panel for each of PANELS that a curve has.

    It refers to no other document, and is the same for the same curves. It is empty where there
    is no panel. The curves are over epochs, or over optimizer steps where a log has no epochs.

    :param log: whether the axes are logarithmic
    """
    panels = [name for name in PANELS if any(curve.has(name) for curve in curves)]
    if not panels:
        return Markup("")
    rows = -(-len(panels) // 2)
    by = "epoch" if all("epoch" in x for curve in curves for x in curve.lines) else "step"

    def draw(figure: Figure) -> Iterator[Tip]:
        axes = list(figure.subplots(rows, 2, squeeze=False).flat)
        for axis in axes[len(panels) :]:
            axis.remove()
        for axis, name in zip(axes, panels, strict=False):
            yield from _draw(axis, name, [curve for curve in curves if curve.has(name)], by)
            if log:
                _make_logarithmic(axis, y=name not in LINEAR)

    label = "learning curves, logarithmic axes" if log else "learning curves"
    return svg_figure(draw, label, height=2.9 * rows)


def _draw(axis: Any, name: str, curves: Sequence[Curve], by: str) -> Iterator[Tip]:
    """Draw a panel, and yield the points of the validation."""
    title, target = PANELS[name]
    for curve in curves:
        colour, marker = curve.mark.colour, curve.mark.marker
        held = curve.points("val", name, by)
        axis.plot(*curve.points("train", name, by), color=colour, linewidth=0.8, alpha=0.7)
        axis.plot(*held, color=colour, marker=marker, markersize=3.5, linewidth=1.6)
        axis.plot(*curve.points("train", target, by), color=colour, linestyle="--", linewidth=1.1)
        axis.plot(
            *curve.chosen_points(name, by),
            color=colour, marker="o", markersize=10, fillstyle="none", linestyle="none",
        )  # fmt: skip
        for x, y in zip(*held, strict=True):
            yield Tip(axis, x, y, f"{curve.name}, {by} {x:g}: {y:.4g}")
    axis.set_title(title, color=INK, loc="left", fontsize=10)
    style_axis(axis, AXES[by])


def _make_logarithmic(axis: Any, *, y: bool) -> None:
    """Make the axes logarithmic that have something above 0."""
    values = [(x, y) for line in axis.lines for x, y in zip(*line.get_data(), strict=True)]
    if any(x > 0 for x, _ in values):
        axis.set_xscale("log")
        _set_ticks(axis.xaxis)
    if y and any(value > 0 for _, value in values):
        axis.set_yscale("log")
        _set_ticks(axis.yaxis)


def _set_ticks(axis: Any) -> None:
    """Name 1, 2 and 5 of each power of ten, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
