import dataclasses
import subprocess
import sys

import pytest
from support.paths import ROOT

from multispace.errors import OptionError, PipelineError
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.runs.run_lock import RunLock
from multispace.pipeline.train import train
from multispace.pipeline.training import loop

HOLD = """
import sys
sys.path[:0] = [{root!r}]
from pathlib import Path
from multispace.pipeline.runs.run_lock import RunLock
with RunLock(Path({run!r})):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def options(tiny_cache, tmp_path):
    return TrainOptions(
        system="base", cache=tiny_cache, run=tmp_path / "run", steps=2, batch_size=8,
        embedding=4, hidden=4, device="cpu", precision="float32",
    )  # fmt: skip


def test_the_kernel_frees_the_lock_of_a_killed_process(tmp_path):
    script = HOLD.format(root=str(ROOT), run=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:  # fmt: skip
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(PipelineError, match="another process is writing to this run; wait"):
            RunLock(tmp_path).acquire()
        holder.kill()
        holder.wait()
        with RunLock(tmp_path) as lock:
            assert lock.is_held
            lock.acquire()  # not a second time
        assert not lock.is_held


def test_a_run_in_training_is_not_resumed(options):
    train(options)
    before = (options.run / "metrics.jsonl").read_bytes()
    longer = dataclasses.replace(options, steps=4)
    with RunLock(options.run), pytest.raises(PipelineError, match=r"run: another process is wri"):
        train(longer, resume=True)
    assert (options.run / "metrics.jsonl").read_bytes() == before
    assert train(longer, resume=True).steps == 4


@pytest.mark.parametrize("ended", [False, True])
def test_of_two_trainings_that_begin_at_once_one_is_refused(options, monkeypatch, ended):
    """The other one begins after this one has seen that there is no run yet."""
    other = RunLock(options.run)
    real = loop.initial_state

    def initial_state(*given):
        options.run.mkdir()
        if ended:
            with monkeypatch.context() as patch:
                patch.setattr(loop, "initial_state", real)
                train(dataclasses.replace(options, seed=2))
        else:
            other.acquire()
        return real(*given)

    monkeypatch.setattr(loop, "initial_state", initial_state)
    if ended:
        with pytest.raises(OptionError, match="holds a run"):
            train(options)
    else:
        with pytest.raises(PipelineError, match="another process is writing"):
            train(options)
        assert not (options.run / "config.json").exists()
    other.release()


def test_a_run_is_resumed_while_an_evaluation_of_it_is_written(options):
    train(options)
    (options.run / "evaluation").mkdir()
    with RunLock(options.run / "evaluation", wait=True):
        assert train(dataclasses.replace(options, steps=4), resume=True).steps == 4


def test_everyone_who_may_write_to_the_folder_may_take_the_lock(tmp_path):
    with RunLock(tmp_path):
        assert (tmp_path / ".lock").stat().st_mode & 0o666 == 0o666


@pytest.mark.parametrize("wait", [False, True])
def test_nothing_is_locked_through_a_link(tmp_path, wait):
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").symlink_to(theirs)
    with pytest.raises(PipelineError, match=r"\.lock: is a symbolic link; nothing is written"):
        RunLock(run, wait=wait).acquire()
    assert theirs.read_text() == "theirs"
