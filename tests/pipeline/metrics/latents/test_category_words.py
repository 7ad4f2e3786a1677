import math

import numpy as np
import pytest
from support import rows

from multispace.data.annotations import CaptionedImage
from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.captions.encoded_captions import encode_captions
from multispace.data.captions.vocabulary import build_vocabulary
from multispace.pipeline.metrics.latents.category_words import (
    CaptionWords,
    caption_words,
    log_odds,
    telling_words,
)


def test_log_odds_by_hand():
    # Group 0 has "x" three times and "y" once, group 1 has "x" once and "y" seven times.
    groups = np.array([0] * 4 + [1] * 8)
    words = np.array([0, 0, 0, 1] + [0] + [1] * 7)
    found = log_odds(groups, words)
    assert found.groups.tolist() == [0, 0, 1, 1]
    assert found.words.tolist() == [0, 1, 0, 1]
    assert found.counts.tolist() == [3, 1, 1, 7]
    # The prior has 12 words / 2 groups = 6 pseudo-counts: 2 of "x", which is 4 of 12, 4 of "y".
    # Odds in group 0: (3 + 2) / (1 + 4) for "x"; in group 1: (1 + 2) / (7 + 4).
    delta = math.log(5 / 5) - math.log(3 / 11)
    x, y = delta / math.sqrt(1 / 5 + 1 / 3), delta / math.sqrt(1 / 5 + 1 / 11)
    assert found.z.tolist() == pytest.approx([x, -y, -x, y])


@pytest.mark.parametrize(
    ("groups", "words"), [([3, 3, 3], [0, 1, 1]), ([0, 1, 1], [2, 2, 2]), ([], [])]
)
def test_one_group_or_one_word_has_no_log_odds(groups, words):
    assert len(log_odds(np.array(groups, np.int64), np.array(words, np.int64)).z) == 0


def test_equal_groups_have_log_odds_of_zero():
    found = log_odds(np.repeat([0, 1, 2], 4), np.tile([0, 1, 1, 2], 3))
    assert found.z == pytest.approx(np.zeros(9), abs=1e-12)


def test_only_words_that_stand_out_are_telling_and_the_first_come_first():
    names = ("a", "cat", "dog", "red")
    captions = [["a", "dog", "red"]] * 30 + [["a", "dog"]] * 10 + [["a", "cat"]] * 40
    words = CaptionWords(
        np.repeat(np.arange(80), [len(text) for text in captions]),
        np.array([names.index(word) for text in captions for word in text]),
        names,
    )
    categories = np.array([7] * 40 + [2] * 40)
    telling = telling_words(categories, words, 10)
    assert {k: [word.word for word in each] for k, each in telling.items()} == {
        7: ["dog", "red"], 2: ["cat"]}  # fmt: skip
    dog, red = telling[7]
    assert (dog.count, red.count) == (40, 30)
    assert dog.z > red.z >= 1.96
    assert [word.word for word in telling_words(categories, words, 1)[7]] == ["dog"]
    assert telling_words(np.zeros(80, np.int64), words, 10) == {}
    assert telling_words(np.arange(80) % 2, words, 10) == {}  # chance: nothing stands out


def test_words_are_folded_and_belong_to_their_captions(tmp_path):
    captions = {"1.jpg": ("A dog .", "dogs"), "2.jpg": ('"Dog", a secret a',)}
    known = build_vocabulary(["A a dog dogs .", '"Dog",'], "whitespace", 1, "source")
    images = [CaptionedImage(key, n, texts, "test") for n, (key, texts) in
              enumerate(captions.items())]  # fmt: skip
    with write_cache(tmp_path / "cache") as writer:
        writer.put_vocabulary(known)
        writer.put_captions(encode_captions(images, "test", known, "source"))
        rows.append(writer, list(captions))
    cache = Cache.open(tmp_path / "cache")
    pairs = load_pairs(cache, "test")

    def read(numbers):
        found = caption_words(pairs, cache.vocabulary(), np.array(numbers))
        return [
            [found.names[w] for w in found.words[found.captions == caption]]
            for caption in range(len(numbers))
        ]

    assert read([0, 1, 2]) == [["a", "dog"], ["dogs"], ["dog", "a", "a"]]
    assert read([2, 1]) == [["dog", "a", "a"], ["dogs"]]
