"""Which things a caption names, with which attributes, doing what: rules over word lists.

There is no parser behind this. The rules, for words of :mod:`multispace.data.language`:

- an attribute counts for the noun that ends its phrase: "a big red bus", "black and white cats".
  Up to two unknown words may stand between ("a red double decker bus"), but no preposition,
  article or verb; in a compound the last noun counts ("a red bus seat" is a seat);
- after a form of "be", attributes count for the last noun that no preposition or verb governs
  ("the cat on the mat is black"), after "that", "which" and "who" for the nearest ("a bus that is
  red"); after "painted" and "colored" for the nearest too, and "with stripes" likewise;
- a number counts for a noun in the plural ("two dogs", not "two story building"), "one" for any;
- a verb counts for that last noun ("a man at a table is eating"), and for the nearest where it
  follows directly ("a man watches a bird flying": either may be meant); before a noun, with an
  article, for that noun ("the sleeping cat").
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

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
    noun_forms,
    verb_forms,
)

FRUIT = {"orange": "orange_fruit"}  # a colour that is a noun after an article: "an orange"
SKIPPED = 2  # unknown words between an attribute and its noun

_TOKEN = re.compile(r"[a-z]+|[0-9]+|[.,;!?]")
_ENDS = frozenset([*".;!?", "while", "as", "but", "when", "where"])  # of a clause


@dataclass
class Phrase:
    """A noun as a caption names it, folded to the singular, and what is said of it."""

    noun: str
    attributes: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    governed: bool = False  # by a preposition or a verb: "on the table", "riding a horse"


@dataclass(frozen=True)
class Lexicon:
    """The words that the rules know: attributes as they are, nouns and verbs by their forms."""

    attributes: frozenset[str]
    nouns: dict[str, str]
    verbs: dict[str, str]

    def extended(
        self, attributes: Iterable[str], nouns: Iterable[str], verbs: Iterable[str]
    ) -> "Lexicon":
        """Return a lexicon that knows these words too."""
        return replace(
            self,
            attributes=self.attributes | set(attributes),
            nouns={form: word for word in nouns for form in noun_forms(word)} | self.nouns,
            verbs={form: word for word in verbs for form in verb_forms(word)} | self.verbs,
        )

    @cached_property
    def joined(self) -> dict[str, list[list[str]]]:
        """Names of several words by their first, the longest first."""
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
        for word in words.split()
    ),
    {form: word for words in NOUNS.values() for word in words.split() for form in noun_forms(word)}
    | {colour + "s": fruit for colour, fruit in FRUIT.items()},
    {form: word for words in VERBS.values() for word in words.split() for form in verb_forms(word)},
)


def read_phrases(caption: str, lexicon: Lexicon = LEXICON) -> list[Phrase]:
    """Return the nouns that ``caption`` names, in its order, with what is said of each."""
    return _Reader(_tokens(caption, lexicon), lexicon).read()


def _tokens(caption: str, lexicon: Lexicon) -> list[str]:
    """Split into lower-case words and marks; names of several words become one ("hot_dog")."""
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
        self.last = ""  # what the token before was: noun, be, that, verb, in, and, or something
        self.relative = False
        self._close()

    def _close(self) -> None:
        """Leave the noun phrase in hand."""
        self.inside = self.article = False
        self.attributes: list[str] = []
        self.doing: list[str] = []
        self.skipped = 0

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
        """Read the token at ``place``; return the place of the next one to read."""
        word, known = self.tokens[place], self.lexicon
        if word in RELATIVE and self.last == "noun":
            self.last, self.relative = "that", True
        elif word in BE:
            self._end()
            return self._said_of(self._subjects(), place, "be")
        elif word in COLOURED and self.last in ("noun", "be"):
            return self._said_of(self.phrases[-1:], place, "verb")
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
        """Whether an attribute, or a word of degree, follows."""
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
        """Whether the noun is only part of a compound: "kitchen table", "baby elephant"."""
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
        """End a noun phrase that no known noun ended."""
        if self.article and self.attributes and (fruit := FRUIT.get(self.attributes[-1])):
            self._name(fruit, self.attributes[:-1])
        self._close()

    def _unknown(self, word: str) -> None:
        verbal = (word.endswith("s") and not word.endswith("ss")) or (
            word.endswith("ing") and not self.article
        )
        self.skipped += 1
        if not self.inside or verbal or self.skipped > SKIPPED:
            self._end()
        self.last = "verb" if word.endswith("ing") else "other"

    def _subjects(self) -> list[Phrase]:
        """Of whom "is" speaks."""
        if self.relative:
            return self.phrases[-1:]
        return self.subjects or self.phrases[-1:]

    def _said_of(self, subjects: list[Phrase], place: int, kind: str) -> int:
        """Give the attributes that end a clause to ``subjects``: "is black and white"."""
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
        """Return the place after "stripes" in "with black and white stripes", or 0."""
        if self.last != "noun":
            return 0
        for end, word in enumerate(self.tokens[place:], start=place):
            if word in PATTERN_NOUNS:
                return end + 1
            if word not in self.lexicon.attributes and word != "and" and word not in DEGREES:
                return 0
        return 0


def _closes(word: str, lexicon: Lexicon) -> bool:
    """Whether an attribute before ``word`` stands alone, for no noun can come of it."""
    functional = DETERMINERS | PREPOSITIONS | BE | RELATIVE | _ENDS | {"and", ",", "or"}
    return word in functional or word in lexicon.verbs


def _is_number(word: str) -> bool:
    return (attribute_of(word) or ("",))[0] == "number"


def _fits_one(word: str) -> bool:
    """Whether an attribute can belong to a noun in the singular."""
    return not _is_number(word) or attribute_of(word) == ("number", "one")
