"""Checkpoints whose digests are right and whose content is not: they come from strangers."""

import dataclasses
import json
import os
import shutil

import pytest
import torch

from multispace.errors import CheckpointError, PipelineError
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from multispace.pipeline.runs.run_folder import BEST, LAST, load_run
from multispace.pipeline.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def begun(tiny_cache, tmp_path_factory):
    """Return the options of a run of seven steps, with an average."""
    options = TrainOptions(
        system="multispace", cache=tiny_cache, run=tmp_path_factory.mktemp("begun") / "run",
        steps=7, batch_size=8, embedding=6, hidden=6, z_size=3, categories=(4,), ema=0.5,
        device="cpu", precision="float32",
    )  # fmt: skip
    train(options)
    return options


@pytest.fixture
def options(begun, tmp_path):
    """Return the options of a copy of the run, with three more steps."""
    shutil.copytree(begun.run, tmp_path / "run")
    return dataclasses.replace(begun, run=tmp_path / "run", steps=10)


def tamper(options: TrainOptions, change, place: str = LAST) -> None:
    """Save what ``change`` makes of a checkpoint, with the right digests."""
    folder = options.run / place
    loaded = load_checkpoint(folder)
    changed = change(loaded)
    shutil.rmtree(folder)
    save_checkpoint(folder, changed)
    shutil.rmtree(folder.with_name(f"{folder.name}.previous"), ignore_errors=True)


def replaced(part: str, **tensors: torch.Tensor | None):
    """Return a change of some tensors; None removes one."""

    def change(loaded: Checkpoint) -> Checkpoint:
        held = {**getattr(loaded, part), **tensors}
        return dataclasses.replace(
            loaded, **{part: {name: tensor for name, tensor in held.items() if tensor is not None}}
        )

    return change


def stated(**values: object):
    return lambda loaded: dataclasses.replace(loaded, state={**loaded.state, **values})


NAN, SPECIAL = float("nan"), "decoder.output.bias"


def spoilt(part: str, name: str, value: float):
    """Return a change of one number of a tensor."""

    def change(loaded: Checkpoint) -> Checkpoint:
        tensor = getattr(loaded, part)[name].clone()
        tensor.view(-1)[-1] = value
        return replaced(part, **{name: tensor})(loaded)

    return change


