"""A training that Weights & Biases follows: with a stand-in, and with the package offline."""

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from support.tiny import train_tiny

import multispace as ms
from multispace.cli import main
from multispace.errors import OptionError, PipelineError
from multispace.pipeline.command_options.train_options import TrainOptions, TrainRequest
from multispace.pipeline.train import train
from multispace.pipeline.training.metrics_log import read_log
from multispace.pipeline.training.wandb_run import Tracking

SMALL: dict[str, Any] = {
    "batch_size": 8, "embedding": 16, "hidden": 16, "z_size": 4, "categories": (3,),
    "device": "cpu", "precision": "float32", "log_every": 2,
}  # fmt: skip


@dataclass
class StandIn:
    """What a training does with the module ``wandb``."""

    begun: list[dict] = field(default_factory=list)
    logged: list[dict] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    fault: Exception | None = None

    Error: ClassVar = ValueError
    Settings: ClassVar = SimpleNamespace
    offline: ClassVar = False
    url: ClassVar = "https://wandb.example/run"

    def Histogram(self, values) -> tuple:  # noqa: N802
        return "histogram", values.shape

    def Image(self, image, caption: str) -> tuple:  # noqa: N802
        return image.size, caption

    def Table(self, columns, data) -> list[dict]:  # noqa: N802
        return [dict(zip(columns, row, strict=True)) for row in data]

    def init(self, **options: Any) -> "StandIn":
        if isinstance(self.fault, PermissionError):
            raise self.fault
        self.begun.append(options)
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        assert name in ("*", "optimizer_step")

    def log(self, values: dict) -> None:
        if self.fault is not None:
            raise self.fault
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.finished.append(exit_code)


