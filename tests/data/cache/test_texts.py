import numpy as np
import pytest

from multispace.data.cache.texts import Texts

WORDS = ("", "a bus", "une bête", "", "日本")


def make(words=WORDS):
    parts = [word.encode() for word in words]
    return Texts(b"".join(parts), np.cumsum([0, *map(len, parts)], dtype=np.int64))


def test_it_is_a_sequence_of_its_texts():
    texts = make()
    assert len(texts) == len(WORDS)
    assert list(texts) == list(WORDS)
    assert [texts[i] for i in range(-5, 5)] == [*WORDS, *WORDS]
    assert texts[1:4] == WORDS[1:4]
    for beyond in (5, -6):
        with pytest.raises(IndexError):
            texts[beyond]
    assert texts == WORDS
    assert texts == list(WORDS)
    assert texts == make()
    assert texts != WORDS[1:]
    assert texts != ("x", *WORDS[1:])
    assert texts != "".join(WORDS)
    assert list(make(())) == []


def test_what_is_no_text_is_refused():
    with pytest.raises(UnicodeDecodeError):
        Texts(b"a\xff", np.array([0, 2]))
    with pytest.raises(UnicodeDecodeError, match="begins within a character") as caught:
        Texts("aé".encode(), np.array([0, 2, 3]))
    assert caught.value.start == 2
