import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nltk.tokenize import TreebankWordTokenizer

from multispace.data.tokenizers import TOKENIZERS, get_tokenizer
from multispace.errors import VocabularyError

NLTK = TreebankWordTokenizer()
WORDS = ["a", "dog", "A", "cannot", "gonna", "wanna", "d'ye", "t-shirt", "3", "isn't", "St."]
WORDS += [".", "..", ",", "?", '"', "(", "--", "'", "\u2019", "dog's", "\t", "  ", "İ", "x.jpg"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("whitespace", ["A", "man's", "red", "Bus,", "stopped."]),
        ("whitespace-lower", ["a", "man's", "red", "bus,", "stopped."]),
        ("treebank", ["a", "man", "'s", "red", "bus", ",", "stopped", "."]),
    ],
)
def test_tokenizers(name, words):
    tokenizer = get_tokenizer(name)
    assert tokenizer.name == name
    assert TOKENIZERS[name] is tokenizer
    assert tokenizer("A man's  red\tBus, stopped.") == words


@given(
    st.lists(st.sampled_from(WORDS)), st.sampled_from(["", " "]), st.sampled_from(["", ".", " ."])
)
@example(["a", "dog"], " ", ".")
@example(["I", "cannot", "go"], " ", "")
@example([], "", ".")
def test_treebank_is_nltk_on_the_lower_cased_text(words, between, end):
    text = between.join(words) + end
    assert get_tokenizer("treebank")(text) == NLTK.tokenize(text.lower())


def test_an_unknown_tokenizer_is_refused_with_those_there_are():
    with pytest.raises(VocabularyError, match=r"'ptb'.*whitespace, whitespace-lower, treebank"):
        get_tokenizer("ptb")
