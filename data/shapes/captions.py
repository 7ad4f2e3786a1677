"""The language of the generated captions: writing it, reading it back, and judging it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data.errors import DataError
from data.shapes.scene import COLOURS, Scene, Thing


_VALUES: list[dict[str, str]] = [
    {word: value for value, words in names.items() for word in words}
    for names in (SHAPES, {colour: (colour,) for colour in COLOURS}, SIZES, PATTERNS)
]


@dataclass(frozen=True)
class Mention:
    """One object as a caption names it; None where the caption does not say."""

    shape: str | None
    colour: str | None
    size: str | None
    pattern: str | None


def captions_of(scene: Scene, rng: random.Random) -> list[str]:
    """Draw five different captions, all true; the main object comes first in each, and its
    shape and colour are always named.
    """
    captions: dict[str, None] = {}
    while len(captions) < CAPTIONS_PER_PICTURE:
        captions[_caption(scene, rng)] = None
    return list(captions)


def mentions(caption: str) -> list[Mention]:
    """Give the objects that ``caption`` names, in its order, synonyms resolved.

    An object begins at an article and reaches to the next; in it the first word of each kind
    counts. Stretches that name neither a shape nor a colour ("to the left of") are no objects.
    """
    groups: list[list[str]] = [[]]
    for word in caption.lower().replace(",", " ").replace(".", " ").split():
        if word in ARTICLES:
            groups.append([])
        groups[-1].append(word)
    found = [
        Mention(*(next((known[w] for w in group if w in known), None) for known in _VALUES))
        for group in groups
    ]
    return [mention for mention in found if mention.shape or mention.colour]


def caption_accuracy(
    captions: Mapping[str, str], factors: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Give the shares of ``captions`` right about the main object's ``colour`` and ``shape``.

    Both map a picture's key to its caption or its factors. The object that the caption names
    first is held against the picture's main object, each factor on its own; one that is not
    named is wrong. Raises :class:`DataError` where a caption's picture has no factors.
    """
    if not captions:
        raise DataError("there is no caption to judge; give the captions of at least one picture")
    right = {"colour": 0, "shape": 0}
    for key, caption in captions.items():
        if key not in factors:
            raise DataError(f"{key}: has a caption but no factors; give its split's annotations")
        named = mentions(caption)
        for factor in right if named else ():
            right[factor] += getattr(named[0], factor) == factors[key]["objects"][0][factor]
    return {factor: count / len(captions) for factor, count in right.items()}


def _caption(scene: Scene, rng: random.Random) -> str:
    main = _phrase(scene.main, rng, article=rng.choice(("a", "a", "the")), full=True)
    other = _phrase(scene.other, rng, article="a", full=False)
    relation = rng.choice(RELATIONS[scene.relation])
    opposite = rng.choice(RELATIONS[OPPOSITE[scene.relation]])
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


def _phrase(thing: Thing, rng: random.Random, *, article: str, full: bool) -> str:
    """Name ``thing``; colour always where ``full``, size and pattern now and then."""
    shape = rng.choice(SHAPES[thing.shape])
    size = rng.choice(SIZES[thing.size]) if rng.random() < 0.6 else ""
    colour = thing.colour if full or rng.random() < 0.7 else ""
    pattern = rng.choice(PATTERNS[thing.pattern]) if rng.random() < (0.6 if full else 0.2) else ""
    if pattern in NOUNS:
        words = [size, colour, shape, "with", pattern]
    elif colour and pattern and rng.random() < 0.2:
        words = [size, shape, "that", "is", colour, "and", pattern]
    else:
        words = [size, *rng.choice(((colour, pattern), (pattern, colour))), shape]
    words = [word for word in words if word]
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join((article, *words))
