"""Open captions of generated images: an image has many correct descriptions.

A caption follows one of the ways in ``WAYS``. A way fixes which objects are described and in which
order, which attributes are named, whether their places are, and the choice of words. It does not
depend on the image, so that the image never determines its captions.
"""

import itertools
import random
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
# Objects in the order of their mention, and whether the caption says where they are. Only a
# relation tells which of two objects comes first, so that "a and b" has one order.
VIEWS: tuple[tuple[tuple[str, ...], bool], ...] = (
    ((MAIN,), False),
    ((OTHER,), False),
    ((MAIN,), True),
    ((OTHER,), True),
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

    :param objects: ``main`` and ``other``, in the order of their mention
    :param place: whether to say where they are: in the image, or relative to each other
    :param attributes: the kinds of attributes to name
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
    captions: dict[str, None] = {}
    for way in rng.sample(WAYS, len(WAYS)):
        # Two objects that look alike give equal captions; the second of them is skipped.
        captions[describe(scene, way)] = None
        if len(captions) == CAPTIONS_PER_IMAGE:
            break
    return list(captions)


def describe(scene: Scene, way: Way) -> str:
    """Return the description of ``scene`` that follows ``way``."""
    of_main, of_other = scene.relation, OPPOSITE[scene.relation]
    seen = {MAIN: (scene.main, of_main), OTHER: (scene.other, of_other)}
    first, relation = seen[way.objects[0]]
    caption = _phrase(first, way)
    if len(way.objects) == 1:
        return f"{caption} {PLACES[relation]}" if way.place else caption
    second, _ = seen[way.objects[1]]
    link = RELATION_WORDS[relation][way.wording] if way.place else "and"
    return f"{caption} {link} {_phrase(second, way)}"


def _phrase(thing: Thing, way: Way) -> str:
    """Name ``thing``."""

    def word(kind: str, words: tuple[str, ...]) -> str:
        return words[min(way.wording, len(words) - 1)] if kind in way.attributes else ""

    size, colour = word("size", SIZE_WORDS[thing.size]), word("colour", (thing.colour,))
    pattern = word("pattern", PATTERN_WORDS[thing.pattern])
    nouns = SHAPE_WORDS[thing.shape]
    noun = nouns[min(way.wording, len(nouns) - 1)]
    if pattern in NOUNS:
        words = [size, colour, noun, "with", pattern]
    else:
        words = [size, colour, pattern, noun]
    return with_article(ARTICLES[way.wording], words)
