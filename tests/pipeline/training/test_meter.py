import json
import math

import pytest
import torch

from multispace.pipeline.training.meter import Meter


def loss(value: float) -> list[float]:
    return [value + i for i in range(4)]


def test_the_meter_means_over_steps_since_the_last_line():
    meter = Meter()
    meter.start()
    meter.count(loss(1.0), 3.0, captions=2, tokens=10)
    meter.count(loss(3.0), 5.0, captions=2, tokens=30)
    numbers = meter.take({"weight_kl": 0.5})
    assert (numbers["loss"], numbers["recon"], numbers["kl_z"], numbers["kl_c"]) == (2, 3, 4, 5)
    assert (numbers["gradient_norm"], numbers["weight_kl"]) == (4, 0.5)
    nats_a_token = 3.0 * 4 / 40
    assert numbers["perplexity"] == pytest.approx(torch.tensor(nats_a_token).exp().item())
    meter.count(loss(9.0), 1.0, captions=1, tokens=5)
    assert meter.take({})["loss"] == 9


def test_the_sums_survive_a_checkpoint():
    whole, parts = Meter(), Meter()
    for meter in (whole, parts):
        meter.start()
        for value, norm in ((0.1, 0.7), (0.2, math.inf), (1 / 3, 0.1)):
            meter.count(loss(value), norm, captions=2, tokens=7)
    resumed = Meter()
    resumed.load(json.loads(json.dumps(parts.to_json())))
    resumed.start()
    for meter in (whole, resumed):
        meter.count(loss(0.7), 0.3, captions=1, tokens=3)
    numbers, others = whole.take({}), resumed.take({})
    assert numbers.pop("tokens_per_second") > 0 < others.pop("tokens_per_second")
    assert others == numbers
