"""Full captions of generated images, and how captions are read and scored.

:mod:`multispace.data.shapes.descriptions` writes open captions with the same words.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multispace.data.shapes.scene import COLOURS, Scene, Thing
from multispace.errors import DataError

CAPTIONS_PER_IMAGE = 5
ARTICLES = ("a", "an", "one", "the")
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
    """One object that a caption names, synonyms resolved; None for what the caption omits."""

    shape: str | None
    colour: str | None
    size: str | None
    pattern: str | None


def full_captions(scene: Scene, rng: random.Random) -> list[str]:
    """Draw five different captions of ``scene``, in lower case and without punctuation.

    All are true. Each names the main object first, with its shape and colour. Its other
    attributes, and all attributes of the other object, are sometimes omitted.
    """
    captions: dict[str, None] = {}
    while len(captions) < CAPTIONS_PER_IMAGE:
        captions[_caption(scene, rng)] = None
    return list(captions)


def mentions(caption: str) -> list[Mention]:
    """Return the objects that ``caption`` names, in order.

    An object extends from one article to the next; the first word of each kind counts. Text
    that names neither a shape nor a colour ("to the left of") is not an object.
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
    """Return the fractions of ``captions`` with the right ``colour`` and the right ``shape``.

    The object that a caption names first is compared with the image's main object, colour and
    shape separately. An attribute that the caption omits counts as wrong. Open captions may name
    the other object first or alone: the fractions say nothing about them.

    :param captions: one caption for each image key
    :param factors: :meth:`Scene.factors` for each image key
    :raises DataError: there is no caption, or an image with a caption has no factors.
    """
    if not captions:
        raise DataError("there is no caption to score", hint="give at least one")
    right = {"colour": 0, "shape": 0}
    for key, caption in captions.items():
        if key not in factors:
            raise DataError(
                "has a caption but no factors",
                where=key,
                hint="give the annotation file of this image's split",
            )
        main = factors[key]["objects"][0]
        for named in mentions(caption)[:1]:
            right["colour"] += named.colour == main["colour"]
            right["shape"] += named.shape == main["shape"]
    return {factor: count / len(captions) for factor, count in right.items()}


# Word -> value, for each field of Mention in order.
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
    """Name ``thing``.

    :param colour: probability of naming the colour
    :param pattern: probability of naming the pattern
    """
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
    return with_article(article, words)


def with_article(article: str, words: Sequence[str]) -> str:
    """Join the words that are not empty, with "an" in place of "a" before a vowel."""
    named = [word for word in words if word]
    if article == "a" and named[0][0] in "aeiou":
        article = "an"
    return " ".join((article, *named))
