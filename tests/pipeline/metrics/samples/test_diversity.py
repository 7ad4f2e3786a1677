import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from multispace.pipeline.metrics.captions.tfidf import TfIdf
from multispace.pipeline.metrics.samples.diversity import (
    COLUMNS,
    CORPUS_MBLEU,
    CorpusMBleu,
    caption_summary,
    corpus_mbleu,
    div,
    kernels,
    sample_summary,
    self_cider,
    sibling_bleu,
    sibling_statistics,
)

REFERENCES = [["a dog runs on grass", "the dog runs"], ["a red bus stops"], ["two cats sleep here"]]
UNLIKE = ["dog runs on grass", "red bus stops today", "two cats sleep here"]


def sentence_mbleu(captions):
    return sibling_bleu(sibling_statistics(captions))


def test_div_by_hand():
    captions = ["a dog runs", "a dog sits", "a dog runs"]
    assert div(captions, 1) == 4 / 9  # a, dog, runs, sits
    assert div(captions, 2) == 3 / 9  # a dog, dog runs, dog sits
    assert div(["", ""], 1) == 0
    assert div(["a b c", "d e f"], 1) == 1


def test_mbleu_of_equal_and_of_unlike_captions():
    assert sentence_mbleu(["a dog runs on grass"] * 3) == pytest.approx([1, 1, 1])
    assert sentence_mbleu(UNLIKE) == pytest.approx([0, 0, 0], abs=1e-3)


def test_mbleu_is_pycocoevalcaps():
    random = np.random.default_rng(0)
    captions = [" ".join(random.choice(list("abcd"), size=n)) for n in (5, 9, 1, 7, 6, 12, 4)]
    captions += [captions[0], ""]
    gts = {n: captions[:n] + captions[n + 1 :] for n in range(len(captions))}
    res = {n: [caption] for n, caption in enumerate(captions)}
    _, each = Bleu(4).compute_score(gts, res, verbose=0)
    assert sentence_mbleu(captions) == pytest.approx(each[3], rel=1e-9, abs=1e-12)


# Of five words against four and back, and of two equal captions of four.
LONGER = [["a b c d e", "a b c d"], ["a b c d", "a b c d"]]


