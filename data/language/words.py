"""The attributes, verbs and function words that are looked for in captions.

``words.json`` holds the lists.
"""

from typing import Any

from multispace.data.language.word_lists import Words, read_word_lists

_LISTS: dict[str, Any] = read_word_lists("words.json")

# Class of attributes -> value -> its words.
ATTRIBUTES: dict[str, dict[str, Words]] = _LISTS["attributes"]
ATTRIBUTE_CLASSES = tuple(ATTRIBUTES)

# Attributes that can be held out, but whose use is too loose to score.
QUALITIES: dict[str, Words] = _LISTS["qualities"]

VERBS: dict[str, Words] = _LISTS["verbs"]

PATTERN_NOUNS = frozenset(_LISTS["pattern_nouns"])  # follow "with"
DETERMINERS = frozenset(_LISTS["determiners"])
PREPOSITIONS = frozenset(_LISTS["prepositions"])
BE = frozenset(_LISTS["be"])
RELATIVE = frozenset(_LISTS["relative"])
DEGREES = frozenset(_LISTS["degrees"])
COLOURED = frozenset(_LISTS["coloured"])
NEUTRAL: Words = _LISTS["neutral"]  # names whose parts must not be read as attributes or nouns

# Irregular inflections.
UNCOUNTED = frozenset(_LISTS["uncounted"])  # singular and plural are the same word
PLURALS: dict[str, Words] = _LISTS["plurals"]
PAST_FORMS: dict[str, Words] = _LISTS["past_forms"]

_ATTRIBUTE_OF = {
    word: (kind, value)
    for kind, values in ATTRIBUTES.items()
    for value, words in values.items()
    for word in words
}


def attribute_of(word: str) -> tuple[str, str] | None:
    """Return class and value of an attribute word: "huge" gives ("size", "big")."""
    return _ATTRIBUTE_OF.get(word)


def bare(word: str) -> str:
    """Return a white-space token in lower case, without punctuation around it."""
    return word.lower().strip(".,;:!?\"'()")
