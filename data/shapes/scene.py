"""The scene of a generated image: two objects and their relation.

The main object is large or medium; a small one is above, below, left or right of it. Every
factor of both is drawn independently and uniformly, so that factors are uncorrelated.
"""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from multispace.data.language.pairs import Pair
from multispace.errors import DataError

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
MAIN_SIZES = ("large", "medium")
SIZES = (*MAIN_SIZES, "small")
PATTERNS = ("plain", "striped", "dotted")
RELATIONS = ("above", "below", "left", "right")  # of the main object to the other

# As fractions of the image's side. Places vary little: average pooling mixes place with shape,
# and features of an untrained network then separate shapes far less well.
RADIUS = {"large": 0.29, "medium": 0.23, "small": 0.08}
MAIN_PLACE, OTHER_PLACE = 0.38, 0.87
PLACE_JITTER = 0.02
RADIUS_JITTER = 0.04  # of the radius


@dataclass(frozen=True)
class Thing:
    """One object; ``x``, ``y`` (its centre) and ``radius`` are fractions of the image's side."""

    shape: str
    colour: str
    size: str
    pattern: str
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.25


@dataclass(frozen=True)
class Scene:
    """One image's content: ``main`` is ``relation`` (above, below, left, right of) ``other``."""

    main: Thing
    other: Thing
    relation: str

    def factors(self) -> dict[str, Any]:
        """Return the true factors as JSON values.

        - ``objects``: every field of both objects, the main one first
        - ``relation``: of the main object to the other
        - ``flat``: the names of :func:`factor_values`, in that order, with this image's values
        """
        main, other = asdict(self.main), asdict(self.other)
        flat = {name: main[name] for name in ("shape", "colour", "size", "pattern")}
        flat["relation"] = self.relation
        flat |= {f"other_{name}": other[name] for name in ("shape", "colour", "pattern")}
        return {"objects": [main, other], "relation": self.relation, "flat": flat}


def factor_values() -> dict[str, tuple[str, ...]]:
    """Return the names of the flat factors, each with the values it can have."""
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


def parse_pairs(texts: Sequence[str]) -> dict[str, Pair]:
    """Read pairs of an attribute (a colour, size or pattern) and a shape, such as "red circle".

    :returns: the pairs by their text, without repeats
    :raises DataError: a word is not one that scenes have, or no image is left without the pairs.
    """
    known = (*COLOURS, *SIZES, *PATTERNS)
    pairs: dict[str, Pair] = {}
    for text in texts:
        words = text.split()
        if len(words) != 2 or words[0] not in known or words[1] not in SHAPES:
            raise DataError(
                f"combination {text!r}: not an attribute and a shape",
                hint=f"attributes: {', '.join(known)}; shapes: {', '.join(SHAPES)}",
            )
        pairs[" ".join(words)] = Pair.parse(text)
    for sizes in (MAIN_SIZES, ("small",)):
        every = itertools.starmap(Thing, itertools.product(SHAPES, COLOURS, sizes, PATTERNS))
        if all(_shows_any(thing, pairs.values()) for thing in every):
            raise DataError(f"nothing is left to draw without {list(texts)}", hint="hold out fewer")
    return pairs


def draw_scene(
    rng: random.Random, without: Sequence[Pair] = (), showing: Pair | None = None
) -> Scene:
    """Draw a scene that shows no pair of ``without`` and, if it is given, ``showing``."""
    main = _draw_thing(rng, MAIN_SIZES, without)
    other = _draw_thing(rng, ("small",), without)
    if showing is not None:
        main, other = _with_pair(main, other, showing)
    relation = rng.choice(RELATIONS)
    return Scene(
        _place(main, MAIN_PLACE, relation, rng), _place(other, OTHER_PLACE, relation, rng), relation
    )


def _with_pair(main: Thing, other: Thing, pair: Pair) -> tuple[Thing, Thing]:
    """Return both objects with ``pair`` in one of them: the main one, unless it is small."""
    shape = next(shape for shape in SHAPES if shape in pair.nouns)
    if "small" in pair.adjectives:
        return main, replace(other, shape=shape)
    return replace(
        main,
        shape=shape,
        colour=_value(pair, COLOURS) or main.colour,
        size=_value(pair, MAIN_SIZES) or main.size,
        pattern=_value(pair, PATTERNS) or main.pattern,
    ), other


def _value(pair: Pair, values: Sequence[str]) -> str | None:
    """Return the one of ``values`` that the pair's adjective stands for, if any."""
    return next((value for value in values if value in pair.adjectives), None)


def _shows_any(thing: Thing, pairs: Iterable[Pair]) -> bool:
    return any(pair.is_in(thing) for pair in pairs)


def _draw_thing(rng: random.Random, sizes: Sequence[str], without: Sequence[Pair]) -> Thing:
    while True:
        thing = Thing(rng.choice(SHAPES), rng.choice(COLOURS), rng.choice(sizes),
                      rng.choice(PATTERNS))  # fmt: skip
        if not _shows_any(thing, without):
            return thing


def _place(thing: Thing, place: float, relation: str, rng: random.Random) -> Thing:
    """Move ``thing`` near ``place``, measured from the side that ``relation`` names."""
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
    """Return the objects in factors of :meth:`Scene.factors`; None for factors of other kinds."""
    try:
        things = tuple(Thing(**entry) for entry in factors["objects"])
    except (TypeError, KeyError, IndexError):
        return None
    known = all(t.shape in SHAPES and t.colour in COLOURS and t.size in SIZES
                and t.pattern in PATTERNS for t in things)  # fmt: skip
    return things if things and known else None
