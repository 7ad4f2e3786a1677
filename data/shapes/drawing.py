"""The drawing of a scene."""

import itertools
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from multispace.data.shapes.scene import Scene, Thing

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

# Chosen to differ relative to the background: average pooling sees colour times area.
PALETTE: dict[str, Colour] = {
    "red": (205, 40, 60),
    "orange": (244, 134, 36),
    "yellow": (250, 222, 70),
    "green": (40, 168, 88),
    "blue": (48, 100, 206),
    "purple": (130, 62, 188),
    "pink": (236, 120, 200),
    "black": (50, 50, 56),
}
BACKGROUND: Colour = (247, 245, 240)
TINT = 0.5  # fraction of white in the colour of stripes and dots
SUPERSAMPLING = 3

# Outlines as spokes: (degrees clockwise from the top, length in radii). A circle has none.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(45.0 + 90 * k, 1.33) for k in range(4)],
    "triangle": [(120.0 * k, 1.2) for k in range(3)],
    "star": [(36.0 * k, 0.48 if k % 2 else 1.18) for k in range(10)],
    "cross": [
        spoke
        for turn in (0.0, 90.0, 180.0, 270.0)
        for spoke in ((turn - 18.4, 1.05), (turn + 18.4, 1.05), (turn + 45, 0.47))
    ],
}
LOWERED = {"triangle": 0.2}  # radii; centres the triangle by its height


def render(scene: Scene, size: int) -> Image.Image:
    """Draw ``scene`` as an antialiased RGB image of ``size`` x ``size`` pixels."""
    side = size * SUPERSAMPLING
    image = Image.new("RGB", (side, side), BACKGROUND)
    for thing in (scene.main, scene.other):
        radius = thing.radius * side
        width = math.ceil(2.8 * radius)  # holds the longest spoke
        mask = Image.new("L", (width, width), 0)
        pen = ImageDraw.Draw(mask)
        middle = width / 2
        if thing.shape == "circle":
            pen.ellipse([middle - radius] * 2 + [middle + radius] * 2, fill=255)
        else:
            lowered = LOWERED.get(thing.shape, 0.0) * radius
            pen.polygon(_corners(OUTLINES[thing.shape], middle, middle + lowered, radius), fill=255)
        corner = round(thing.x * side - middle), round(thing.y * side - middle)
        image.paste(_fabric(thing, width, radius), corner, mask)
    return image.reduce(SUPERSAMPLING)


def _corners(spokes: Sequence[tuple[float, float]], x: float, y: float, radius: float) -> Points:
    """Return the ends of ``spokes`` around (x, y)."""
    return [
        (
            x + length * radius * math.sin(math.radians(degrees)),
            y - length * radius * math.cos(math.radians(degrees)),
        )
        for degrees, length in spokes
    ]


def _fabric(thing: Thing, width: int, radius: float) -> Image.Image:
    """Return a square with the object's colour and pattern, which its outline then masks."""
    colour = PALETTE[thing.colour]
    light = tuple(round(value + (255 - value) * TINT) for value in colour)
    fabric = Image.new("RGB", (width, width), colour)
    pen = ImageDraw.Draw(fabric)
    period = radius * 0.5
    if thing.pattern == "striped":
        for k in range(math.ceil(2 * width / period)):
            left = k * period - width  # where the stripe meets the lower edge
            right = left + period / 2
            stripe = [(left, width), (right, width), (right + width, 0), (left + width, 0)]
            pen.polygon(stripe, fill=light)
    elif thing.pattern == "dotted":
        dot = radius * 0.15
        reach = math.ceil(width / period)
        for row, column in itertools.product(range(-reach, reach + 1), repeat=2):
            x = width / 2 + (column + row % 2 / 2) * period
            y = width / 2 + row * period * 0.87  # rows of a triangular lattice
            pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=light)
    return fabric
