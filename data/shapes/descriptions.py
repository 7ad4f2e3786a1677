"""Open captions of generated images: an image has many correct descriptions.

A caption follows one of the ways in ``WAYS``. A way fixes which objects are described and in which
order, which attributes are named, whether their places are, and the choice of words. It does not
depend on the image, so that the image never determines its captions.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from multispace.data.shapes.scene import Scene, Thing
from multispace.data.shapes.sentences import (
    CAPTIONS_PER_IMAGE,
    NOUNS,
    OPPOSITE,
    PATTERN_WORDS,
    RELATION_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    with_article,
)

MAIN, OTHER = "main", "other"
# Objects in the order of their mention, and whether the caption says where they are. Every caption
# names the main object. Where two objects have no relation, the main one comes first: no word
# would tell the order.
VIEWS: tuple[tuple[tuple[str, ...], bool], ...] = (
    ((MAIN,), False),
    ((MAIN,), True),
    ((MAIN, OTHER), False),
    ((MAIN, OTHER), True),
    ((OTHER, MAIN), True),
)
ATTRIBUTES = (
    ("colour",),
    ("size",),
    ("colour", "size"),
    ("colour", "pattern"),
    ("size", "colour", "pattern"),
)
ARTICLES = ("a", "one")  # of each wording
PLACES = {
    "above": "at the top",
    "below": "at the bottom",
    "left": "on the left",
    "right": "on the right",
}


@dataclass(frozen=True)
class Way:
    """One way to describe a scene.

    :param objects: ``main``, or both it and ``other``, in the order of their mention
    :param place: whether to say where they are: in the image, or relative to each other
    :param attributes: the kinds of attributes to name; the pattern is that of the main object
    :param wording: 0 or 1, the choice among synonyms
    """

    objects: tuple[str, ...]
    place: bool
    attributes: tuple[str, ...]
    wording: int


WAYS = tuple(
    Way(objects, place, attributes, wording)
    for (objects, place), attributes, wording in itertools.product(
        VIEWS, ATTRIBUTES, range(len(ARTICLES))
    )
)


def open_captions(scene: Scene, rng: random.Random) -> list[str]:
    """Draw five different captions of ``scene``, each in its own way.

    All are true, in lower case and without punctuation.
    """
    shuffled = rng.sample(WAYS, len(WAYS))
    return [describe(scene, way) for way in shuffled[:CAPTIONS_PER_IMAGE]]


def describe(scene: Scene, way: Way) -> str:
    """Return the description of ``scene`` that follows ``way``."""
    main_first = way.objects[0] == MAIN
    relation = scene.relation if main_first else OPPOSITE[scene.relation]
    main = _phrase(scene.main, way.attributes, way.wording)
    if way.objects == (MAIN,):
        return f"{main} {PLACES[relation]}" if way.place else main
    # The small object gets no pattern.
    kinds = tuple(kind for kind in way.attributes if kind != "pattern")
    other = _phrase(scene.other, kinds, way.wording)
    first, second = (main, other) if main_first else (other, main)
    link = RELATION_WORDS[relation][way.wording] if way.place else "and"
    return f"{first} {link} {second}"


def _phrase(thing: Thing, kinds: Sequence[str], wording: int) -> str:
    """Name ``thing`` with its attributes of some kinds."""

    def choice(words: Sequence[str]) -> str:
        return words[min(wording, len(words) - 1)]

    size = choice(SIZE_WORDS[thing.size]) if "size" in kinds else ""
    colour = thing.colour if "colour" in kinds else ""
    pattern = choice(PATTERN_WORDS[thing.pattern]) if "pattern" in kinds else ""
    noun = choice(SHAPE_WORDS[thing.shape])
    if pattern in NOUNS:
        words = [size, colour, noun, "with", pattern]
    else:
        words = [size, colour, pattern, noun]
    return with_article(ARTICLES[wording], words)