@pytest.fixture
def wandb(monkeypatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return stand_in


def begin(cache: Path, run: Path, images: Path | None = None, resume: bool = False, **other):
    values = {**SMALL, "epochs": 2, **other}
    options = TrainOptions(system="multispace", cache=cache, run=run, **values)
    return train(options, resume, tracking=Tracking("mine", images))


def test_what_is_logged(wandb, tiny_cache, tiny_collection, tmp_path, capfd):
    begin(tiny_cache, tmp_path / "run", tiny_collection / "images")
    (begun,) = wandb.begun
    assert (begun["project"], begun["name"], begun["resume"]) == ("mine", "run", "allow")
    assert begun["config"]["z_size"] == 4
    assert begun["config"]["parameters"] > 0
    assert not {"cache", "run"} & begun["config"].keys()  # places of this machine
    assert begun["settings"].disable_code
    lines = read_log(tmp_path / "run" / "metrics.jsonl")
    numbers = [values for values in wandb.logged if not any("z_mean" in name for name in values)]
    assert len(numbers) == len(lines)
    for line, values in zip(lines, numbers, strict=True):
        assert values["optimizer_step"] == line["step"]
        loss = f"{line['split']}/loss"
        assert values[loss] == line["loss"]
    assert {"val/z_mean", "val/c_kl"} <= wandb.logged[-1].keys()
    validation = next(values for values in wandb.logged if "val/captions" in values)
    rows = validation["val/captions"]
    assert [row["key"] for row in rows] == [f"val-{n:03d}.png" for n in (13, 14, 15, 16)]
    entries = json.loads((tiny_collection / "val.json").read_text())["annotations"]
    assert rows[0]["references"].split("\n") == [entry["caption"] for entry in entries[:2]]
    assert all(isinstance(row["caption"], str) for row in rows)
    assert validation["val/images"] == [((48, 40), row["caption"]) for row in rows]
    assert wandb.finished == [0]
    assert capfd.readouterr().err.count("wandb: https://wandb.example/run") == 1


def test_images_that_are_not_known_are_left_out(wandb, tiny_cache, tiny_collection, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(tiny_collection / "images" / "val-014.png", images)
    (images / "val-015.png").write_text("no image")
    begin(tiny_cache, tmp_path / "run", images, epochs=1)
    begin(tiny_cache, tmp_path / "none", None, epochs=1)
    one, none = (values for values in wandb.logged if "val/captions" in values)
    assert one["val/images"] == [((48, 40), one["val/captions"][1]["caption"])]
    assert "val/images" not in none
    assert len(none["val/captions"]) == 4


def test_a_training_is_the_same_with_and_without(wandb, tiny_cache, tmp_path):
    begin(tiny_cache, tmp_path / "with")
    train_tiny("multispace", tiny_cache, tmp_path / "without", **{**SMALL, "epochs": 2},
               learning_rate=1e-3)  # fmt: skip
    name = "checkpoints/last/weights.safetensors"
    with_, without = ((tmp_path / run / name).read_bytes() for run in ("with", "without"))
    assert with_ == without
    assert wandb.logged


def test_a_resume_continues_the_same_run(wandb, tiny_cache, tmp_path):
    begin(tiny_cache, tmp_path / "run", epochs=1)
    begin(tiny_cache, tmp_path / "run", epochs=2, resume=True)
    begin(tiny_cache, tmp_path / "other", epochs=1)
    first, second, other = (begun["id"] for begun in wandb.begun)
    assert first == second != other


def test_a_training_without_validation_is_logged(wandb, tiny_cache, tmp_path):
    begin(tiny_cache, tmp_path / "run", epochs=1, val_split="none")
    assert wandb.logged
    assert not any("val/captions" in values for values in wandb.logged)


def test_a_failure_ends_the_log_and_not_the_training(wandb, tiny_cache, tmp_path, capfd):
    wandb.fault = ValueError("the service\nis gone")
    assert begin(tiny_cache, tmp_path / "run").steps == 6
    assert wandb.logged == []
    err = capfd.readouterr().err
    assert err.count("wandb: nothing more is logged (the service is gone)") == 1
    assert len(read_log(tmp_path / "run" / "metrics.jsonl")) == 5


def test_a_failure_to_begin_is_one_line(wandb, tiny_cache, tmp_path):
    wandb.fault = PermissionError("api_key not configured")
    with pytest.raises(PipelineError, match="--wandb mine: api_key not .*; run `wandb login`, or"):
        begin(tiny_cache, tmp_path / "run")


def test_a_training_that_fails_is_marked_as_failed(wandb, tiny_cache, tmp_path):
    with pytest.raises(PipelineError):
        begin(tiny_cache, tmp_path / "run", learning_rate=1e30, epochs=20)
    assert wandb.finished == [1]


def test_a_record_of_another_content_is_refused(wandb, tiny_cache, tmp_path):
    begin(tiny_cache, tmp_path / "run", epochs=1)
    (tmp_path / "run" / "wandb.json").write_text('{"id": "../../x"}')
    with pytest.raises(PipelineError, match="wandb.json: id is '../../x'"):
        begin(tiny_cache, tmp_path / "run", epochs=2, resume=True)


def test_without_the_package_nothing_is_written(monkeypatch, tiny_cache, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(OptionError, match=r"--wandb: needs the package wandb; run `pip install"):
        begin(tiny_cache, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_need_a_project(tmp_path):
    with pytest.raises(OptionError, match="--wandb-images .*: it needs --wandb"):
        TrainRequest(wandb_images=tmp_path)
    with pytest.raises(OptionError, match="it needs wandb"):
        ms.train("base", cache="c", run="r", wandb_images=tmp_path)


def test_the_command_and_the_api(wandb, tiny_cache, tmp_path):
    words = ["train", "base", "--cache", str(tiny_cache), "--run", str(tmp_path / "a"), "--steps",
             "1", "--hidden", "8", "--embedding", "8", "--wandb", "p"]  # fmt: skip
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    ms.train("base", cache=tiny_cache, run=tmp_path / "b", steps=1, hidden=8, embedding=8,
             wandb="q")  # fmt: skip
    assert [begun["project"] for begun in wandb.begun] == ["p", "q"]
    assert "wandb" not in json.loads((tmp_path / "a" / "config.json").read_text())["options"]


def test_the_package_offline(monkeypatch, tiny_cache, tiny_collection, tmp_path, capfd):
    pytest.importorskip("wandb", reason="needs wandb: pip install '.[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    begin(tiny_cache, tmp_path / "run", tiny_collection / "images")
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (log,) = folder.glob("*.wandb")
    content = log.read_bytes()
    for name in (b"train/loss", b"val/cider", b"val/captions", b"optimizer_step", b"z_size"):
        assert name in content
    assert len(list((folder / "files" / "media").rglob("*.table.json"))) == 2
    assert list((folder / "files" / "media").rglob("*.png"))
    assert f"wandb: {folder}; upload it with `wandb sync " in capfd.readouterr().err
