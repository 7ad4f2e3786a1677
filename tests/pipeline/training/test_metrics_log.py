import json

import pytest
import torch

from multispace.model.latent.losses import Loss
from multispace.pipeline.training.metrics_log import Log, Meter


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_after_the_checkpoint_are_taken_away(tmp_path):
    log = Log(tmp_path, after=0)
    for step in (2, 4, 6):
        log.write(step, "train", {"loss": step / 2})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "spl')  # the line in hand when the run was killed
    log = Log(tmp_path, after=4)
    log.write(6, "train", {"loss": 7.0})
    log.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 1), (4, 2), (6, 7)]


def test_a_new_run_begins_an_empty_log(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    Log(tmp_path, after=0).close()
    assert lines(tmp_path) == []


def loss(value: float) -> Loss:
    return Loss(*(torch.tensor(value + i) for i in range(4)))


def test_the_meter_means_over_steps_since_the_last_line():
    meter = Meter()
    meter.start()
    meter.count(loss(1.0), torch.tensor(3.0), captions=2, tokens=10)
    meter.count(loss(3.0), torch.tensor(5.0), captions=2, tokens=30)
    numbers = meter.take({"weight_kl": 0.5})
    assert (numbers["loss"], numbers["recon"], numbers["kl_z"], numbers["kl_c"]) == (2, 3, 4, 5)
    assert (numbers["gradient_norm"], numbers["weight_kl"]) == (4, 0.5)
    nats_a_token = 3.0 * 4 / 40
    assert numbers["perplexity"] == pytest.approx(torch.tensor(nats_a_token).exp().item())
    meter.count(loss(9.0), torch.tensor(1.0), captions=1, tokens=5)
    assert meter.take({})["loss"] == 9
