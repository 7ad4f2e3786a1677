"""The drawing of a scene."""

import itertools
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from data.shapes.scene import COLOURS, Colour, Scene, Thing


def render(scene: Scene, size: int = PICTURE_SIDE) -> Image.Image:
    """Draw ``scene`` as an RGB picture of ``size`` x ``size`` pixels."""
    side = size * SUPERSAMPLING
    picture = Image.new("RGB", (side, side), BACKGROUND)
    for thing in (scene.main, scene.other):
        radius = thing.radius * side
        width = math.ceil(2.6 * radius)  # holds the star, the widest outline
        mask = Image.new("L", (width, width), 0)
        outline = _outline(thing.shape, width / 2, radius)
        if outline:
            ImageDraw.Draw(mask).polygon(outline, fill=255)
        else:
            box = (width / 2 - radius,) * 2 + (width / 2 + radius,) * 2
            ImageDraw.Draw(mask).ellipse(box, fill=255)
        corner = (round(thing.x * side - width / 2), round(thing.y * side - width / 2))
        picture.paste(_patterned(thing, width, radius), corner, mask)
    return picture.reduce(SUPERSAMPLING)


def _outline(shape: str, middle: float, radius: float) -> list[tuple[float, float]]:
    """Give the corners of ``shape`` in a square of side 2 ``middle``; none for a circle."""
    if shape == "circle":
        return []
    if shape == "square":
        spokes = [(45.0 + 90 * k, 1.33) for k in range(4)]
    elif shape == "triangle":
        spokes = [(120.0 * k, 1.2) for k in range(3)]
        middle_y = middle + 0.2 * radius  # centres the triangle by its height
        return _corners(spokes, middle, middle_y, radius)
    elif shape == "star":
        spokes = [(36.0 * k, 0.48 if k % 2 else 1.18) for k in range(10)]
    else:  # cross
        arm, notch = 18.4, 0.47
        spokes = [
            corner
            for k in range(4)
            for corner in ((90 * k - arm, 1.05), (90 * k + arm, 1.05), (90 * k + 45, notch))
        ]
    return _corners(spokes, middle, middle, radius)


def _corners(
    spokes: Sequence[tuple[float, float]], x: float, y: float, radius: float
) -> list[tuple[float, float]]:
    """Turn (degrees clockwise from the top, length in radii) into points around (x, y)."""
    return [
        (
            x + length * radius * math.sin(math.radians(degrees)),
            y - length * radius * math.cos(math.radians(degrees)),
        )
        for degrees, length in spokes
    ]


def _patterned(thing: Thing, width: int, radius: float) -> Image.Image:
    """Give a square of ``thing``'s colour and pattern, to be cut out by its outline."""
    colour = COLOURS[thing.colour]
    tile = Image.new("RGB", (width, width), colour)
    light = tuple(round(value + (255 - value) * PATTERN_TINT) for value in colour)
    draw = ImageDraw.Draw(tile)
    if thing.pattern == "striped":
        period = radius * 0.5
        for k in range(math.ceil(2 * width / period)):
            left = k * period - width
            half = period / 2
            corners = [(left, width), (left + half, width), (left + half + width, 0)]
            draw.polygon([*corners, (left + width, 0)], fill=light)
    elif thing.pattern == "dotted":
        period, dot = radius * 0.5, radius * 0.15
        reach = math.ceil(width / period)
        for row, column in itertools.product(range(-reach, reach + 1), repeat=2):
            x = width / 2 + (column + row % 2 / 2) * period
            y = width / 2 + row * period * 0.87
            draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=light)
    return tile
