import numpy as np
import pytest

from multispace.pipeline.metrics.captions.tfidf import TfIdf
from multispace.pipeline.metrics.samples import diversity
from multispace.pipeline.metrics.samples.diversity_curve import (
    MEANS,
    CurvePoint,
    DiversityCurve,
    diversity_curve,
)
from multispace.pipeline.metrics.samples.oracle import score_samples

REFERENCES = {7: ["a dog runs", "the dog is running"], 3: ["two red buses"], 5: ["a cat sleeps"]}
TRAINING = [["a dog"], ["a bus"], ["a cat"], ["a tree"]]
SAME = {7: ["the dog is running"] * 3, 3: ["two red buses stop"] * 3, 5: ["a dog runs on"] * 3}
OTHER = {
    7: ["A dog runs.", "a dog", "some cats sleep"],
    3: ["two red buses", "red", "two dogs"],
    5: ["trees stand here", "a cat sleeps", "a cat is here"],
}


@pytest.fixture(scope="module")
def curve():
    return diversity_curve({0.8: OTHER, 0.2: SAME}, REFERENCES, TRAINING)


def test_points_are_in_the_order_of_temperatures(curve):
    assert [point.temperature for point in curve.points] == [0.2, 0.8]
    assert (curve.count, curve.images) == (3, (7, 3, 5))
    assert list(curve.to_json()) == ["n", "points"]


def test_equal_samples_have_no_diversity_and_one_quality(curve):
    point = curve.points[0]
    assert point.corpus_mbleu == pytest.approx(1)
    assert point.values[:, 0] == pytest.approx([0, 0, 0], abs=1e-6)
    known = [REFERENCES[image] for image in (7, 3, 5)]
    single = score_samples(known, [SAME[image][:1] for image in (7, 3, 5)], ["cider"])["CIDEr"]
    assert single[0, 0] > 5  # one of two references is the caption itself
    for column in (1, 2, 3):
        assert point.values[:, column] == pytest.approx(single[:, 0])


def test_measures_are_those_of_evaluate(curve):
    point = curve.points[1]
    known = [REFERENCES[image] for image in (7, 3, 5)]
    drawn = [[text.lower().rstrip(".") for text in OTHER[image]] for image in (7, 3, 5)]
    cider = score_samples(known, drawn, ["cider"])["CIDEr"]
    kernels = diversity.kernels(drawn, known)
    siblings = np.array([diversity.sibling_statistics(texts) for texts in drawn])
    summary, each = diversity.sample_summary(drawn, siblings, kernels, set())
    assert point.values[:, 0] == pytest.approx(each[:, diversity.COLUMNS.index("self-CIDEr")])
    assert point.values[:, 1] == pytest.approx(cider.max(1))
    assert point.values[:, 2] == pytest.approx(cider.mean(1))
    assert point.corpus_mbleu == pytest.approx(summary[diversity.CORPUS_MBLEU])


def test_the_consensus_sees_no_reference(curve):
    # In training "a" is in all captions and counts nothing; all other words count alike. The third
    # sample shares "here" with the first and "cat" with the second, which is the reference.
    column = MEANS.index("consensus CIDEr")
    drawn = OTHER[5]
    cider = TfIdf([*REFERENCES.values()]).cider_d(drawn, REFERENCES[5])
    assert curve.points[1].values[2, column] == pytest.approx(cider[2])
    assert cider[2] < cider[1]
    changed = {**REFERENCES, 5: ["trees stand here"]}
    (point,) = diversity_curve({0.8: OTHER}, changed, TRAINING).points
    cider = TfIdf([*changed.values()]).cider_d(drawn, changed[5])
    assert point.values[2, column] == pytest.approx(cider[2])
    assert cider[2] < cider[0]


def test_a_curve_is_shown_and_kept_by_image():
    values = np.array([[0.25, 3, 1, 2], [0.75, 5, 3, 4]], float)
    curve = DiversityCurve(5, (1, "b"), (CurvePoint(0.5, 0.125, values),))
    (point,) = curve.to_json()["points"]
    assert point == {
        "temperature": 0.5, "mBLEU-4 (corpus)": 0.125, "self-CIDEr": 0.5, "oracle CIDEr": 4,
        "mean CIDEr": 2, "consensus CIDEr": 3,
    }  # fmt: skip
    assert curve.per_image() == [
        {"image_id": 1, "values": [[0.25, 3, 1, 2]]},
        {"image_id": "b", "values": [[0.75, 5, 3, 4]]},
    ]
    head, row = curve.render().splitlines()
    assert head.split("  ")[0] == "curve of 5 samples"
    assert row.split() == ["temperature", "0.5", "0.500", "0.125", "4.000", "2.000", "3.000"]
