"""Quality of samples against their diversity, over temperatures, as one SVG image."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from multispace.pipeline.metrics.samples.diversity_curve import DIVERSITIES, QUALITIES
from multispace.pipeline.reporting.group_marks import GroupMark
from multispace.pipeline.reporting.svg_figure import INK, Tip, style_axis, svg_figure

READING = (
    "Points: the samples at one temperature of the words, averaged over seeds; at 0 the beam "
    "searches for the words, and only the latents are drawn. With --curve-of latents it "
    "is the temperature of the latents. Diversity rises with self-CIDEr and falls with mBLEU-4."
)

Points = Sequence[Mapping[str, float]]  # temperature and measures of each point of a curve


def draw_diversity(curves: Mapping[str, Points], marks: Mapping[str, GroupMark]) -> Markup:
    """Return an ``<svg>`` element: a row of panels for each measure of diversity.

    It is empty where there are no curves.

    :param curves: the points of each group, in the order of their temperatures
    :param marks: of each group
    """
    if not curves:
        return Markup("")

    def draw(figure: Figure) -> Iterator[Tip]:
        rows = figure.subplots(len(DIVERSITIES), len(QUALITIES), squeeze=False)
        for row, diversity in zip(rows, DIVERSITIES, strict=True):
            for axis, quality in zip(row, QUALITIES, strict=True):
                for name, points in curves.items():
                    yield from _draw_curve(axis, name, points, (diversity, quality), marks[name])
                axis.set_title(quality, color=INK, loc="left", fontsize=10)
                style_axis(axis, diversity)

    return svg_figure(draw, "quality against diversity", height=2.9 * len(DIVERSITIES))


def _draw_curve(
    axis: Any, name: str, points: Points, measures: tuple[str, str], mark: GroupMark
) -> Iterator[Tip]:
    """Draw a curve with its temperatures, and yield its points."""
    diversity, quality = measures
    x = [point[diversity] for point in points]
    y = [point[quality] for point in points]
    axis.plot(x, y, color=mark.colour, marker=mark.marker, markersize=4, linewidth=1.6)
    for point, place in zip(points, zip(x, y, strict=True), strict=True):
        temperature = f"{point['temperature']:g}"
        axis.annotate(
            temperature,
            place,
            xytext=(3, 3),
            textcoords="offset points",
            color=mark.colour,
            fontsize=7,
        )
        text = f"{name} at {temperature}: {quality} {place[1]:.3f}, {diversity} {place[0]:.3f}"
        yield Tip(axis, *place, text)
