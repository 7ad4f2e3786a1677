"""What a generated image shows: two objects and their relation.

The main object is large or medium; a small one is above, below, left or right of it. Every
factor of both is drawn independently and uniformly, so that none tells of another.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from multispace.errors import DataError

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
MAIN_SIZES = ("large", "medium")
SIZES = (*MAIN_SIZES, "small")
PATTERNS = ("plain", "striped", "dotted")
RELATIONS = ("above", "below", "left", "right")  # of the main object to the other

# In sides of the image. Places vary little: average pooling mixes place with shape, and an
# untrained network's features then tell shapes apart far less well.
RADIUS = {"large": 0.29, "medium": 0.23, "small": 0.08}
MAIN_PLACE, OTHER_PLACE = 0.38, 0.87
PLACE_JITTER = 0.02
RADIUS_JITTER = 0.04  # of the radius


@dataclass(frozen=True)
class Thing:
    """One object; ``x``, ``y`` (centre) and ``radius`` are in sides of the image."""

    shape: str
    colour: str
    size: str
    pattern: str
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.25


@dataclass(frozen=True)
class Scene:
    """What one image shows: ``main`` is ``relation`` (above, below, left, right of) ``other``."""

    main: Thing
    other: Thing
    relation: str

    def factors(self) -> dict[str, Any]:
        """Return the true factors as JSON values.

        ``objects`` lists every field of both objects, the main one first; ``relation`` is theirs;
        ``flat`` maps the names of :func:`factor_values`, in that order, to this image's values.
        """
        main, other = asdict(self.main), asdict(self.other)
        flat = {name: main[name] for name in ("shape", "colour", "size", "pattern")}
        flat["relation"] = self.relation
        flat |= {f"other_{name}": other[name] for name in ("shape", "colour", "pattern")}
        return {"objects": [main, other], "relation": self.relation, "flat": flat}


def factor_values() -> dict[str, tuple[str, ...]]:
    """Return the names of the flat factors of every image, with the values each can take."""
    return {
        "shape": SHAPES,
        "colour": COLOURS,
        "size": MAIN_SIZES,
        "pattern": PATTERNS,
        "relation": RELATIONS,
        "other_shape": SHAPES,
        "other_colour": COLOURS,
        "other_pattern": PATTERNS,
    }


@dataclass(frozen=True)
class Combination:
    """An attribute (a colour, size or pattern) and a shape, in one object: "red circle"."""

    attribute: str
    shape: str

    def __post_init__(self) -> None:
        known = (*COLOURS, *SIZES, *PATTERNS)
        if self.attribute not in known or self.shape not in SHAPES:
            raise DataError(
                f"combination {str(self)!r}: not an attribute and a shape; "
                f"attributes: {', '.join(known)}; shapes: {', '.join(SHAPES)}"
            )

    def __str__(self) -> str:
        return f"{self.attribute} {self.shape}".strip()

    def is_in(self, thing: Thing) -> bool:
        """Tell whether ``thing`` shows this combination."""
        attributes = (thing.colour, thing.size, thing.pattern)
        return self.shape == thing.shape and self.attribute in attributes

    def put_in(self, main: Thing, other: Thing) -> tuple[Thing, Thing]:
        """Return both objects with this combination in one: the main one, unless it is small."""
        if self.attribute == "small":
            return main, replace(other, shape=self.shape)
        if self.attribute in COLOURS:
            return replace(main, shape=self.shape, colour=self.attribute), other
        if self.attribute in SIZES:
            return replace(main, shape=self.shape, size=self.attribute), other
        return replace(main, shape=self.shape, pattern=self.attribute), other


def parse_combinations(texts: Sequence[str]) -> tuple[Combination, ...]:
    """Read combinations such as "red circle", dropping repeats.

    Raises :class:`DataError` where one is not known, or where no image is without them all.
    """
    found: dict[Combination, None] = {}
    for text in texts:
        attribute, _, shape = text.strip().partition(" ")
        found[Combination(attribute, shape.strip())] = None
    for sizes in (MAIN_SIZES, ("small",)):
        every = itertools.starmap(Thing, itertools.product(SHAPES, COLOURS, sizes, PATTERNS))
        if all(any(held.is_in(thing) for held in found) for thing in every):
            raise DataError(f"nothing is left to draw without {list(texts)}; hold out fewer")
    return tuple(found)


def draw_scene(
    rng: random.Random,
    without: Sequence[Combination] = (),
    showing: Combination | None = None,
) -> Scene:
    """Draw a scene that shows none of ``without`` and, where it is given, ``showing``."""
    main = _draw_thing(rng, MAIN_SIZES, without)
    other = _draw_thing(rng, ("small",), without)
    if showing:
        main, other = showing.put_in(main, other)
    relation = rng.choice(RELATIONS)
    return Scene(
        _place(main, MAIN_PLACE, relation, rng), _place(other, OTHER_PLACE, relation, rng), relation
    )


def _draw_thing(rng: random.Random, sizes: Sequence[str], without: Sequence[Combination]) -> Thing:
    while True:
        thing = Thing(rng.choice(SHAPES), rng.choice(COLOURS), rng.choice(sizes),
                      rng.choice(PATTERNS))  # fmt: skip
        if not any(held.is_in(thing) for held in without):
            return thing


def _place(thing: Thing, place: float, relation: str, rng: random.Random) -> Thing:
    """Put ``thing`` near ``place``, counted from the side that ``relation`` names."""
    if relation in ("below", "right"):
        place = 1 - place
    x, y = (place, 0.5) if relation in ("left", "right") else (0.5, place)
    return replace(
        thing,
        x=round(x + rng.uniform(-PLACE_JITTER, PLACE_JITTER), 4),
        y=round(y + rng.uniform(-PLACE_JITTER, PLACE_JITTER), 4),
        radius=round(RADIUS[thing.size] * (1 + rng.uniform(-RADIUS_JITTER, RADIUS_JITTER)), 4),
    )


def things_of(factors: Any) -> tuple[Thing, ...] | None:
    """Return the objects that :meth:`Scene.factors` describes; None for factors of other kinds."""
    try:
        things = tuple(Thing(**entry) for entry in factors["objects"])
    except (TypeError, KeyError, IndexError):
        return None
    known = all(t.shape in SHAPES and t.colour in COLOURS and t.size in SIZES
                and t.pattern in PATTERNS for t in things)  # fmt: skip
    return things if things and known else None
