"""Inflected forms of English nouns and verbs."""

import re

from multispace.data.language.words import PAST_FORMS, PLURALS, UNCOUNTED


def noun_forms(word: str) -> list[str]:
    """Return the singular of a noun, then its plurals.

    :param word: the singular; of a name such as ``fire_hydrant`` the last part is inflected
    """
    stem, joint, last = word.rpartition("_")
    if word in UNCOUNTED or last in UNCOUNTED:
        return [word]
    plurals: list[str]
    if last in PLURALS:
        plurals = list(PLURALS[last])
    elif last.endswith("man") and last != "human":
        plurals = [last[:-3] + "men"]
    else:
        plurals = [_with_s(last)]
        if last.endswith("o"):
            plurals.append(last + "es")
    return [word, *(stem + joint + plural for plural in plurals)]


def verb_forms(word: str) -> list[str]:
    """Return the base form of a verb, then its inflected forms."""
    stem = word + word[-1] if re.fullmatch("[^aeiou]*[aeiou][^aeiouwxy]", word) else word
    if word.endswith("e"):
        stem = word[:-1]
    past = word[:-1] + "ied" if re.search("[^aeiou]y$", word) else stem + "ed"
    return [word, _with_s(word), stem + "ing", past, *PAST_FORMS.get(word, ())]


def _with_s(word: str) -> str:
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("s" if not re.search("(s|x|z|ch|sh)$", word) else "es")
