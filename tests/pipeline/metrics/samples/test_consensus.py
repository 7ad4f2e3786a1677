import numpy as np
import pytest

from multispace.pipeline.metrics.captions.tfidf import NgramVectors, TfIdf
from multispace.pipeline.metrics.samples.consensus import consensus, reranked

# Four training images. Each of the words a to d is in the captions of one, "the" in all.
TRAINING = [["the a"], ["the b"], ["the c"], ["the d"]]


def test_similarities_by_hand():
    # idf of a and b is log 4, that of "the" is 0. "a b" and "a" share one of two words:
    # cosine (log 4)^2 / (sqrt 2 (log 4)^2). Pairs of words do not match. Lengths, counted in
    # pairs, differ by 1. The orders of 2 to 4 words count 0, so everything is divided by 4.
    found = TfIdf(TRAINING).similarities(["a b", "a", "the"], ["a b", "a"])
    penalty = np.exp(-1 / 72)
    shared = 10 / 4 / np.sqrt(2) * penalty
    assert found == pytest.approx(np.array([[5, shared], [shared, 2.5], [0, 0]]))


def test_the_consensus_of_samples_by_hand():
    # "a b" shares a word with each of the others, which share none with each other.
    assert consensus([["a", "a b", "b"], ["c", "d", "c d"]], TRAINING) == [1, 2]
    # Two of three agree.
    assert consensus([["d", "a b", "a b"]], TRAINING) == [1]


def test_ties_go_to_the_first():
    assert consensus([["a", "b", "c"], ["b a", "a b"]], TRAINING) == [0, 0]


def test_document_frequencies_are_those_of_training():
    # With two samples of one image "the" and "a" would count alike. In training "the" is in the
    # captions of every image and counts nothing, so only the samples with a agree.
    samples = ["the b", "the c", "a b", "a c", "a d"]
    assert consensus([samples], TRAINING) == [2]
    assert consensus([samples], [["a a"], ["a b"], ["a c"], ["a d"]]) == [0]


def test_words_are_compared_in_lower_case_without_punctuation():
    assert consensus([["d", "A b.", "a B"]], TRAINING) == [1]


@pytest.mark.parametrize(("likely", "chosen"), [(0.9, 0), (0.5, 0), (0.4, 1)])
def test_of_two_categories_the_more_probable_one_is_chosen(likely, chosen):
    # Scores: 10 p + s (1 - p) and s p + 10 (1 - p), so p decides alone.
    pair = [["a b c d the", "a b c the d"]]
    assert consensus(pair, TRAINING, [np.array([likely, 1 - likely])]) == [chosen]


def test_probabilities_of_equal_captions_add_up():
    three = [["c", "a b", "a b"]]
    # 2.5 * 0.45 = 1.125 and 5 * (0.2 + 0.35) = 2.75
    assert consensus(three, TRAINING, [np.array([0.45, 0.2, 0.35])]) == [1]
    # 2.5 * 0.8 = 2 and 5 * 0.2 = 1
    assert consensus(three, TRAINING, [np.array([0.8, 0.1, 0.1])]) == [0]


def test_a_caption_between_the_probable_ones_wins():
    # "a b" has 5 * 0.2 + s (0.4 + 0.4) with s = 1.743, the others 2.5 * 0.4 + s * 0.2.
    assert consensus([["a", "a b", "b"]], TRAINING, [np.array([0.4, 0.2, 0.4])]) == [1]


def test_counting_only_the_scored_words_changes_nothing():
    texts = ["a b", "the a", "c the d"]
    whole = TfIdf(TRAINING).similarities(texts, texts)
    assert np.array_equal(TfIdf(TRAINING, scored=texts).similarities(texts, texts), whole)


def test_unweighted_similarities_by_hand():
    # "a b" and "a" share one of two words: cosine 1 / sqrt 2. Lengths, counted in pairs, differ
    # by 1. "a" has no groups of more words, so its own similarity is that of one order of four.
    found = NgramVectors().similarities(["a b c d", "a b", "a"], ["a b c d", "a"])
    shared = 10 / 4 / np.sqrt(2) * np.exp(-1 / 72)
    assert found[:, 1] == pytest.approx(np.array([10 / 8 * np.exp(-9 / 72), shared, 2.5]))
    assert found[0, 0] == pytest.approx(10)


@pytest.mark.parametrize(("copies", "chosen"), [(3, "a b c d"), (5, "e")])
def test_the_hypothesis_that_is_most_like_the_samples_by_hand(copies, chosen):
    # "a b c d" has similarity 10 to itself and 0 to "e", which has 2.5 to itself.
    hypotheses = ["f", "a b c d", "e"]
    (place,) = reranked([hypotheses], [["a b c d", *["e"] * copies]])
    assert hypotheses[place] == chosen


def test_a_hypothesis_is_chosen_for_each_image_from_its_own_samples():
    pair = ["A b.", "c d"]
    assert reranked([pair, pair, pair], [["c d"], ["a B"], ["e"]]) == [1, 0, 0]