def test_mbleu_of_the_corpus_by_hand():
    statistics = np.array([sibling_statistics(captions) for captions in LONGER])
    assert statistics[0].tolist() == [[5, 4, 4, 3, 2, 1], [4, 5, 4, 3, 2, 1]]
    # First samples: 9 words against 8, with 8 of 9, 6 of 7, 4 of 5 and 2 of 3 n-grams.
    first = (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25
    # Second samples: every n-gram matches, but 8 words are fewer than 9.
    second = np.exp(1 - 9 / 8)
    assert corpus_mbleu(statistics) == pytest.approx((first + second) / 2, rel=1e-6)
    # Sentence by sentence: 4 of 5, 3 of 4, 2 of 3 and 1 of 2 n-grams; a brevity penalty; 1; 1.
    sentences = [(4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25, np.exp(1 - 5 / 4), 1, 1]
    assert sibling_bleu(statistics).ravel() == pytest.approx(sentences, rel=1e-6)


def test_mbleu_of_three_samples_by_hand():
    samples = ["a b c d e", "a b c d f", "a b c x y"]
    # Each of the first two has 4 words, 3 pairs, 2 triples and 1 group of four in common with the
    # other; the third has 3, 2 and 1, and no group of four.
    alike = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    unlike = (3 / 5 * 2 / 4 * 1 / 3 * 0 / 2) ** 0.25
    statistics = np.array([sibling_statistics(samples)])
    assert statistics[0].tolist() == [[5, 5, 4, 3, 2, 1]] * 2 + [[5, 5, 3, 2, 1, 0]]
    assert corpus_mbleu(statistics) == pytest.approx((2 * alike + unlike) / 3, abs=1e-4)


def test_mbleu_of_weighted_images_is_that_of_repeated_ones():
    random = np.random.default_rng(2)
    samples = [
        [" ".join(random.choice(list("abcd"), size=n)) for n in random.integers(3, 10, 4)]
        for _ in range(3)
    ]
    statistics = np.array([sibling_statistics(captions) for captions in samples])
    weights = np.array([[2, 0, 1], [1, 1, 1]], float)
    found = CorpusMBleu(statistics).of(weights)
    assert found[0] == pytest.approx(corpus_mbleu(statistics[[0, 0, 2]]), rel=1e-12)
    assert found[1] == pytest.approx(corpus_mbleu(statistics), rel=1e-12)
    assert found[0] != pytest.approx(found[1])


def test_mbleu_of_the_corpus_is_pycocoevalcaps():
    random = np.random.default_rng(1)
    samples = [
        [" ".join(random.choice(list("abcd"), size=n)) for n in random.integers(3, 10, 4)]
        for _ in range(5)
    ]
    each = []
    for draw in range(4):
        gts = {n: texts[:draw] + texts[draw + 1 :] for n, texts in enumerate(samples)}
        res = {n: [texts[draw]] for n, texts in enumerate(samples)}
        each.append(Bleu(4).compute_score(gts, res, verbose=0)[0][3])
    statistics = np.array([sibling_statistics(captions) for captions in samples])
    assert corpus_mbleu(statistics) == pytest.approx(np.mean(each), rel=1e-9)


def test_self_cider_is_0_for_equal_and_1_for_unlike_captions():
    cider = TfIdf(REFERENCES)
    assert self_cider(cider.kernel(["a dog runs on grass"] * 4)) == pytest.approx(0, abs=1e-6)
    assert cider.kernel(UNLIKE) == pytest.approx(np.eye(3))
    assert self_cider(cider.kernel(UNLIKE)) == pytest.approx(1)
    assert self_cider(np.zeros((3, 3))) == 0


def test_self_cider_by_hand():
    # Two pairs of equal captions: eigenvalues 2, 2, 0, 0 and so log_4 2.
    kernel = np.kron(np.eye(2), np.ones((2, 2)))
    assert self_cider(kernel) == pytest.approx(0.5)
    # Eigenvalues 1.5 and 0.5.
    kernel = np.array([[1, 0.5], [0.5, 1]])
    share = np.sqrt(1.5) / (np.sqrt(1.5) + np.sqrt(0.5))
    assert self_cider(kernel) == pytest.approx(-np.log2(share))


def test_summary_of_samples():
    samples = [["a dog runs on grass"] * 2, ["a red bus stops", "two cats sleep here"]]
    known = REFERENCES[:2]
    siblings = np.array([sibling_statistics(captions) for captions in samples])
    summary, each = sample_summary(samples, siblings, kernels(samples, known), {"a red bus stops"})
    assert list(summary) == [*COLUMNS, CORPUS_MBLEU, "words"]
    # Of 9 words, 7 pairs, 5 triples and 3 groups of four, those of the equal samples match.
    matched = (5 / 9 * 4 / 7 * 3 / 5 * 2 / 3) ** 0.25
    assert summary[CORPUS_MBLEU] == pytest.approx(matched, rel=1e-6)
    assert each[:, COLUMNS.index("unique")].tolist() == [0.5, 1.0]
    assert each[:, COLUMNS.index("novel")].tolist() == [1.0, 0.5]
    assert each[:, COLUMNS.index("self-CIDEr")] == pytest.approx([0, 1], abs=1e-6)
    assert summary["mBLEU-4"] == pytest.approx(0.5, abs=1e-3)
    assert summary["Div-1"] == (5 / 10 + 8 / 8) / 2
    assert summary["words"] == 12


def test_summary_of_single_captions():
    found = caption_summary(["a dog", "a dog", "a cat", "a bus"], {"a dog", "the cat"})
    assert found == {
        "pictures": 4,
        "distinct": 3,
        "distinct_share": 0.75,
        "novel": 2,
        "novel_share": 0.5,
        "words": 4,
    }
