"""Tokenizers, which split the text of a caption into words."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from multispace.errors import VocabularyError

# Treebank's rules change only punctuation and these contractions. In a text of letters, digits
# and spaces they change nothing but a full stop at the end.
_PLAIN = re.compile(r"[a-z0-9 ]*\.?\s*")
_CONTRACTION = re.compile(r"cannot|gimme|gonna|gotta|lemme|wanna")
_CHARACTERS = re.compile(r"[A-Za-z0-9]+|\S")


@dataclass(frozen=True)
class Tokenizer:
    """A named function that splits a caption into words without white space."""

    name: str
    split: Callable[[str], list[str]]

    def __call__(self, text: str) -> list[str]:
        """Return the words of ``text`` in order."""
        return self.split(text)


def get_tokenizer(name: str) -> Tokenizer:
    """Return a tokenizer by its name.

    :raises VocabularyError: there is no such tokenizer.
    """
    if name not in TOKENIZERS:
        known = ", ".join(TOKENIZERS)
        raise VocabularyError(f"unknown tokenizer {name!r}", hint=f"choose from {known}")
    return TOKENIZERS[name]


@cache
def _nltk_treebank() -> Callable[[str], list[str]]:
    from nltk.tokenize import TreebankWordTokenizer  # takes seconds to import

    tokenize: Callable[[str], list[str]] = TreebankWordTokenizer().tokenize
    return tokenize


def _treebank(text: str) -> list[str]:
    text = text.lower()
    # A fast path for most captions: NLTK applies forty substitutions to each text.
    if _PLAIN.fullmatch(text) and not _CONTRACTION.search(text):
        return text.replace(".", " .").split()
    return _nltk_treebank()(text)


def _characters(text: str) -> list[str]:
    """Split into characters; letters and digits of ASCII that are together stay one word."""
    words: list[str] = []
    for part in _CHARACTERS.findall(text):
        if words and unicodedata.combining(part[0]):
            words[-1] += part  # an accent belongs to the character before it
        else:
            words.append(part)
    return words


def _lowercase(text: str) -> list[str]:
    return text.lower().split()


TOKENIZERS = {
    tokenizer.name: tokenizer
    for tokenizer in (
        Tokenizer("whitespace", str.split),
        Tokenizer("whitespace-lower", _lowercase),
        Tokenizer("treebank", _treebank),
        Tokenizer("characters", _characters),
    )
}
