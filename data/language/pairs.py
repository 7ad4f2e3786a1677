"""Pairs of concepts that captions name together: "black dog", "ride woman"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

from multispace.data.language.inflection import noun_forms, verb_forms
from multispace.data.language.nouns import NOUNS, OBJECT_OF, PEOPLE
from multispace.data.language.phrases import LEXICON, Lexicon, Phrase, read_phrases
from multispace.data.language.words import ATTRIBUTES, QUALITIES, VERBS
from multispace.errors import DataError

_WORD = re.compile("[a-z]+")
_ADJECTIVES = {v: words for values in ATTRIBUTES.values() for v, words in values.items()}
_ADJECTIVES |= QUALITIES


class Depicted(Protocol):
    """An object of a generated image, or a mention of one; None where an attribute is unknown."""

    @property
    def shape(self) -> str | None: ...  # noqa: D102
    @property
    def colour(self) -> str | None: ...  # noqa: D102
    @property
    def size(self) -> str | None: ...  # noqa: D102
    @property
    def pattern(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True)
class Pair:
    """An adjective or a verb, and a noun; :meth:`parse` finds the concepts of two words.

    A concept stands for its synonyms and all their inflected forms. A word that is in no list
    stands for itself.
    """

    modifier: str
    noun: str

    @classmethod
    def parse(cls, text: str) -> "Pair":
        """Read "black dog", "big buses", "ride_woman" or "sitting man".

        :raises DataError: ``text`` is not two words.
        """
        words = text.lower().replace("_", " ").split()
        if len(words) != 2 or not all(_WORD.fullmatch(word) for word in words):
            raise DataError(
                f"pair {text!r}: expected an adjective or a verb, and a noun, such as 'black dog'"
            )
        modifier, noun = words
        return cls(_modifier(modifier), _noun(noun))

    def __str__(self) -> str:
        return f"{self.modifier} {self.noun}"

    @cached_property
    def adjectives(self) -> frozenset[str]:
        """Words for the modifier as an attribute; empty if it is a known verb."""
        if self.modifier in VERBS:
            return frozenset()
        return frozenset(_ADJECTIVES.get(self.modifier, (self.modifier,)))

    @cached_property
    def verbs(self) -> frozenset[str]:
        """Words for the modifier as a verb; empty if it is a known adjective."""
        if self.modifier in _ADJECTIVES:
            return frozenset()
        return frozenset(VERBS.get(self.modifier, (self.modifier,)))

    @cached_property
    def nouns(self) -> frozenset[str]:
        """Words for the noun."""
        return frozenset(PEOPLE.get(self.noun) or NOUNS.get(self.noun) or (self.noun,))

    def is_named(self, caption: str) -> bool:
        """Return whether ``caption`` names the pair."""
        return self._may_be_in(caption) and any(
            phrase.noun in self.nouns
            and not (
                self.adjectives.isdisjoint(phrase.attributes)
                and self.verbs.isdisjoint(phrase.verbs)
            )
            for phrase in self._phrases(caption)
        )

    def noun_is_named(self, caption: str) -> bool:
        """Return whether ``caption`` names the noun, with any attributes."""
        return any(phrase.noun in self.nouns for phrase in self._phrases(caption))

    def is_in(self, thing: Depicted) -> bool:
        """Return whether one object of a generated image, or a mention of it, shows the pair."""
        attributes = (thing.colour, thing.size, thing.pattern)
        return thing.shape in self.nouns and not self.adjectives.isdisjoint(attributes)

    def _phrases(self, caption: str) -> Sequence[Phrase]:
        return read_phrases(caption, self._lexicon)

    def _may_be_in(self, caption: str) -> bool:
        """Return whether forms of both words occur: reading all of COCO in full takes minutes."""
        words = set(_WORD.findall(caption.lower()))
        return all(not forms.isdisjoint(words) for forms in self._forms)

    @cached_property
    def _forms(self) -> tuple[frozenset[str], frozenset[str]]:
        modifiers = [*self.adjectives, *(form for word in self.verbs for form in verb_forms(word))]
        nouns = [form for word in self.nouns for form in noun_forms(word)]
        return _first_words(modifiers), _first_words(nouns)

    @cached_property
    def _lexicon(self) -> Lexicon:
        return _extended(
            self.adjectives - LEXICON.attributes,
            self.nouns - set(LEXICON.nouns.values()),
            self.verbs - set(LEXICON.verbs.values()),
        )


@lru_cache
def _extended(adjectives: frozenset[str], nouns: frozenset[str], verbs: frozenset[str]) -> Lexicon:
    if not (adjectives or nouns or verbs):
        return LEXICON
    return LEXICON.extended(adjectives, nouns, verbs)


def _first_words(names: Sequence[str]) -> frozenset[str]:
    return frozenset(name.split("_")[0] for name in names)


def _modifier(word: str) -> str:
    """Return the concept of an adjective or of a form of a verb."""
    for value, words in _ADJECTIVES.items():
        if word in words:
            return value
    verb = LEXICON.verbs.get(word, word)
    return next((concept for concept, words in VERBS.items() if verb in words), word)


def _noun(word: str) -> str:
    """Return the concept of a noun in the singular.

    Kinds of people stay apart: "young boy" does not mean every young person.
    """
    singular = LEXICON.nouns.get(word) or re.sub("(?<=[^s])s$", "", word)
    concept = OBJECT_OF.get(singular, singular)
    return singular if concept == "person" else concept
