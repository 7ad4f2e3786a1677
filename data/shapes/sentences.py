"""The language of the generated captions: written, read back, and judged."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multispace.data.shapes.scene import COLOURS, Scene, Thing
from multispace.errors import DataError

CAPTIONS_PER_IMAGE = 5
ARTICLES = ("a", "an", "the")
SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross",),
}
COLOUR_WORDS = {colour: (colour,) for colour in COLOURS}
SIZE_WORDS = {
    "large": ("large", "big"),
    "medium": ("medium",),
    "small": ("small", "little", "tiny"),
}
PATTERN_WORDS = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripes"),
    "dotted": ("dotted", "spotted", "dots", "spots"),
}
NOUNS = ("stripes", "dots", "spots")  # pattern words that follow "with"
RELATION_WORDS = {
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "left": ("to the left of", "left of", "beside"),
    "right": ("to the right of", "right of", "beside"),
}
OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}


@dataclass(frozen=True)
class Mention:
    """One object as a caption names it, synonyms resolved; None where it does not say."""

    shape: str | None
    colour: str | None
    size: str | None
    pattern: str | None


def captions_of(scene: Scene, rng: random.Random) -> list[str]:
    """Draw five different captions of ``scene``, in lower case and without punctuation.

    All are true. The main object comes first in each, with its shape and colour; its other
    attributes, and all but the shape of the other object, are left out now and then.
    """
    captions: dict[str, None] = {}
    while len(captions) < CAPTIONS_PER_IMAGE:
        captions[_caption(scene, rng)] = None
    return list(captions)


def mentions(caption: str) -> list[Mention]:
    """Return the objects that ``caption`` names, in its order.

    An object begins at an article and reaches to the next; in it, the first word of each kind
    counts. What names neither a shape nor a colour ("to the left of") is no object.
    """
    groups: list[list[str]] = [[]]
    for word in caption.lower().replace(",", " ").replace(".", " ").split():
        if word in ARTICLES:
            groups.append([])
        groups[-1].append(word)
    found = [Mention(*(_first(group, kind) for kind in _KINDS)) for group in groups]
    return [mention for mention in found if mention.shape or mention.colour]


def caption_accuracy(
    captions: Mapping[str, str], factors: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Return the shares of ``captions`` that are right about ``colour`` and about ``shape``.

    Both map a picture's key, to its caption and to its :meth:`Scene.factors`. What the caption
    names first is held against the picture's main object, colour and shape each on its own;
    what it does not name is wrong. Raises :class:`DataError` where there is no caption, or a
    caption's picture has no factors.
    """
    if not captions:
        raise DataError("there is no caption to judge; give that of at least one picture")
    right = {"colour": 0, "shape": 0}
    for key, caption in captions.items():
        if key not in factors:
            raise DataError(f"{key}: has a caption but no factors; give its own split's file")
        main = factors[key]["objects"][0]
        for named in mentions(caption)[:1]:
            right["colour"] += named.colour == main["colour"]
            right["shape"] += named.shape == main["shape"]
    return {factor: count / len(captions) for factor, count in right.items()}


# In the order of Mention's fields: what value a word stands for.
_KINDS = [
    {word: value for value, words in kind.items() for word in words}
    for kind in (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, PATTERN_WORDS)
]


def _first(words: list[str], kind: Mapping[str, str]) -> str | None:
    return next((kind[word] for word in words if word in kind), None)


def _caption(scene: Scene, rng: random.Random) -> str:
    main = _phrase(scene.main, rng, article=rng.choice(("a", "a", "the")), colour=1.0, pattern=0.6)
    other = _phrase(scene.other, rng, article="a", colour=0.7, pattern=0.2)
    relation = rng.choice(RELATION_WORDS[scene.relation])
    opposite = rng.choice(RELATION_WORDS[OPPOSITE[scene.relation]])
    return rng.choice(
        (
            f"{main} {relation} {other}",
            f"{main} {relation} {other}",
            f"{main} is {relation} {other}",
            f"there is {main} {relation} {other}",
            f"a picture of {main} {relation} {other}",
            f"{main} and {other} {opposite} it",
        )
    )


def _phrase(
    thing: Thing, rng: random.Random, *, article: str, colour: float, pattern: float
) -> str:
    """Name ``thing``, its colour and pattern with these probabilities."""
    noun = rng.choice(SHAPE_WORDS[thing.shape])
    size = rng.choice(SIZE_WORDS[thing.size]) if rng.random() < 0.6 else ""
    hue = thing.colour if rng.random() < colour else ""
    look = rng.choice(PATTERN_WORDS[thing.pattern]) if rng.random() < pattern else ""
    if look in NOUNS:
        words = [size, hue, noun, "with", look]
    elif hue and look and rng.random() < 0.2:
        words = [size, noun, "that", "is", hue, "and", look]
    else:
        words = [size, *rng.choice(((hue, look), (look, hue))), noun]
    words = [word for word in words if word]
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join((article, *words))
