import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider as TheirCider
from support.meteor import one_meteor

from multispace.pipeline.metrics.captions.coco_metrics import score_captions
from multispace.pipeline.metrics.captions.rouge import rouge
from multispace.pipeline.metrics.captions.tfidf import TfIdf
from multispace.pipeline.metrics.samples.oracle import best_of, score_samples

REFERENCES = [
    ["a dog runs on the grass", "the brown dog is running on a lawn", "a dog"],
    ["two women ride horses", "a pair of ladies is riding", "women on horses"],
    ["a red bus in the city", "the bus stops at a corner", "a a a bus"],
]
SAMPLES = [
    ["a dog is running on grass", "a dog", "a cat sleeps"],
    ["", "two women ride horses", "ladies riding a pair of horses"],
    ["a red car and a bus", "bus", "the red bus stops at a corner in a city"],
]


def test_each_sample_has_pycocoevalcaps_score():
    found = score_samples(REFERENCES, SAMPLES, ("bleu", "rouge", "cider"))
    references = dict(enumerate(REFERENCES))
    for draw in range(3):
        said = {n: captions[draw] for n, captions in enumerate(SAMPLES)}
        known = score_captions(references, said, ("bleu", "rouge", "cider"))
        assert list(found) == list(known.corpus)
        for name, scores in found.items():
            own = [values[name] for values in known.per_image.values()]
            assert scores[:, draw] == pytest.approx(own, rel=1e-9, abs=1e-12), name


def test_rouge_and_cider_are_pycocoevalcaps_on_many_captions():
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(list("abcdef"), size=n)) for n in random.integers(1, 14, 160)]
    gts = {n: texts[4 * n + 1 : 4 * n + 4] for n in range(40)}
    res = {n: [texts[4 * n]] for n in range(40)}
    weights = TfIdf(list(gts.values()))
    _, each = TheirCider().compute_score(gts, res)
    assert [weights.cider_d(res[n], gts[n])[0] for n in gts] == pytest.approx(list(each), rel=1e-9)
    known = score_captions(gts, {n: text for n, (text,) in res.items()}, ("rouge",))
    own = [values["ROUGE_L"] for values in known.per_image.values()]
    assert [rouge(res[n], gts[n])[0] for n in gts] == pytest.approx(own, rel=1e-12)


def test_meteor_of_samples_is_that_of_captions():
    said = {n: captions[1] for n, captions in enumerate(SAMPLES)}
    with one_meteor():
        found = score_samples(REFERENCES, SAMPLES, ("meteor",))["METEOR"]
        known = score_captions(dict(enumerate(REFERENCES)), said, ("meteor",))
    assert found.shape == (3, 3)
    assert found[:, 1].tolist() == [values["METEOR"] for values in known.per_image.values()]


def test_the_best_is_at_least_the_mean_and_equal_for_equal_samples():
    found = score_samples(REFERENCES, SAMPLES, ("bleu", "rouge", "cider"))
    for scores in found.values():
        assert (scores.max(1) >= scores.mean(1)).all()
        assert scores.max(1).mean() > scores.mean()
    equal = score_samples(REFERENCES, [[captions[1]] * 3 for captions in SAMPLES], ("cider",))
    assert equal["CIDEr"].max(1) == pytest.approx(equal["CIDEr"].mean(1))


def test_the_likeness_of_captions_is_cider_without_its_penalty_on_lengths():
    kernel = TfIdf(REFERENCES).kernel(SAMPLES[0])
    assert kernel == pytest.approx(kernel.T)
    assert np.diag(kernel) == pytest.approx([1, 0.5, 0.75])  # a caption of two words has no triples
    assert np.linalg.eigvalsh(kernel).min() > -1e-12


@pytest.mark.parametrize(
    ("count", "sizes"), [(2, [1, 2]), (5, [1, 5]), (7, [1, 5, 7]), (20, [1, 5, 10, 20])]
)
def test_the_best_of_n_is_among_the_first_n(count, sizes):
    rising = np.arange(count, dtype=float)
    found = best_of(np.stack([rising, -rising]))
    assert list(found) == sizes
    for n, best in found.items():
        assert best.tolist() == [n - 1, 0]
