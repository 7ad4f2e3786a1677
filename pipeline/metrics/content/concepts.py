"""The concepts that a caption names: nouns, numbers, colours and other attributes."""

from multispace.data.batches import Pairs
from multispace.data.language.nouns import OBJECT_OF
from multispace.data.language.phrases import read_phrases
from multispace.data.language.words import ATTRIBUTE_CLASSES, attribute_of
from multispace.data.shapes import mentions
from multispace.data.shapes.scene import things_of
from multispace.pipeline.metrics.content.attributes import TRUE_CLASSES

NOUN = "noun"
CONCEPT_CLASSES = (NOUN, *ATTRIBUTE_CLASSES)

Concepts = dict[str, set[str]]  # class -> the concepts of this class: {"colour": {"red"}, ...}


def named_concepts(caption: str) -> Concepts:
    """Return the concepts that a caption names, by class; a class may be empty.

    Synonyms and plurals are folded, but kinds of people stay apart: "two pups and a girl" names
    the nouns ``dog`` and ``girl`` and the number ``two``. An attribute counts where it belongs to
    a known noun.
    """
    named: Concepts = {name: set() for name in CONCEPT_CLASSES}
    for phrase in read_phrases(caption):
        thing = OBJECT_OF[phrase.noun]
        named[NOUN].add(phrase.noun if thing == "person" else thing)
        for word in phrase.attributes:
            if found := attribute_of(word):
                kind, value = found
                named[kind].add(value)
    return named


def named_shapes(caption: str) -> Concepts:
    """Return the concepts that a caption of a generated image names, by class."""
    named: Concepts = {name: set() for name in CONCEPT_CLASSES}
    for mention in mentions(caption):
        values = ((NOUN, mention.shape), *((kind, getattr(mention, kind)) for kind in TRUE_CLASSES))
        for kind, value in values:
            if value is not None:
                named[kind].add(value)
    return named


def concepts_of(pairs: Pairs, texts: list[str]) -> list[Concepts]:
    """Return the concepts that each of ``texts``, captions of a split, names."""
    factors = pairs.captions.factors or ()
    generated = factors and all(things_of(entry) for entry in factors)
    return [named_shapes(text) if generated else named_concepts(text) for text in texts]
