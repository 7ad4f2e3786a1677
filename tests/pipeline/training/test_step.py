"""The losses of steps that a GPU has not finished; here the device is a CPU that pretends."""

from collections import deque
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from support.tiny import train_tiny

from multispace.errors import PipelineError
from multispace.model.systems.base import Base
from multispace.pipeline.training import step as module
from multispace.pipeline.training.context import StepNumbers
from multispace.pipeline.training.meter import Meter


@pytest.fixture
def behind(monkeypatch):
    """Check the loss of each step after the next one has been started, as on a GPU."""
    monkeypatch.setattr(module, "steps_ahead", lambda device: 1)


def training(*totals: float, run) -> SimpleNamespace:
    """Return a training with unchecked steps, whose total losses are given."""
    meter = Meter()
    meter.start()
    steps = deque(
        StepNumbers(number, torch.tensor([total, 1.0, 0.0, 0.0, 2.0]), None, 3, 30)
        for number, total in enumerate(totals)
    )
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return SimpleNamespace(
        unread=steps,
        state=SimpleNamespace(meter=meter, scaler=scaler),
        options=SimpleNamespace(run=run),
    )


def test_all_steps_but_the_last_are_checked_and_counted(tmp_path):
    three = training(1.0, 2.0, 3.0, run=tmp_path)
    module.finish_steps(three, ahead=1)
    assert (three.state.meter.sums.steps, three.state.meter.sums.terms[0]) == (2, 3.0)
    module.finish_steps(three)
    assert (three.state.meter.sums.steps, len(three.unread)) == (3, 0)


def test_the_error_names_the_step_of_the_loss(tmp_path):
    three = training(1.0, float("inf"), 3.0, run=tmp_path)
    with pytest.raises(PipelineError, match="total is inf at step 1"):
        module.finish_steps(three)
    assert three.state.meter.sums.steps == 1


def test_a_gpu_may_be_ahead_and_a_cpu_not():
    assert module.steps_ahead(torch.device("cuda")) == 1
    assert module.steps_ahead(torch.device("cpu")) == 0


def test_steps_ahead_change_no_number(tiny_cache, tmp_path, monkeypatch):
    options = dict(epochs=None, steps=9, log_every=2, save_every=4)
    at_once = train_tiny("multispace", tiny_cache, tmp_path / "at-once", **options)
    monkeypatch.setattr(module, "steps_ahead", lambda device: 1)
    behind = train_tiny("multispace", tiny_cache, tmp_path / "behind", **options)
    ours, theirs = (
        load_file(run / "checkpoints/last/weights.safetensors") for run in (behind, at_once)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lines = [
        [line.partition('"tokens_per_second"')[0] for line in text.splitlines()]
        for text in ((run / "metrics.jsonl").read_text() for run in (behind, at_once))
    ]
    assert lines[0] == lines[1]


def test_no_step_whose_loss_is_not_finite_is_saved(tiny_cache, tmp_path, monkeypatch, behind):
    real, calls = Base.condition, []

    def condition(self, features):
        calls.append(1)
        return real(self, features) * (torch.nan if len(calls) == 6 else 1)

    monkeypatch.setattr(Base, "condition", condition)
    run = tmp_path / "run"
    with pytest.raises(PipelineError, match="reconstruction is nan at step 5"):
        train_tiny("base", tiny_cache, run, epochs=None, steps=20, save_every=1, val_split="none")
    weights = load_file(run / "checkpoints/last/weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
