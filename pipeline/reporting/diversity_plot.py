"""Quality of samples against their diversity, over temperatures, as one SVG image."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from multispace.pipeline.metrics.samples.diversity_curve import DIVERSITIES, QUALITIES
from multispace.pipeline.reporting.svg_figure import INK, style_axis, svg_figure

READING = (
    "Points: the samples at one temperature of the words, averaged over seeds; at 0 the beam "
    "searches for the words, and only the latents are drawn. With --curve-of latents it "
    "is the temperature of the latents. Diversity rises with self-CIDEr and falls with mBLEU-4."
)

Points = Sequence[Mapping[str, float]]  # temperature and measures of each point of a curve


def draw_diversity(curves: Mapping[str, Points], colours: Mapping[str, str]) -> str:
    """Return an ``<svg>`` element: a row of panels for each measure of diversity.

    It is empty where there are no curves.

    :param curves: the points of each group, in the order of their temperatures
    :param colours: of each group
    """
    if not curves:
        return ""

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(DIVERSITIES), len(QUALITIES), squeeze=False)
        for row, diversity in zip(rows, DIVERSITIES, strict=True):
            for axis, quality in zip(row, QUALITIES, strict=True):
                for name, points in curves.items():
                    _draw_curve(axis, points, diversity, quality, colours[name])
                axis.set_title(quality, color=INK, loc="left", fontsize=10)
                style_axis(axis, diversity)

    return svg_figure(draw, "quality against diversity", height=2.9 * len(DIVERSITIES))


def _draw_curve(axis: Any, points: Points, diversity: str, quality: str, colour: str) -> None:
    x = [point[diversity] for point in points]
    y = [point[quality] for point in points]
    axis.plot(x, y, color=colour, marker="o", markersize=3, linewidth=1.6)
    for point, place in zip(points, zip(x, y, strict=True), strict=True):
        axis.annotate(
            f"{point['temperature']:g}",
            place,
            xytext=(3, 3),
            textcoords="offset points",
            color=colour,
            fontsize=7,
        )
