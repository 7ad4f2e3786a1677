import numpy as np
import pytest

from multispace.errors import OptionError
from multispace.pipeline.metrics.captions.coco_metrics import score_captions
from multispace.pipeline.metrics.captions.image_scores import ImageScores
from multispace.pipeline.metrics.captions.metric import Metric, MetricScores
from multispace.pipeline.metrics.captions.registry import METRICS, NAMES, REGISTRY, check_metrics
from multispace.pipeline.metrics.samples.oracle import score_samples


class Brevity(Metric):
    """The smallest metric: 1 over the number of words."""

    option = "brevity"
    names = ("Brevity",)

    def score(self, references, captions):
        scores = [1 / len(caption.split()) for (caption,) in captions.values()]
        return MetricScores({"Brevity": sum(scores) / len(scores)}, {"Brevity": scores})


def test_names_and_options():
    assert METRICS == ("bleu", "meteor", "rouge", "cider")
    assert NAMES == ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr")
    with pytest.raises(OptionError, match="--metrics: unknown metric 'spice'; the metrics are"):
        check_metrics(["bleu", "spice"])


def test_a_metric_takes_one_line_of_the_registry(monkeypatch):
    monkeypatch.setitem(REGISTRY, "brevity", Brevity())
    monkeypatch.setattr("multispace.pipeline.metrics.captions.registry.METRICS", tuple(REGISTRY))
    found = score_captions({1: ["a dog"], 2: ["a cat"]}, {1: "a dog", 2: "cat"}, ["brevity"])
    assert found.corpus == {"Brevity": 0.75}
    assert found.per_image == {1: {"Brevity": 0.5}, 2: {"Brevity": 1.0}}
    samples = score_samples([["a dog"]], [["a dog", "dog", "a b c d"]], ["brevity"])
    assert samples["Brevity"].tolist() == [[0.5, 1.0, 0.25]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_of_images_are_finite_numbers(value):
    for entry in ({"CIDEr": value}, {"statistics": {"bleu": [value, 1, 1, 1, 1, 1]}}):
        with pytest.raises(ValueError, match="finite"):
            ImageScores.from_entries([entry])
    assert np.isfinite(ImageScores.from_entries([{"CIDEr": 0.5}]).means).all()