TAMPERED = {
    "moment of a wrong shape": (replaced("optimizer", **{"0.exp_avg": torch.zeros(3)}),
                                          "0.exp_avg is float32 [3], the model has"),
    "moment of a wrong type": (
        lambda c: replaced("optimizer", **{"0.exp_avg": c.optimizer["0.exp_avg"].double()})(c),
        "0.exp_avg is float64"),
    "moment is missing": (replaced("optimizer", **{"0.exp_avg": None}), "lacks the tensor '0.exp"),
    "no moments": (lambda c: dataclasses.replace(c, optimizer={}), "lacks the tensor '0.exp_avg'"),
    "foreign moment": (replaced("optimizer", **{"99.exp_avg": torch.zeros(3)}),
                       "has the unknown tensor '99.exp_avg'"),
    "name that is no number": (replaced("optimizer", **{"x": torch.zeros(3)}), "tensor 'x'"),
    "moment is infinite": (spoilt("optimizer", "0.exp_avg", float("inf")), "not finite"),
    "second moment is negative": (spoilt("optimizer", "0.exp_avg_sq", -1.0), "negative"),
    "step is negative": (spoilt("optimizer", "0.step", -1.0), "0.step holds negative"),
    "no optimizer": (lambda c: dataclasses.replace(c, optimizer=None),
                     "optimiser.safetensors: not found"),
    "weight of a wrong shape": (replaced("weights", **{SPECIAL: torch.zeros(2)}),
                                f"{SPECIAL} is float32 [2], the model has"),
    "weight is missing": (replaced("weights", **{SPECIAL: None}), f"lacks the tensor '{SPECIAL}'"),
    "foreign weight": (replaced("weights", other=torch.zeros(2)), "unknown tensor 'other'"),
    "weight is no number": (spoilt("weights", SPECIAL, NAN), f"{SPECIAL} holds numbers that are"),
    "average is no number": (spoilt("average", SPECIAL, NAN), "average.safetensors: decoder"),
    "no average": (lambda c: dataclasses.replace(c, average=None),
                   "average.safetensors: not found"),
    "batch beyond the epoch": (stated(batch=4), "batch 4 of 3"),
    "best beyond the step": (stated(best_step=8), "no position in the run"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_a_resume_checks_all_of_a_checkpoint_before_it_loads_any(options, name):
    change, message = TAMPERED[name]
    tamper(options, change)
    with pytest.raises(CheckpointError) as caught:
        train(options, resume=True)
    assert message in str(caught.value)
    assert str(options.run / LAST) in str(caught.value.where)


@pytest.mark.parametrize(
    "values",
    [{"step": -3}, {"epoch": -1}, {"batch": -1}, {"step": 1 << 70}, {"best": "x"},
     {"scaler": {"scale": "x"}}, {"meter": {}}],
)  # fmt: skip
def test_a_position_that_cannot_be_is_refused(options, values):
    path = options.run / LAST / "state.json"
    state = json.loads(path.read_text())
    del state["digest"]
    path.write_text(json.dumps({**state, **values}))
    shutil.rmtree(options.run / "checkpoints" / "last.previous", ignore_errors=True)
    with pytest.raises(CheckpointError, match=r"state.json: "):
        train(options, resume=True)


@pytest.mark.parametrize("name", [n for n in TAMPERED if "weight" in n])
@pytest.mark.parametrize("place", [BEST, LAST])
def test_weights_that_are_none_caption_nothing(options, name, place):
    change, message = TAMPERED[name]
    if place == LAST:  # what is used there is the average
        tamper(options, lambda c: dataclasses.replace(c, average=None), place)
    tamper(options, change, place)
    with pytest.raises(CheckpointError) as caught:
        load_run(options.run, CPU, "best" if place == BEST else "last")
    assert message in str(caught.value)


def put(options: TrainOptions, **changes: object) -> None:
    path = options.run / "config.json"
    config = json.loads(path.read_text())
    for name, value in changes.items():
        config["system"][name] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden", 1 << 40), ("layers", 10_000_000), ("z_size", -1), ("hidden", "6"), ("words", 0),
     ("categories", [2] * 5000), ("categories", "4"), ("categories", [1 << 40]), ("dropout", "x"),
     ("system", ["multispace"]), ("system", {}), ("system", "gan"), ("hidden", None), ("cell", 3),
     ("clusters", 1e300), ("other", 1), ("embedding", 1 << 20)],
)  # fmt: skip
def test_a_config_from_anywhere_is_refused_in_one_line(options, name, value):
    put(options, **{name: value})
    with pytest.raises((PipelineError, CheckpointError)) as caught:
        load_run(options.run, CPU)
    assert str(options.run) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "{}", '{"options": 1}', "\x00", "nan"])
def test_a_config_that_is_none_is_refused(options, text):
    (options.run / "config.json").write_text(text)
    for use in (lambda: load_run(options.run, CPU), lambda: train(options, resume=True)):
        with pytest.raises(PipelineError, match=r"config.json: "):
            use()


@pytest.mark.parametrize(
    "name",
    ["vocabulary.json", "config.json", "checkpoints/best/state.json",
     "checkpoints/best/weights.safetensors"],
)  # fmt: skip
def test_a_pipe_in_a_run_is_refused_and_not_waited_for(options, name):
    (options.run / name).unlink()
    os.mkfifo(options.run / name)
    with pytest.raises((PipelineError, CheckpointError), match=f"{name}: not a plain file"):
        load_run(options.run, CPU)
