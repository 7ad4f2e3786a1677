import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from support.meteor import one_meteor

from multispace.pipeline.metrics.captions.bleu import bleu, with_totals
from multispace.pipeline.metrics.captions.coco_metrics import score_captions
from multispace.pipeline.metrics.captions.image_scores import ImageScores
from multispace.pipeline.metrics.captions.meteor import meteor

REFERENCES = {
    1: ["a dog runs on the green grass", "the brown dog is running"],
    2: ["two women ride brown horses", "a pair of ladies is riding"],
    3: ["a red bus in the city", "the bus stops at a corner of the street"],
}
HYPOTHESES = {1: "a dog is running on grass", 2: "", 3: "a red bus in the city"}


@pytest.fixture(scope="module")
def scored():
    with one_meteor():  # in the whole module
        yield score_captions(REFERENCES, HYPOTHESES)


def entries(scored) -> list[dict]:
    return [
        {"image_id": i, **values, "statistics": scored.statistics[i]}
        for i, values in scored.per_image.items()
    ]


def test_weights_of_1_give_the_corpus_scores_themselves(scored):
    assert ImageScores.from_entries(entries(scored)).totals() == pytest.approx(
        scored.corpus, rel=1e-12
    )


def test_one_image_alone_has_its_own_score(scored):
    found = ImageScores.from_entries(entries(scored)).corpus(np.eye(3))
    for name, values in found.items():
        own = [scores[name] for scores in scored.per_image.values()]
        assert values == pytest.approx(own, abs=1e-12), name


def test_weighted_images_are_repeated_images(scored):
    twice = dict(enumerate((1, 1, 3)))
    again = score_captions(
        {n: REFERENCES[i] for n, i in twice.items()},
        {n: HYPOTHESES[i] for n, i in twice.items()},
        ("bleu", "meteor", "rouge"),
    )
    found = ImageScores.from_entries(entries(scored)).corpus(np.array([2.0, 0.0, 1.0]))
    assert {name: float(found[name]) for name in again.corpus} == pytest.approx(again.corpus)
    sentences = [s["Bleu_4"] for s in again.per_image.values()]
    assert found["Bleu_4"] != pytest.approx(np.mean(sentences), rel=0.01)


def test_bleu_of_sums_is_pycocoevalcaps_on_many_captions():
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(list("abcde"), size=n)) for n in random.integers(1, 12, 90)]
    gts = {n: texts[3 * n + 1 : 3 * n + 3] for n in range(30)}
    res = {n: [texts[3 * n]] for n in range(30)}
    known, _ = Bleu(4).compute_score(gts, res, verbose=0)
    scores = score_captions(gts, {n: text for n, (text,) in res.items()}, ("bleu",))
    statistics = np.array([s["bleu"] for s in scores.statistics.values()], float)
    assert bleu(with_totals(statistics).sum(0)) == pytest.approx(known, rel=1e-12)
    assert known[3] > 0.01


def test_meteor_by_hand():
    # Four of five words (one a function word) match four of six (two function words), two chunks.
    row = np.zeros(23)
    row[:4] = 5, 6, 1, 2
    row[4:8] = 3, 3, 1, 1
    row[20:] = 2, 4, 4
    precision, recall = (0.75 * 3 + 0.25) / (0.75 * 4 + 0.25), (0.75 * 3 + 0.25) / (0.75 * 4 + 0.5)
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert meteor(row) == pytest.approx(mean * (1 - 0.6 * (2 / 4) ** 0.2))


def test_scores_without_statistics_are_left_out():
    found = ImageScores.from_entries([{"image_id": 1, "Bleu_1": 0.5, "CIDEr": 0.25}])
    assert found.totals() == {"CIDEr": 0.25}
