"""Lack of memory or disk space: one line that names the file, what is kept, and a hint."""

import dataclasses
import errno
import json
import os
import resource
from contextlib import contextmanager

import pytest
import torch

from multispace.errors import CheckpointError, PipelineError
from multispace.exhaustion import is_out_of_memory
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.runs.run_folder import LAST
from multispace.pipeline.train import train
from multispace.pipeline.training import loop
from multispace.pipeline.training import step as step_module


@pytest.fixture
def options(tiny_cache, tmp_path):
    return TrainOptions(
        system="multispace", cache=tiny_cache, run=tmp_path / "run", steps=9, batch_size=8,
        embedding=32, hidden=32, z_size=4, categories=(6,), log_every=2, save_every=2,
        device="cpu", precision="float32",
    )  # fmt: skip


def lines(run) -> list[dict]:
    found = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in found]


def at_step(monkeypatch, number: int, act):
    """Call ``act`` before step ``number``."""
    real = step_module.seed_step

    def seed_step(seed: int, step: int) -> None:
        if step == number:
            act()
        real(seed, step)

    monkeypatch.setattr(step_module, "seed_step", seed_step)


@contextmanager
def file_size_limit(number: int):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def too_large() -> None:
    torch.empty(1 << 46, dtype=torch.float64)  # beyond any address space


def no_memory() -> None:
    raise MemoryError


def no_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore lines")


def assert_goes_on(options: TrainOptions) -> None:
    """Check that the run, resumed, is the uninterrupted one."""
    whole = dataclasses.replace(options, run=options.run.with_name("whole"))
    train(whole)
    train(options, resume=True)
    assert lines(options.run) == lines(whole.run)


@pytest.mark.parametrize("act", [too_large, no_memory, no_gpu_memory])
def test_lack_of_memory_is_one_line_and_the_run_can_be_resumed(options, monkeypatch, act):
    with monkeypatch.context() as patch:
        at_step(patch, 5, act)
        with pytest.raises(PipelineError) as caught:
            train(options)
    last = options.run / LAST
    assert f"{options.run}: out of memory in step 5; {last} is kept" in str(caught.value)
    assert "--batch-size" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert_goes_on(options)


def test_lack_of_memory_before_the_first_step_is_one_line(options, monkeypatch):
    monkeypatch.setattr(loop, "initial_state", lambda *_: no_memory())
    with pytest.raises(PipelineError, match="out of memory before the first step; there is no che"):
        train(options)


@pytest.mark.parametrize("error", [RuntimeError("shape '[2]' is invalid"), ValueError("memory")])
def test_other_errors_are_not_lack_of_memory(options, monkeypatch, error):
    assert not is_out_of_memory(error)

    def act() -> None:
        raise error

    at_step(monkeypatch, 5, act)
    with pytest.raises(type(error)) as caught:
        train(options)
    assert caught.value is error


def test_a_file_size_limit_names_the_file_and_keeps_the_last_checkpoint(
    options, monkeypatch, capfd
):
    with file_size_limit(1 << 30), monkeypatch.context() as patch:
        limit = (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        at_step(patch, 5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
        with pytest.raises(CheckpointError) as caught:
            train(options)
    assert "weights.safetensors: not written" in str(caught.value)
    assert "the checkpoint before it is kept" in str(caught.value)
    assert "--resume" in caught.value.hint
    assert "Traceback" not in capfd.readouterr().err
    kept = sorted(path.name for path in (options.run / "checkpoints").iterdir())
    assert kept == ["best", "last", "last.previous"]
    assert_goes_on(options)


@pytest.mark.parametrize("name", ["vocabulary.json", "config.json"])
def test_a_full_disk_at_the_beginning_names_the_file(options, monkeypatch, name):
    real = os.replace

    def replace(source, target) -> None:
        if os.path.basename(target) == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(PipelineError) as caught:
            train(options)
    assert f"{options.run / name}: not written (No space left on device)" in str(caught.value)
    assert train(options).steps == 9  # nothing is in the way


def test_a_validation_that_is_not_a_number_stops_the_run(options, monkeypatch):
    real = loop.validation_metrics
    monkeypatch.setattr(
        loop, "validation_metrics", lambda *given: {**real(*given), "cider": float("nan")}
    )
    with pytest.raises(PipelineError, match=r"run: validation cider is nan at step 3; .*last"):
        train(options)
