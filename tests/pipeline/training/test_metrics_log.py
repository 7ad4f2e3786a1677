import errno
import json
import os
import resource

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multispace.errors import PipelineError
from multispace.pipeline.training.metrics_log import MetricsLog, read_log


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_after_the_checkpoint_are_removed(tmp_path):
    log = MetricsLog(tmp_path, after=0, steps_per_epoch=4)
    for step in (2, 4, 6):
        log.write(step, "train", {"loss": step / 2})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "spl')  # the line in hand when the run was killed
    log = MetricsLog(tmp_path, after=4, steps_per_epoch=4)
    log.write(6, "train", {"loss": 7.0})
    log.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 1), (4, 2), (6, 7)]


def test_lines_have_the_epoch_as_a_decimal_number(tmp_path):
    log = MetricsLog(tmp_path, after=0, steps_per_epoch=3)
    log.write(1, "train", {"loss": 2.0})
    log.write(6, "val", {"loss": 1.0})
    log.close()
    assert lines(tmp_path) == [
        {"step": 1, "epoch": 0.3333, "split": "train", "loss": 2.0},
        {"step": 6, "epoch": 2.0, "split": "val", "loss": 1.0},
    ]
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"epoch" not in events.read_bytes()
    assert read_log(tmp_path / "metrics.jsonl")[0]["epoch"] == 0.3333


def test_lines_of_earlier_versions_have_no_epoch(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 2.0}\n')
    log = MetricsLog(tmp_path, after=1, steps_per_epoch=2)
    log.write(2, "train", {"loss": 1.0})
    log.close()
    assert [line.get("epoch") for line in lines(tmp_path)] == [None, 1.0]


def test_a_new_run_begins_an_empty_log(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    MetricsLog(tmp_path, after=0, steps_per_epoch=4).close()
    assert lines(tmp_path) == []


def test_the_log_goes_on_with_the_lines_that_the_checkpoint_knows(tmp_path):
    log = MetricsLog(tmp_path, after=0, steps_per_epoch=4)
    log.write(4, "train", {"loss": 2.0})
    known = log.lines
    log.write(4, "val", {"loss": 9.0})  # validated, but not yet saved when the run was killed
    log.close()
    log = MetricsLog(tmp_path, after=4, steps_per_epoch=4, lines=known)
    log.write(4, "val", {"loss": 8.0})
    log.close()
    assert [(line["split"], line["loss"]) for line in lines(tmp_path)] == [("train", 2), ("val", 8)]


def test_a_kill_in_a_resume_leaves_the_whole_history(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path, after=0, steps_per_epoch=4)
    for step in range(1, 200):
        log.write(step, "train", {"loss": 1.0})
    log.close()
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(PipelineError, match=r"metrics.jsonl: not written \(No space left"):
            MetricsLog(tmp_path, after=150, steps_per_epoch=4)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def write_much(log: MetricsLog) -> None:
    for step in range(200):
        log.write(step, "train", {"loss": 1.0})
        log.histograms(step, "val", {"z": torch.arange(50)})


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard/events"])
def test_a_file_that_cannot_grow_is_named_in_one_line(tmp_path, name, capfd):
    log = MetricsLog(tmp_path, after=0, steps_per_epoch=4)
    if name == "metrics.jsonl":
        (tmp_path / name).write_bytes(b" " * 8192)  # longer than the limit below
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(PipelineError) as caught:
            write_much(log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    log.close()
    assert str(tmp_path / name) in str(caught.value)
    assert "not written (File too large); the last checkpoint is kept" in str(caught.value)
    assert "--resume" in caught.value.hint
    assert capfd.readouterr().err == ""  # no thread with a traceback


def test_tensorboard_reads_what_was_written(tmp_path):
    log = MetricsLog(tmp_path, after=0, steps_per_epoch=4)
    for step in (2, 4, 6):
        log.write(step, "train", {"loss": step / 2})
    log.histograms(6, "val", {"z": torch.randn(40, 3, generator=torch.Generator().manual_seed(0))})
    log.close()
    log = MetricsLog(tmp_path, after=4, steps_per_epoch=4)
    log.write(6, "train", {"loss": 7.0})
    log.close()
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in read.Scalars("train/loss")] == [(2, 1), (4, 2), (6, 7)]
    assert read.Histograms("val/z") == []  # that of step 6, which is done again
    log = MetricsLog(tmp_path, after=6, steps_per_epoch=4)
    log.histograms(8, "val", {"z": torch.arange(6)})
    log.close()
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (found,) = read.Histograms("val/z")
    assert (found.histogram_value.num, found.histogram_value.sum) == (6, 15)
