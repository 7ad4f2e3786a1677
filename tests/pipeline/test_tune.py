"""The search for options: its trials, its result, and what it leaves on disk."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

pytest.importorskip("optuna", reason="needs Optuna: pip install '.[tune]'")

import multispace as ms
from multispace.cli import main
from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.errors import CacheError, NotFiniteError, OptionError, PipelineError
from multispace.pipeline.command_options.train_options import resolve
from multispace.pipeline.command_options.tune_options import TuneRequest
from multispace.pipeline.runs.run_lock import RunLock
from multispace.pipeline.train import train
from multispace.pipeline.training import loop
from multispace.pipeline.training import step as step_module
from multispace.pipeline.tune import Tuned, tune
from multispace.pipeline.tuning import trial as trial_module
from multispace.pipeline.tuning.resolution import resolve_search
from multispace.pipeline.tuning.study import Study

SMALL = dict(batch_size=8, embedding=8, hidden=8, device="cpu", precision="float32")


class Killed(BaseException):
    """In place of a signal that ends the process."""


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "tune"


def search(cache: Path, folder: Path, resume: bool = False, **request) -> Tuned:
    """Run a search for options of `base` with trials of four steps."""
    given = {"system": "base", "cache": str(cache), "run": str(folder), **SMALL}
    asked = TuneRequest(resume=resume, **{"trials": 2, "budget": 4, "validations": 2, **request})
    return tune(resolve_search(given, asked), resume)


def scripted(monkeypatch, scores, at_end=lambda number: None):
    """Let trials have the scores ``scores(number, step)``, without training."""

    def fake(options, resume, observe):
        number = int(options.run.name)
        for kind in ("best", "last"):
            place = options.run / "checkpoints" / kind
            place.mkdir(parents=True, exist_ok=True)
            (place / "weights.safetensors").write_bytes(b"weights")
        for step in range(options.validate_every, options.steps + 1, options.validate_every):
            numbers = {"cider": scores(number, step)}
            with (options.run / "metrics.jsonl").open("a") as log:
                log.write(json.dumps({"step": step, "split": "val", **numbers}) + "\n")
            if not observe(step, numbers):
                break
        at_end(number)
        return SimpleNamespace(steps=step, stopped=None)

    monkeypatch.setattr(trial_module, "train", fake)


def kept(folder: Path) -> list[int]:
    """Return the trials that have checkpoints."""
    return sorted({int(p.parents[2].name) for p in folder.glob("trials/*/checkpoints/best/*")})


def trials_of(found: Tuned) -> list[dict]:
    return [vars(trial) for trial in found.trials]


@contextmanager
def at_step(monkeypatch, trial_steps: int, act) -> Iterator[None]:
    """Call ``act`` before the training step of that number, counted over all trials."""
    real, count = step_module.seed_step, 0

    def seed_step(seed: int, step: int) -> None:
        nonlocal count
        if count == trial_steps:
            act()
        count += 1
        real(seed, step)

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "seed_step", seed_step)
        yield


@pytest.fixture(scope="module")
def whole(tiny_cache, tmp_path_factory) -> Tuned:
    """The search that the interrupted ones must equal."""
    return search(tiny_cache, tmp_path_factory.mktemp("whole") / "tune")


def test_trials_are_runs_and_train_takes_the_best_options(whole, tmp_path):
    folder = Path(whole.run)
    first, second = whole.trials
    assert [t.number for t in whole.trials] == [0, 1]
    assert (first.changed, bool(second.changed)) == ({}, True)
    assert {(t.state, t.steps) for t in whole.trials} == {("complete", 4)}
    best = max(whole.trials, key=lambda t: t.value)
    assert whole.best == best.number
    assert best.value >= first.value
    assert kept(folder) == [best.number]
    for trial in whole.trials:
        run = folder / "trials" / f"{trial.number:04d}"
        config = json.loads((run / "config.json").read_text())["options"]
        assert {name: config[name] for name in trial.changed} == trial.changed
        lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        scores = {line["step"]: line["cider"] for line in lines if line["split"] == "val"}
        assert list(scores) == [2, 4]
        assert max(scores.values()) == trial.value
    options = resolve({"system": "base", "run": str(tmp_path / "run")}, Path(whole.config))
    assert train(options).best == best.value
    again, trained = (
        load_file(place / "checkpoints" / "best" / "weights.safetensors")
        for place in (tmp_path / "run", folder / "trials" / f"{best.number:04d}")
    )
    assert all(again[name].equal(trained[name]) for name in trained)
    longer = resolve(
        {"system": "base", "run": str(tmp_path / "other"), "epochs": 2}, Path(whole.config)
    )
    assert (longer.steps, longer.epochs) == (None, 2)


def test_the_result_is_a_table_and_json(whole):
    head, *rows = whole.render().splitlines()
    assert head.split() == ["trial", "state", "cider", "steps", "changed", "options"]
    assert rows[0].split() == ["0", "complete", f"{whole.trials[0].value:.3f}", "4"]
    changed = whole.trials[1].changed
    assert f"--learning-rate {changed['learning_rate']}" in rows[1]
    assert f"best: trial {whole.best}; its options are in {whole.config}" in rows[2]
    assert json.loads(json.dumps(whole.to_json()))["trials"][1]["changed"] == changed
    assert (whole.exit_status, whole.messages()) == (0, [])


@pytest.mark.parametrize("step", [3, 4])  # before a validation, and before a trial
def test_a_killed_search_goes_on_as_if_nothing_had_been(
    tiny_cache, folder, whole, monkeypatch, step
):
    def kill() -> None:
        raise Killed

    with at_step(monkeypatch, step, kill), pytest.raises(Killed):
        search(tiny_cache, folder)
    assert trials_of(search(tiny_cache, folder, resume=True)) == trials_of(whole)


def test_a_stopped_search_says_how_to_go_on(tiny_cache, folder, whole, monkeypatch):
    with at_step(monkeypatch, 5, lambda: os.kill(os.getpid(), signal.SIGINT)):
        stopped = search(tiny_cache, folder)
    assert (stopped.stopped, stopped.exit_status) == ("SIGINT", 130)
    assert [t.number for t in stopped.trials] == [0]
    assert stopped.messages() == [
        "stopped by SIGINT; finished trials: 1; continue with: multispace tune base --run "
        f"{folder} --resume"
    ]
    assert (folder / "trials" / "0001" / "checkpoints" / "last").exists()
    assert yaml.safe_load((folder / "best.yaml").read_text())["dropout"] == 0.0
    with pytest.raises(OptionError, match="holds a search; add --resume"):
        search(tiny_cache, folder)
    longer = search(tiny_cache, folder, resume=True, trials=3)
    assert trials_of(longer)[:2] == trials_of(whole)
    assert len(longer.trials) == 3


@pytest.mark.parametrize("number", [1, 6])  # one that is complete, and one that is pruned
def test_a_search_that_is_killed_between_training_and_record_goes_on(
    tiny_cache, tmp_path, monkeypatch, number
):
    def scores(number: int, step: int) -> float:
        return -number - 1 / step

    scripted(monkeypatch, scores)
    whole = search(tiny_cache, tmp_path / "whole", trials=8)
    assert [t.state for t in whole.trials] == ["complete"] * 5 + ["pruned"] * 3
    assert [t.steps for t in whole.trials] == [4] * 5 + [2] * 3
    real = Study.add

    def add(study, trial) -> None:
        if trial.number == number:
            raise Killed
        real(study, trial)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "add", add)
        with pytest.raises(Killed):
            search(tiny_cache, tmp_path / "parts", trials=8)
    parts = search(tiny_cache, tmp_path / "parts", resume=True, trials=8)
    assert trials_of(parts) == trials_of(whole)


def test_the_test_split_is_not_read(tiny_cache, folder, whole, tmp_path):
    cache = Path(shutil.copytree(tiny_cache, tmp_path / "cache"))
    manifest = json.loads((cache / "cache.json").read_text())
    (shard,) = [s for s in manifest["shards"]
                if "test-" in (cache / s["keys"]["file"]).read_text()]  # fmt: skip
    for file in (manifest["captions"]["test"]["file"], shard["file"]):
        (cache / file).write_bytes(b"x" * (cache / file).stat().st_size)
    opened = Cache.open(cache)
    with pytest.raises(CacheError):
        load_pairs(opened, "test")
    with pytest.raises(CacheError):
        opened.features(["test-017.png"])
    assert trials_of(search(cache, folder)) == trials_of(whole)


def test_a_cache_without_the_validation_split_is_refused(tiny_cache, folder):
    given = {"system": "base", "cache": str(tiny_cache), "run": str(folder), "val_split": "dev"}
    asked = resolve_search(given, TuneRequest(budget=8))
    with pytest.raises(PipelineError, match="has no split 'dev', on which trials are compared"):
        tune(asked)
    assert not folder.exists()


def test_a_search_is_not_continued_on_another_cache(tiny_cache, folder):
    search(tiny_cache, folder, trials=1)
    file = folder / "trials" / "0000" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "fingerprint": "0" * 64}))
    with pytest.raises(PipelineError, match="0000: was begun with fingerprint"):
        search(tiny_cache, folder, resume=True)


def test_a_loss_that_is_not_finite_is_a_failed_trial(tiny_cache, folder, monkeypatch):
    def fail(number: int) -> None:
        if number == 1:
            raise NotFiniteError("total is nan at step 8", where="run")

    scripted(monkeypatch, lambda number, step: number, fail)
    found = search(tiny_cache, folder, trials=3)
    assert [t.state for t in found.trials] == ["complete", "failed", "complete"]
    assert (found.trials[1].value, found.best, found.exit_status) == (None, 2, 0)
    assert found.messages() == ["trial 1 failed: total is nan at step 8"]
    assert kept(folder) == [2]


def test_a_real_loss_that_is_not_finite_fails_a_trial(tiny_cache, folder, monkeypatch):
    real = loop.validation_metrics
    monkeypatch.setattr(
        loop, "validation_metrics", lambda *given: {**real(*given), "cider": float("nan")}
    )
    found = search(tiny_cache, folder, trials=1)
    assert (found.best, found.config, found.exit_status) == (None, None, 1)
    assert "validation cider is nan at step 2" in found.messages()[0]
    assert found.messages()[1] == "no trial is complete; see the reasons above"
    assert found.render().splitlines()[1].split() == ["0", "failed", "-", "0"]
    assert not (folder / "best.yaml").exists()
    assert kept(folder) == []


def test_other_failures_end_the_search(tiny_cache, folder, monkeypatch):
    def fail(number: int) -> None:
        raise PipelineError("out of memory")

    scripted(monkeypatch, lambda number, step: number, fail)
    with pytest.raises(PipelineError, match="out of memory"):
        search(tiny_cache, folder)


def test_checkpoints_of_the_best_or_of_all_are_kept(tiny_cache, tmp_path, monkeypatch):
    scripted(monkeypatch, lambda number, step: (1, 3, 2)[number])
    search(tiny_cache, tmp_path / "best", trials=3)
    assert kept(tmp_path / "best") == [1]
    search(tiny_cache, tmp_path / "all", keep="all", trials=2)
    search(tiny_cache, tmp_path / "all", resume=True, trials=3)  # it stays so
    assert kept(tmp_path / "all") == [0, 1, 2]
    search(tiny_cache, tmp_path / "all", resume=True, trials=3, keep="best")
    assert kept(tmp_path / "all") == [1]


def test_only_its_own_files_are_removed(tiny_cache, folder, tmp_path, monkeypatch):
    scripted(monkeypatch, lambda number, step: -number)
    search(tiny_cache, folder, keep="all", trials=3)
    runs = [folder / "trials" / f"{number:04d}" / "checkpoints" for number in (1, 2)]
    (runs[0] / "best" / "notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    runs[1].rename(elsewhere)
    runs[1].symlink_to(elsewhere)
    search(tiny_cache, folder, resume=True, trials=3, keep="best")
    assert [p.name for p in runs[0].rglob("*")] == ["best", "notes.txt"]
    assert (elsewhere / "best" / "weights.safetensors").exists()


def test_a_trial_folder_of_someone_else_is_not_touched(tiny_cache, folder, monkeypatch):
    scripted(monkeypatch, lambda number, step: -number)
    search(tiny_cache, folder, trials=1)
    theirs = folder / "trials" / "0001"
    (theirs / "checkpoints" / "best").mkdir(parents=True)
    (theirs / "checkpoints" / "best" / "weights.safetensors").write_bytes(b"theirs")
    with pytest.raises(PipelineError, match="0001: was not made by this search; move it away"):
        search(tiny_cache, folder, resume=True)
    assert [p.name for p in theirs.rglob("*")] == ["checkpoints", "best", "weights.safetensors"]
    shutil.rmtree(theirs)
    theirs.symlink_to(folder.parent)
    with pytest.raises(PipelineError, match="0001: is a symbolic link"):
        search(tiny_cache, folder, resume=True)


@pytest.mark.parametrize("name", ["config.json", "tune.db", "trials", "best.yaml"])
def test_a_folder_that_holds_something_else_is_refused(tiny_cache, folder, name):
    folder.mkdir()
    (folder / name).write_text("mine")
    for resume in (False, True):
        with pytest.raises(OptionError, match=f"holds {name}, which no search has written"):
            search(tiny_cache, folder, resume=resume)
    assert [p.name for p in folder.iterdir()] == [name]


def test_a_second_process_is_refused(tiny_cache, folder, monkeypatch):
    scripted(monkeypatch, lambda number, step: -number)
    search(tiny_cache, folder, trials=1)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with RunLock(folder), pytest.raises(PipelineError, match="another process is writing to th"):
        search(tiny_cache, folder, resume=True)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert len(search(tiny_cache, folder, resume=True).trials) == 2


def test_several_processes_are_refused(tiny_cache, folder, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OptionError, match="a search uses one process; start it without torchrun"):
        search(tiny_cache, folder)


def test_the_command_and_the_function_are_one(tiny_cache, tmp_path):
    words = ["tune", "joint", "--cache", str(tiny_cache), "--run", str(tmp_path / "a"),
             "--trials", "2", "--budget", "2", "--validations", "1", "--categories", "3x2",
             "--batch-size", "8", "--embedding", "8", "--hidden", "8", "--z-size", "4",
             "--device", "cpu", "--precision", "float32"]  # fmt: skip
    planned = CliRunner().invoke(main, [*words, "--dry-run", "--json"])
    assert planned.exit_code == 0, planned.output
    assert not (tmp_path / "a").exists()
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    found = ms.tune(
        "joint", cache=tiny_cache, run=tmp_path / "b", trials=2, budget=2, validations=1,
        categories="3x2", z_size=4, **SMALL,
    )  # fmt: skip
    assert json.loads(json.dumps(found.to_json()["trials"])) == printed["trials"]
    assert set(printed["trials"][1]["changed"]) <= set(json.loads(planned.stdout)["searched"])
    assert {"gamma_z", "latent_dropout"} <= set(printed["trials"][1]["changed"])
    resumed = CliRunner().invoke(
        main, ["tune", "joint", "--run", str(tmp_path / "b"), "--resume", "--json"]
    )
    assert json.loads(resumed.stdout)["trials"] == printed["trials"]


def test_a_wrong_option_of_the_function_is_named(tiny_cache, tmp_path):
    with pytest.raises(OptionError, match="tune has no option 'trial'; did you mean 'trials'"):
        ms.tune("base", cache=tiny_cache, run=tmp_path, budget=2, trial=3)
    with pytest.raises(OptionError, match="trials='3': expected int"):
        ms.tune("base", cache=tiny_cache, run=tmp_path, budget=2, trials="3")
