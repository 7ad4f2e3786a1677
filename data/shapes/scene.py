"""What a generated picture shows: two objects and their relation, every factor drawn freely."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from data.errors import DataError

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (205, 40, 60),
    "orange": (244, 134, 36),
    "yellow": (250, 222, 70),
    "green": (40, 168, 88),
    "blue": (48, 100, 206),
    "purple": (130, 62, 188),
    "pink": (236, 120, 200),
    "black": (50, 50, 56),
}
# The first word of each tuple is the value's own name, the others its synonyms in captions.
SHAPES = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross",),
}
SIZES = {
    "large": ("large", "big"),
    "medium": ("medium",),
    "small": ("small", "little", "tiny"),
}
PATTERNS = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripes"),
    "dotted": ("dotted", "spotted", "dots", "spots"),
}
NOUNS = {"stripes", "dots", "spots"}  # pattern words that follow "with"
RELATIONS = {
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "left": ("to the left of", "left of", "beside"),
    "right": ("to the right of", "right of", "beside"),
}
OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}
ARTICLES = ("a", "an", "the")

MAIN_SIZES = ("large", "medium")  # the other object is always small
RADIUS = {"large": 0.29, "medium": 0.23, "small": 0.08}  # of the picture's side
PLACE_JITTER = 0.02  # of the picture's side
SIZE_JITTER = 0.04  # of the radius
PATTERN_TINT = 0.5  # how far stripes and dots are from the colour towards white
BACKGROUND: Colour = (247, 245, 240)
PICTURE_SIDE = 128  # pixels
SUPERSAMPLING = 3
CAPTIONS_PER_PICTURE = 5
FEWEST_IMAGES = 10  # below it the 80/10/10 division leaves a split empty


@dataclass(frozen=True)
class Thing:
    """One object; ``x``, ``y`` (centre) and ``radius`` are fractions of the picture's side."""

    shape: str
    colour: str
    size: str
    pattern: str
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.25


@dataclass(frozen=True)
class Scene:
    """What one picture shows: the main object stands ``relation`` the other."""

    main: Thing
    other: Thing
    relation: str

    def factors(self) -> dict[str, Any]:
        """Give the true factors: ``objects`` (main first), ``relation``, and ``flat``.

        ``flat`` maps the names of :func:`factor_values`, in that order, to this picture's values.
        """
        main, other = asdict(self.main), asdict(self.other)
        flat = {name: main[name] for name in ("shape", "colour", "size", "pattern")}
        flat["relation"] = self.relation
        flat |= {f"other_{name}": other[name] for name in ("shape", "colour", "pattern")}
        return {"objects": [main, other], "relation": self.relation, "flat": flat}


def factor_values() -> dict[str, tuple[str, ...]]:
    """Give the flat factors of a picture and the values that each can take."""
    every = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "pattern": tuple(PATTERNS)}
    main = {"shape": every["shape"], "colour": every["colour"], "size": MAIN_SIZES}
    main |= {"pattern": every["pattern"], "relation": tuple(RELATIONS)}
    return main | {f"other_{name}": values for name, values in every.items()}


def _parse_hold_out(hold_out: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give (attribute, shape) pairs without repeats."""
    known = (*COLOURS, *SIZES, *PATTERNS)
    pairs: dict[tuple[str, str], None] = {}
    for text in hold_out:
        words = text.split()
        if len(words) != 2 or words[0] not in known or words[1] not in SHAPES:
            raise DataError(
                f"hold-out {text!r} is not an attribute and a shape; "
                f"attributes: {', '.join(known)}; shapes: {', '.join(SHAPES)}"
            )
        pairs[words[0], words[1]] = None
    for sizes in (MAIN_SIZES, ("small",)):
        every = itertools.starmap(Thing, itertools.product(SHAPES, COLOURS, sizes, PATTERNS))
        if all(_shows(thing, tuple(pairs)) for thing in every):
            raise DataError(f"hold-outs {list(hold_out)} leave nothing to draw; hold out fewer")
    return tuple(pairs)


def _shows(thing: Thing, pairs: Sequence[tuple[str, str]]) -> bool:
    attributes = (thing.colour, thing.size, thing.pattern)
    return any(thing.shape == shape and attribute in attributes for attribute, shape in pairs)


def _draw_scene(
    rng: random.Random, held: Sequence[tuple[str, str]], show: tuple[str, str] | None
) -> Scene:
    """Draw a scene with none of ``held`` in it or, where ``show`` is given, with that one."""
    avoided = () if show else held
    main = _draw_thing(rng, MAIN_SIZES, avoided)
    other = _draw_thing(rng, ("small",), avoided)
    if show:
        attribute, shape = show
        if attribute == "small":
            other = replace(other, shape=shape)
        elif attribute in COLOURS:
            main = replace(main, shape=shape, colour=attribute)
        elif attribute in SIZES:
            main = replace(main, shape=shape, size=attribute)
        else:
            main = replace(main, shape=shape, pattern=attribute)
    relation = rng.choice(list(RELATIONS))
    # Positions vary little: average pooling mixes place with shape, and an untrained network
    # then tells shapes apart far less well.
    along = (0.38, 0.87) if relation in ("above", "left") else (0.62, 0.13)
    for_x = relation in ("left", "right")
    placed = []
    for thing, middle in zip((main, other), along, strict=True):
        x, y = (middle, 0.5) if for_x else (0.5, middle)
        placed.append(
            replace(
                thing,
                x=round(x + rng.uniform(-PLACE_JITTER, PLACE_JITTER), 4),
                y=round(y + rng.uniform(-PLACE_JITTER, PLACE_JITTER), 4),
                radius=round(RADIUS[thing.size] * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER), 4),
            )
        )
    return Scene(placed[0], placed[1], relation)


def _draw_thing(
    rng: random.Random, sizes: Sequence[str], avoided: Sequence[tuple[str, str]]
) -> Thing:
    while True:
        thing = Thing(
            shape=rng.choice(list(SHAPES)),
            colour=rng.choice(list(COLOURS)),
            size=rng.choice(sizes),
            pattern=rng.choice(list(PATTERNS)),
        )
        if not _shows(thing, avoided):
            return thing
