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


def test_characters_are_the_words_of_text_without_blanks():
    split = get_tokenizer("characters")
    assert split("一只狗在跑。") == ["一", "只", "狗", "在", "跑", "。"]
    assert split("穿 T恤 的 NBA 球员 23号") == [
        "穿", "T", "恤", "的", "NBA", "球", "员", "23", "号",
    ]  # fmt: skip
    assert split("か\u3099a\u0301") == ["か\u3099", "a\u0301"]
    assert split(" \t") == []


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
