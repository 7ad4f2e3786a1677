"""The words of a caption that name objects and attributes which its image does not have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from multispace.data.language.nouns import OBJECT_OF
from multispace.data.language.phrases import LEXICON
from multispace.data.language.words import attribute_of
from multispace.data.shapes import mentions
from multispace.pipeline.metrics.content.attributes import Fact, named_and_wrong

ANY_SHAPE = "circle"


@dataclass(frozen=True)
class CheckedCaption:
    """A caption in pieces, each of which is wrong or not, and the names of what is wrong."""

    pieces: tuple[tuple[str, bool], ...]
    wrong: tuple[str, ...] = ()


def check_caption(caption: str, references: Sequence[str], factors: Any = None) -> CheckedCaption:
    """Mark the words that only wrong objects and attributes of a caption explain.

    A word that also belongs to something right, such as the color of two things, is not marked;
    ``wrong`` lists all.

    :param references: of the image
    :param factors: what was drawn, if the image is generated
    """
    named, wrong = named_and_wrong(caption, references, factors)
    marked = {_meaning(fact) for fact in wrong} - {_meaning(fact) for fact in named - wrong}
    pieces = tuple(
        (piece, bool(_meanings(piece.lower()) & marked))
        for piece in re.split(r"([A-Za-z]+)", caption)
        if piece
    )
    return CheckedCaption(
        pieces, tuple(sorted(f"{value} {thing}".strip() for _, value, thing in wrong))
    )


def _meaning(fact: Fact) -> tuple[str, str]:
    """Return the class and value of an attribute, or an object without a class."""
    kind, value, thing = fact
    return (kind, value) if kind else ("", thing)


def _meanings(word: str) -> set[tuple[str, str]]:
    """Return what a word can mean in a photo, and in a generated image."""
    found: set[tuple[str, str]] = set()
    for alone in mentions(word):
        found |= {("", alone.shape or ""), ("colour", alone.colour or "")}
    for beside in mentions(f"{word} {ANY_SHAPE}"):  # a size alone is no mention
        found |= {("size", beside.size or ""), ("pattern", beside.pattern or "")}
    if noun := LEXICON.nouns.get(word):
        found.add(("", OBJECT_OF[noun]))
    attribute = attribute_of(word)
    return found | {attribute} if attribute else found
