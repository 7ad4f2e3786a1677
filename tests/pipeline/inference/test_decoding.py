import pytest
import torch

from multispace.errors import PipelineError
from multispace.pipeline.inference.decoding import caption_features, hypotheses
from multispace.pipeline.runs.run_folder import load_run


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_is_decoded_from_numbers_that_are_not_finite(tiny_run, value):
    run = load_run(tiny_run, torch.device("cpu"))
    features = torch.zeros(2, run.system.feature_mean.shape[-1])
    assert len(caption_features(run.system, features, run.vocabulary)) == 2
    features[1, 0] = value
    for decode in (caption_features, hypotheses):
        with pytest.raises(PipelineError, match="not a finite number; the weights are damaged"):
            decode(run.system, features, run.vocabulary, width=2)
