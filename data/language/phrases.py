"""The nouns that a caption names, with their attributes and verbs, found by rules.

The rules use the word lists of :mod:`multispace.data.language`, not a parser:

- An attribute belongs to the noun that ends its phrase: "a big red bus", "black and white cats".
  Up to two unknown words may stand between them ("a red double decker bus"), but no preposition,
  article or verb. In a compound the last noun counts: "a red bus seat" is a seat.
- After a form of "be", attributes belong to the last noun that no preposition or verb governs
  ("the cat on the mat is black"). After "that", "which", "who", "painted" and "colored" they
  belong to the nearest noun ("a bus that is red"), as does "with stripes".
- A number belongs to a plural noun ("two dogs", not "two story building"), "one" to any noun.
- A verb belongs to that ungoverned noun ("a man at a table is eating"), and also to the nearest
  noun where it follows directly ("a man watches a bird flying": both readings are possible).
  Between an article and a noun it belongs to that noun ("the sleeping cat").
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from multispace.data.language.inflection import noun_forms, verb_forms
from multispace.data.language.nouns import ANIMATE, NOUNS, OBJECT_OF
from multispace.data.language.words import (
    ATTRIBUTES,
    BE,
    COLOURED,
    DEGREES,
    DETERMINERS,
    NEUTRAL,
    PATTERN_NOUNS,
    PREPOSITIONS,
    QUALITIES,
    RELATIVE,
    UNCOUNTED,
    VERBS,
    attribute_of,
)

FRUIT = {"orange": "orange_fruit"}  # a colour that is a noun after an article: "an orange"
MAX_UNKNOWN = 2  # unknown words between an attribute and its noun

_TOKEN = re.compile(r"[a-z]+|[0-9]+|[.,;!?]")
_ENDS = frozenset([*".;!?", "while", "as", "but", "when", "where"])  # of a clause


@dataclass
class Phrase:
    """A noun in a caption, in the singular, with its attributes and verbs."""

    noun: str
    attributes: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    governed: bool = False  # follows a preposition or a verb: "on the table", "riding a horse"


@dataclass(frozen=True)
class Lexicon:
    """The words that the rules know.

    ``nouns`` and ``verbs`` map each inflected form to its base form.
    """

    attributes: frozenset[str]
    nouns: dict[str, str]
    verbs: dict[str, str]

    def extended(
        self, attributes: Iterable[str], nouns: Iterable[str], verbs: Iterable[str]
    ) -> "Lexicon":
        """Return a lexicon that also knows these words."""
        return replace(
            self,
            attributes=self.attributes | set(attributes),
            nouns={form: word for word in nouns for form in noun_forms(word)} | self.nouns,
            verbs={form: word for word in verbs for form in verb_forms(word)} | self.verbs,
        )

    @cached_property
    def joined(self) -> dict[str, list[list[str]]]:
        """Names of several words, listed under their first word, the longest first."""
        names = {w for w in (*self.attributes, *self.nouns, *NEUTRAL) if "_" in w}
        joined: dict[str, list[list[str]]] = {}
        for name in sorted(names, key=len, reverse=True):
            words = name.split("_")
            joined.setdefault(words[0], []).append(words)
        return joined


LEXICON = Lexicon(
    frozenset(
        word
        for values in (*ATTRIBUTES.values(), QUALITIES)
        for words in values.values()
        for word in words
    ),
    {form: word for words in NOUNS.values() for word in words for form in noun_forms(word)}
    | {colour + "s": fruit for colour, fruit in FRUIT.items()},
    {form: word for words in VERBS.values() for word in words for form in verb_forms(word)},
)


def read_phrases(caption: str, lexicon: Lexicon = LEXICON) -> list[Phrase]:
    """Return the nouns of ``caption`` in order, with their attributes and verbs."""
    return _Reader(_tokens(caption, lexicon), lexicon).read()


def _tokens(caption: str, lexicon: Lexicon) -> list[str]:
    """Split into lower-case words and punctuation; join the words of known names ("hot_dog")."""
    words = _TOKEN.findall(re.sub("['\u2019]s\\b", "", caption.lower()))
    tokens: list[str] = []
    place = 0
    while place < len(words):
        for name in lexicon.joined.get(words[place], ()):
            if words[place : place + len(name)] == name:
                tokens.append("_".join(name))
                place += len(name)
                break
        else:
            tokens.append(words[place])
            place += 1
    return tokens


class _Reader:
    """One pass over the tokens of a caption."""

    def __init__(self, tokens: list[str], lexicon: Lexicon) -> None:
        self.tokens = tokens
        self.lexicon = lexicon
        self.phrases: list[Phrase] = []
        self.subjects: list[Phrase] = []  # several where "and" joins them
        self.last = ""  # kind of the previous token: noun, be, that, verb, in, and, ...
        self.relative = False
        self._close()

    def _close(self) -> None:
        """Leave the current noun phrase."""
        self.inside = self.article = False
        self.attributes: list[str] = []
        self.doing: list[str] = []
        self.unknown = 0

    def _open(self) -> None:
        if not self.inside:
            self.inside = True
            self.governed = self.last in ("in", "verb")
            self.also = self.last == "and"

    def read(self) -> list[Phrase]:
        place = 0
        while place < len(self.tokens):
            place = self._take(place)
        self._end()
        return self.phrases

    def _take(self, place: int) -> int:
        """Read the token at ``place`` and return the place of the next token to read."""
        word, known = self.tokens[place], self.lexicon
        if word in RELATIVE and self.last == "noun":
            self.last, self.relative = "that", True
        elif word in BE:
            self._end()
            return self._predicate(self._subjects(), place, "be")
        elif word in COLOURED and self.last in ("noun", "be"):
            return self._predicate(self.phrases[-1:], place, "verb")
        elif word in DETERMINERS:
            self._end()
            self._open()
            self.article, self.last = True, "article"
        elif word in known.verbs and self._is_verb(word):
            self._verb(word)
        elif word in known.nouns and not (word in known.attributes and self._more(place)):
            self._noun(word, place)
        elif word in known.attributes or word in DEGREES:
            self._open()
            if word in known.attributes:
                self.attributes.append(word)
            self.last = "attribute"
        elif word == "with" and (end := self._pattern(place + 1)):
            self.phrases[-1].attributes.append(self.tokens[end - 1])
            return end
        elif word in PREPOSITIONS:
            self._end()
            self.last = "in"
        elif word in ("and", "or", ","):
            if not (self.attributes and self._more(place)):
                self._end()
                self.last = "and" if self.last == "noun" else "other"
        elif word in _ENDS:
            self._end()
            self.subjects, self.relative, self.last = [], False, "end"
        else:
            self._unknown(word)
        return place + 1

    def _more(self, place: int) -> bool:
        """Return whether an attribute or a word of degree follows."""
        after = self.tokens[place + 1 : place + 2]
        return bool(after) and (after[0] in self.lexicon.attributes or after[0] in DEGREES)

    def _is_verb(self, word: str) -> bool:
        if word not in self.lexicon.nouns:
            return True
        return not self.inside and self.last in ("noun", "be", "that")

    def _verb(self, word: str) -> None:
        verb = self.lexicon.verbs[word]
        if self.article and word.endswith("ing"):
            self.doing.append(verb)  # "the sleeping cat"
            return
        nearest = self.phrases[-1:] if self.last == "noun" or self.relative else []
        subjects = [] if self.relative else self.subjects
        for phrase in {id(p): p for p in (*nearest, *subjects)}.values():
            phrase.verbs.append(verb)
        self._end()
        self.last = "verb"

    def _noun(self, word: str, place: int) -> None:
        noun = self.lexicon.nouns[word]
        self._open()
        after = self.tokens[place + 1] if place + 1 < len(self.tokens) else ""
        if word == noun and self._modifies(noun, self.lexicon.nouns.get(after)):
            self.last = "attribute"
            return
        several = word != noun or word in UNCOUNTED
        attributes = [a for a in self.attributes if several or _fits_one(a)]
        self._name(noun, attributes)

    def _modifies(self, noun: str, after: str | None) -> bool:
        """Return whether the noun is the first part of a compound such as "kitchen table"."""
        if after is None or OBJECT_OF.get(noun) not in ANIMATE:
            return after is not None
        return OBJECT_OF[noun] == "person" and OBJECT_OF.get(after) in ANIMATE

    def _name(self, noun: str, attributes: list[str]) -> None:
        phrase = Phrase(noun, attributes, self.doing, self.governed)
        if not phrase.governed:
            joins = self.also and self.phrases and self.phrases[-1] in self.subjects
            self.subjects = [*self.subjects, phrase] if joins else [phrase]
            self.relative = False
        self.phrases.append(phrase)
        self._close()
        self.last = "noun"

    def _end(self) -> None:
        """End a noun phrase that has no known noun."""
        if self.article and self.attributes and (fruit := FRUIT.get(self.attributes[-1])):
            self._name(fruit, self.attributes[:-1])
        self._close()

    def _unknown(self, word: str) -> None:
        verbal = (word.endswith("s") and not word.endswith("ss")) or (
            word.endswith("ing") and not self.article
        )
        self.unknown += 1
        if not self.inside or verbal or self.unknown > MAX_UNKNOWN:
            self._end()
        self.last = "verb" if word.endswith("ing") else "other"

    def _subjects(self) -> list[Phrase]:
        """Return the nouns that a form of "be" refers to."""
        if self.relative:
            return self.phrases[-1:]
        return self.subjects or self.phrases[-1:]

    def _predicate(self, subjects: list[Phrase], place: int, kind: str) -> int:
        """Add the attributes that end a clause ("is black and white") to ``subjects``.

        :returns: the place of the next token to read
        """
        found, end = [], place + 1
        while end < len(self.tokens):
            word = self.tokens[end]
            if word in self.lexicon.attributes:
                found.append(word)
            elif not (word in DEGREES or (found and word in ("and", ",") and self._more(end))):
                break
            end += 1
        after = self.tokens[end] if end < len(self.tokens) else "."
        if not found or not _closes(after, self.lexicon):
            self.last = kind
            return place + 1
        for phrase in subjects:
            phrase.attributes += [word for word in found if not _is_number(word)]
        self.last = "other"
        return end

    def _pattern(self, place: int) -> int:
        """Return the place after "stripes" in "with black and white stripes", else 0."""
        if self.last != "noun":
            return 0
        for end, word in enumerate(self.tokens[place:], start=place):
            if word in PATTERN_NOUNS:
                return end + 1
            if word not in self.lexicon.attributes and word != "and" and word not in DEGREES:
                return 0
        return 0


def _closes(word: str, lexicon: Lexicon) -> bool:
    """Return whether an attribute before ``word`` cannot belong to a noun after it."""
    functional = DETERMINERS | PREPOSITIONS | BE | RELATIVE | _ENDS | {"and", ",", "or"}
    return word in functional or word in lexicon.verbs


def _is_number(word: str) -> bool:
    return (attribute_of(word) or ("",))[0] == "number"


def _fits_one(word: str) -> bool:
    """Return whether an attribute can belong to a singular noun."""
    return not _is_number(word) or attribute_of(word) == ("number", "one")
