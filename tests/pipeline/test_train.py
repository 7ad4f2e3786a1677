import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.options import used_by
from support.paths import ROOT
from support.tiny import make_cache, make_collection
from support.tiny import options as preprocess_options

from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.remote.push import push
from multispace.errors import OptionError, PipelineError
from multispace.model.options import SYSTEMS
from multispace.model.systems import build
from multispace.model.systems.base import Base
from multispace.pipeline.command_options.train_options import TrainOptions, resolve
from multispace.pipeline.evaluate import EvaluateOptions, evaluate
from multispace.pipeline.preprocess import preprocess
from multispace.pipeline.runs.run_folder import load_run
from multispace.pipeline.train import train
from multispace.pipeline.training import loop, state
from multispace.pipeline.training import step as step_module
from multispace.pipeline.training.validation import validation_metrics

SMALL = dict(batch_size=5, embedding=32, hidden=32, z_size=4, categories=(6,), log_every=2,
             device="cpu", precision="float32", dropout=0.1)  # fmt: skip


@pytest.fixture
def cache(tiny_cache):
    return tiny_cache


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def options(cache: Path, run: Path, system: str = "multispace", **other) -> TrainOptions:
    return TrainOptions(
        system=system, cache=cache, run=run, **{**used_by(system, **SMALL), **other}
    )


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / which / "weights.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def untimed(run: Path) -> list[dict]:
    """Return all lines of the log, without the speed."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines]


def metrics(run: Path, split: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["split"] == split]


@pytest.mark.parametrize("system", ["base", "latent", "multispace"])
def test_the_loss_falls_and_the_run_is_whole(cache, run, system):
    trained = train(options(cache, run, system, epochs=12, learning_rate=5e-3))
    lines = metrics(run, "train")
    assert lines[-1]["recon"] < 0.6 * lines[0]["recon"]
    assert {"step", "loss", "recon", "kl_z", "kl_c", "tokens_per_second"} <= set(lines[0])
    assert trained.steps == 12 * 5
    assert trained.best == max(line["cider"] for line in metrics(run, "val"))
    assert list((run / "tensorboard").iterdir())
    assert load_run(run, torch.device("cpu")).system.options.system == system
    assert json.loads(json.dumps(trained.to_json())) == trained.to_json()
    head, row = trained.render().splitlines()
    assert head.split()[:3] == ["system", "parameters", "steps"]
    assert row.split()[:3] == [system, str(trained.parameters), "60"]
    assert row.split()[4] == f"{trained.best:.3f}"


def test_a_cache_elsewhere_is_fetched_once_and_trained_from(
    cache, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MULTISPACE_CACHE", str(tmp_path / "kept"))
    url = f"memory://{tmp_path.name}/cache"
    push(cache, url)
    train(options(url, run, steps=4))
    train(options(cache, tmp_path / "near", steps=4))
    assert same(weights(run), weights(tmp_path / "near"))
    (copy,) = (tmp_path / "kept").iterdir()
    files = len(list(Cache.open(cache).manifest.files()))
    said = capsys.readouterr().err
    assert f"fetching {files} files, " in said
    assert f" MB, from {url} to {copy}\n" in said
    assert Cache.open(copy).manifest == Cache.open(cache).manifest
    assert load_run(run, torch.device("cpu")).config["options"]["cache"] == url
    assert evaluate(EvaluateOptions(run, url, "test", metrics=("rouge",))).captions
    assert "fetching" not in capsys.readouterr().err  # all of it is there


def test_a_password_in_a_url_is_not_written_down(cache, run):
    asked = options("https://me:secret@host/cache", run)
    assert asked.to_json()["cache"] == "https://host/cache"


def test_the_log_tells_targets_and_weights(cache, run, tmp_path):
    train(options(cache, run, steps=4, capacity_c_min=0.5, capacity_c_max=1.5, capacity_steps=8))
    last = metrics(run, "train")[-1]
    assert (last["step"], last["capacity_c"], last["capacity_z"]) == (4, 1.0, 150.0)
    train(options(cache, tmp_path / "latent", "latent", steps=4, annealing_midpoint=4))
    assert metrics(tmp_path / "latent", "train")[-1]["weight_kl"] == 0.5


def test_the_same_seed_gives_the_same_weights(cache, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(options(cache, tmp_path / name, steps=7, seed=seed))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_a_longer_resume_is_the_same_run(cache, tmp_path):
    train(options(cache, tmp_path / "whole", steps=13))
    train(options(cache, tmp_path / "parts", steps=7))
    train(options(cache, tmp_path / "parts", steps=13), resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    steps = [line["step"] for line in metrics(tmp_path / "parts", "train")]
    assert steps == [2, 4, 6, 8, 10, 12]


CHILD = """
import os, signal, sys
sys.path[:0] = [{root!r}]
import multispace.pipeline.training.step as module
from multispace.pipeline.train import train
from pathlib import Path
from multispace.pipeline.command_options.train_options import TrainOptions
real = module.seed_step
def seed_step(seed, step):
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(seed, step)
module.seed_step = seed_step
train(TrainOptions(system="multispace", cache=Path({cache!r}), run=Path({run!r}),
                   steps=13, save_every=3, **{small!r}))
"""


@pytest.fixture(scope="module")
def whole(tiny_cache, tmp_path_factory):
    """Return the run that the interrupted ones must equal."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(options(tiny_cache, run, steps=13, save_every=3))
    return run


def assert_same_run(run: Path, whole: Path) -> None:
    for which in ("last", "best"):
        assert same(weights(run, which), weights(whole, which))
    assert untimed(run) == untimed(whole)


@pytest.mark.parametrize("step", [1, 8])
def test_a_killed_run_goes_on_bit_by_bit(cache, run, whole, step):
    script = CHILD.format(root=str(ROOT), step=step, cache=str(cache), run=str(run), small=SMALL)
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                            timeout=120, check=False)  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert train(options(cache, run, steps=13, save_every=3), resume=True).steps == 13
    assert_same_run(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [1, 8])
def test_a_stopped_run_goes_on_bit_by_bit(cache, run, whole, monkeypatch, number, step):
    real = step_module.seed_step

    def seed_step(seed: int, at: int) -> None:
        if at == step:
            os.kill(os.getpid(), number)
        real(seed, at)

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "seed_step", seed_step)
        stopped = train(options(cache, run, steps=13, save_every=3))
    assert (stopped.stopped, stopped.steps) == (number.name, step + 1)  # the step was finished
    assert f"stopped by {number.name} after step {step + 1}" in stopped.messages()[0]
    assert stopped.exit_status == 128 + number
    resumed = train(options(cache, run, steps=13, save_every=3), resume=True)
    assert (resumed.stopped, resumed.messages(), resumed.steps) == (None, [], 13)
    assert_same_run(run, whole)


class Killed(BaseException):
    """In place of a signal that ends the process."""


EVERYTHING = dict(cell="gru", layers=2, tie_embeddings=True, word_dropout=0.3, label_smoothing=0.1,
                  lr_schedule="cosine", warmup_steps=3, lr_min=1e-5, weight_decay=0.01, ema=0.8,
                  save_every=3)  # fmt: skip
BY_SYSTEM = {
    "latent": dict(annealing="cyclical", annealing_steps=10, annealing_cycles=2, free_bits=0.01),
    "multispace": dict(temperature=1.0, temperature_rate=0.05, temperature_min=0.6),
    "joint": dict(latent_dropout=0.5, categories=(6, 3)),
}


@pytest.mark.parametrize("system", BY_SYSTEM)
@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_with_everything_on_a_run_goes_on_bit_by_bit(cache, tmp_path, monkeypatch, system, ending):
    whole, parts = (
        options(cache, tmp_path / name, system, steps=13, **EVERYTHING, **BY_SYSTEM[system])
        for name in ("whole", "parts")
    )
    train(whole)
    real = step_module.seed_step

    def seed_step(seed: int, step: int) -> None:
        if step == 7 and ending == "killed":
            raise Killed  # nothing is saved: the run goes on from step 6
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)  # the step in hand is finished and saved
        real(seed, step)

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "seed_step", seed_step)
        if ending == "killed":
            with pytest.raises(Killed):
                train(parts)
        else:
            assert train(parts).steps == 8
    train(parts, resume=True)
    for file in ("last/weights", "last/optimiser", "last/average", "best/weights"):
        ours, theirs = (
            load_file(o.run / "checkpoints" / f"{file}.safetensors") for o in (parts, whole)
        )
        assert same(ours, theirs), file
    assert untimed(whole.run) == untimed(parts.run)


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_is_resumed_and_logs_the_same_lines(cache, tmp_path, system):
    given = {} if system == "base" else {"z_size": 4}
    if "joint" in system or system == "multispace":
        given["categories"] = (6,)

    def asked(name: str, steps: int) -> TrainOptions:
        chosen = {k: v for k, v in SMALL.items() if k not in ("z_size", "categories")} | given
        return TrainOptions(system=system, cache=cache, run=tmp_path / name, steps=steps,
                            **{**chosen, "log_every": 5, "val_split": "none"})  # fmt: skip

    train(asked("whole", 10))
    train(asked("parts", 3))
    train(asked("parts", 10), resume=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def val_steps(run: Path) -> list[int]:
    return [line["step"] for line in metrics(run, "val")]


def test_validations_come_every_so_many_steps_and_at_the_end(cache, run, tmp_path):
    trained = train(options(cache, run, steps=11, validate_every=4))
    assert val_steps(run) == [4, 8, 11]  # an epoch has five steps
    assert trained.best == max(line["cider"] for line in metrics(run, "val"))
    train(options(cache, tmp_path / "epochs", steps=11))
    assert val_steps(tmp_path / "epochs") == [5, 10, 11]
    assert same(weights(run), weights(tmp_path / "epochs"))


@pytest.mark.parametrize("save_every", [4, 500])
@pytest.mark.parametrize("step", [4, 7, 10])
def test_a_run_that_validates_within_epochs_goes_on_bit_by_bit(
    cache, tmp_path, monkeypatch, step, save_every
):
    def asked(name: str) -> TrainOptions:
        return options(cache, tmp_path / name, "base", steps=11, validate_every=4,
                       save_every=save_every)  # fmt: skip

    train(asked("whole"))
    real = step_module.seed_step

    def seed_step(seed: int, at: int) -> None:
        if at == step:
            raise Killed
        real(seed, at)

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "seed_step", seed_step)
        with pytest.raises(Killed):
            train(asked("parts"))
    train(asked("parts"), resume=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_validations_count_for_patience(cache, run, monkeypatch, capsys):
    real = loop.validation_metrics
    monkeypatch.setattr(loop, "validation_metrics", lambda *given: {**real(*given), "cider": 0.5})
    assert train(options(cache, run, steps=20, validate_every=2, patience=2)).steps == 6
    assert "stopped: no better cider for 2 validations" in capsys.readouterr().err


def test_an_observer_sees_each_validation_and_can_end_the_training(cache, run, tmp_path):
    seen = {}

    def observe(step: int, numbers: dict[str, float]) -> bool:
        seen[step] = numbers["cider"]
        return step < 8

    trained = train(options(cache, run, steps=20, validate_every=4), observe=observe)
    assert (trained.steps, trained.stopped, trained.exit_status) == (8, None, 0)
    assert seen == {line["step"]: line["cider"] for line in metrics(run, "val")}
    assert trained.best == max(seen.values())
    train(options(cache, run, steps=20, validate_every=4), resume=True)  # it can be continued
    train(options(cache, tmp_path / "whole", steps=20, validate_every=4))
    assert_same_run(run, tmp_path / "whole")
    seen.clear()
    ended = train(options(cache, tmp_path / "epochs", steps=20), observe=observe)
    assert (ended.steps, list(seen)) == (10, [5, 10])


def test_a_corrupt_last_checkpoint_falls_back(cache, tmp_path, capsys):
    train(options(cache, tmp_path / "whole", steps=13))
    train(options(cache, tmp_path / "parts", steps=8, save_every=3))
    file = tmp_path / "parts" / "checkpoints" / "last" / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    train(options(cache, tmp_path / "parts", steps=13), resume=True)
    assert "does not match its digest" in capsys.readouterr().err
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_run_is_not_overwritten(cache, run):
    train(options(cache, run, steps=1))
    with pytest.raises(OptionError, match="holds a run; add --resume"):
        train(options(cache, run, steps=2))


def test_a_run_is_resumed_as_it_was_begun(cache, run):
    train(options(cache, run, steps=1))
    with pytest.raises(OptionError, match="--hidden 17.*begun with 32"):
        train(options(cache, run, steps=2, hidden=17), resume=True)
    with pytest.raises(OptionError, match="system latent.*begun with multispace"):
        train(options(cache, run, "latent", steps=2), resume=True)


def test_a_run_is_not_resumed_on_other_words(cache, run, tmp_path):
    train(options(cache, run, steps=1))
    collection = make_collection(tmp_path / "collection")
    text = (collection / "train.json").read_text().replace("red", "ruby")
    (collection / "train.json").write_text(text)
    preprocess(preprocess_options(tmp_path / "cache", collection))
    with pytest.raises(PipelineError, match="vocabulary_digest"):
        train(options(tmp_path / "cache", run, steps=2), resume=True)


def test_a_decaying_learning_rate_keeps_its_end(cache, run):
    train(options(cache, run, steps=2, lr_schedule="linear"))
    with pytest.raises(OptionError, match="--steps 4.*begun with 2"):
        train(options(cache, run, steps=4, lr_schedule="linear"), resume=True)


def test_a_run_of_an_older_version_is_used_and_goes_on(cache, run, tmp_path):
    train(options(cache, tmp_path / "whole", steps=4))
    train(options(cache, run, steps=2))
    config = json.loads((run / "config.json").read_text())
    for part in ("options", "system"):
        for name in ("cell", "layers", "tie_embeddings", "annealing", "free_bits"):
            config[part].pop(name, None)
    del config["options"]["ema"], config["options"]["lr_schedule"]
    (run / "config.json").write_text(json.dumps(config))
    assert load_run(run, torch.device("cpu"), "last").step == 2
    train(options(cache, run, steps=4), resume=True)
    assert same(weights(run), weights(tmp_path / "whole"))


def test_config_reproduces_the_run(cache, tmp_path):
    train(options(cache, tmp_path / "a", steps=4))
    given = {"system": "multispace", "run": tmp_path / "b"}
    train(resolve(given, tmp_path / "a" / "config.json"))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["fingerprint"] == Cache.open(cache).spec.fingerprint
    assert config["vocabulary_digest"] == Cache.open(cache).vocabulary().digest
    assert config["versions"]["torch"] == torch.__version__


def test_training_stops_when_nothing_gets_better(cache, run):
    trained = train(options(cache, run, "base", epochs=50, patience=2, learning_rate=1e-9))
    assert (trained.steps, trained.best_step) == (3 * 5, 5)


def test_the_best_checkpoint_is_the_best_by_loss(cache, run, monkeypatch):
    real, validated = loop.validation_metrics, iter([5.0, 3.0, 4.0])
    monkeypatch.setattr(
        loop, "validation_metrics", lambda *given: {**real(*given), "loss": next(validated)}
    )
    trained = train(options(cache, run, "base", epochs=3, select="loss"))
    losses = {line["step"]: line["loss"] for line in metrics(run, "val")}
    assert trained.best == min(losses.values())
    assert trained.best_step == min(losses, key=losses.get) == 10
    assert not same(weights(run, "best"), weights(run, "last"))


def test_without_validation_the_last_is_the_best(tmp_path, run, capsys):
    make_cache(tmp_path / "cache", make_collection(tmp_path / "collection"), ("train",))
    trained = train(options(tmp_path / "cache", run, steps=3))
    assert trained.selected_by == "last step"
    assert "the cache has no split 'val': nothing is validated" in capsys.readouterr().err
    assert same(weights(run, "best"), weights(run, "last"))


def test_numbers_that_blow_up_stop_the_run(cache, run, monkeypatch):
    real = Base.condition
    calls = []

    def condition(self, features, latents="mode"):
        calls.append(1)
        return real(self, features) * (torch.nan if len(calls) == 6 else 1)

    monkeypatch.setattr(Base, "condition", condition)
    with pytest.raises(PipelineError, match=r"reconstruction is nan at step 5; .*checkpoints/last"):
        train(options(cache, run, "base", steps=20, save_every=2, val_split="none"))


def test_the_vocabulary_travels_with_the_run(cache, run):
    train(options(cache, run, steps=1))
    assert Vocabulary.load(run / "vocabulary.json") == Cache.open(cache).vocabulary()


def test_a_capacity_above_the_cap_is_reported(cache, tmp_path, capsys):
    train(options(cache, tmp_path / "a", steps=1, capacity_c_max=9.0, capacity_steps=0))
    assert "capacity_c_max 9 is above the 1.792 nats" in capsys.readouterr().err  # log 6
    assert metrics(tmp_path / "a", "val")
    train(options(cache, tmp_path / "b", steps=1, capacity_c_max=1.5))
    assert "capacity_c_max" not in capsys.readouterr().err


# The optimizer


def test_the_learning_rate_is_logged_and_obeyed(cache, tmp_path):
    chosen = dict(steps=6, lr_schedule="linear", warmup_steps=2, learning_rate=4e-3, log_every=1,
                  save_every=5)  # fmt: skip
    train(options(cache, tmp_path / "a", "base", **chosen))
    rates = [line["learning_rate"] for line in metrics(tmp_path / "a", "train")]
    assert rates == pytest.approx([2e-3, 4e-3, 3e-3, 2e-3, 1e-3, 0])
    # The last step, of rate 0, changes nothing.
    before, after = (load_file(tmp_path / "a" / "checkpoints" / name / "weights.safetensors")
                     for name in ("last.previous", "last"))  # fmt: skip
    assert same(before, after)
    for name, rate, warmup in (("b", 4e-3, 2), ("c", 2e-3, 0)):
        chosen = dict(learning_rate=rate, warmup_steps=warmup)
        train(options(cache, tmp_path / name, "base", steps=1, **chosen))
    assert same(weights(tmp_path / "b"), weights(tmp_path / "c"))


def test_a_warm_up_must_leave_steps_to_decay_in(cache, run):
    with pytest.raises(OptionError, match="--warmup-steps 5 and --lr-schedule cosine.* 5 steps"):
        train(options(cache, run, steps=5, warmup_steps=5, lr_schedule="cosine"))
    assert not run.exists()


def test_weight_decay_shrinks_every_parameter(cache, tmp_path):
    chosen = dict(steps=1, learning_rate=0.01, dropout=0.0)
    for name, decay in (("plain", 0.0), ("decayed", 0.5)):
        train(options(cache, tmp_path / name, weight_decay=decay, **chosen))
    begun = options(cache, tmp_path, **chosen)
    plain, decayed = weights(tmp_path / "plain"), weights(tmp_path / "decayed")
    torch.manual_seed(begun.seed)
    system = build(begun.system_options(*shape(plain)))
    for name, start in system.named_parameters():  # biases too
        torch.testing.assert_close(plain[name] - decayed[name], 0.01 * 0.5 * start.detach(),
                                   rtol=1e-3, atol=1e-6)  # fmt: skip


def shape(weights: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Return how many words and features a system's weights are for."""
    return len(weights["decoder.output.bias"]), len(weights["feature_mean"])


def test_the_average_is_kept_judged_and_used(cache, tmp_path):
    for steps in (1, 2, 3):
        train(options(cache, tmp_path / str(steps), steps=steps))
    train(options(cache, tmp_path / "run", steps=3, ema=0.75))
    run = tmp_path / "run"
    assert same(weights(run), weights(tmp_path / "3"))  # the average does not steer
    first, second, third = (weights(tmp_path / str(steps)) for steps in (1, 2, 3))
    average = load_file(run / "checkpoints" / "last" / "average.safetensors")
    for name in average:
        expected = 0.75 * (0.75 * first[name] + 0.25 * second[name]) + 0.25 * third[name]
        torch.testing.assert_close(average[name], expected)
    assert same(weights(run, "best"), average)
    used = load_run(run, torch.device("cpu"), "last").system
    assert same(dict(used.state_dict()), average)
    pairs = load_pairs(Cache.open(cache), "val")
    words = Cache.open(cache).vocabulary()
    numbers = validation_metrics(used, pairs, words, options(cache, run), list)
    (line,) = metrics(run, "val")
    assert {name: line[name] for name in numbers} == numbers


def test_validation_is_without_smoothing(cache, tmp_path):
    for name, share in (("plain", 0.0), ("smooth", 0.3)):
        train(options(cache, tmp_path / name, "base", epochs=1, label_smoothing=share, log_every=5))
    line, other = (metrics(tmp_path / "smooth", split)[-1] for split in ("val", "train"))
    assert line["loss"] == line["recon"]
    assert other["loss"] > other["recon"]


def test_tied_matrices_are_stored_once_and_load(cache, run):
    train(options(cache, run, "base", steps=2, tie_embeddings=True))
    assert "decoder.output.weight" not in weights(run)
    decoder = load_run(run, torch.device("cpu"), "last").system.decoder
    assert decoder.output_weight is decoder.embedding.weight
    assert torch.equal(decoder.output_weight, weights(run)["decoder.embedding.weight"])


# float16: gradients are scaled so that small ones do not vanish


@pytest.fixture
def low_scale(monkeypatch):
    """Overflow at the first scale, and grow soon, so that a few steps see both."""
    real = state.GradScaler
    monkeypatch.setattr(state, "GradScaler", lambda device, enabled: real(
        device, init_scale=2.0**40, growth_interval=3, enabled=enabled))  # fmt: skip


def test_a_step_whose_gradients_overflow_is_left_out_and_counted(cache, tmp_path, low_scale):
    chosen = dict(precision="float16", dropout=0.0, log_every=1, val_split="none")
    train(options(cache, tmp_path / "run", "base", steps=60, learning_rate=5e-3, **chosen))
    lines = metrics(tmp_path / "run", "train")
    skipped = [line["skipped_steps"] for line in lines]
    assert skipped[0] == 1
    assert sum(skipped) < 40
    assert lines[-1]["recon"] < 0.8 * lines[0]["recon"]
    for line, after, left_out in zip(lines, lines[1:], skipped[1:], strict=False):
        assert after["loss_scale"] == line["loss_scale"] / 2 if left_out else (
            after["loss_scale"] in (line["loss_scale"], 2 * line["loss_scale"]))  # fmt: skip
    begun = options(cache, tmp_path / "short", "base", steps=1, **chosen)
    train(begun)
    torch.manual_seed(begun.seed)
    system = build(begun.system_options(*shape(weights(begun.run))))
    for name, parameter in system.named_parameters():  # a step that is left out changes nothing
        assert torch.equal(parameter, weights(begun.run)[name])
    # What is logged is unscaled: as in float32, but for rounding.
    train(options(cache, tmp_path / "long", "base", steps=1, log_every=1, dropout=0.0))
    first = next(i for i, left_out in enumerate(skipped) if not left_out)
    (line,) = metrics(tmp_path / "long", "train")
    assert line["gradient_norm"] == pytest.approx(lines[first]["gradient_norm"], rel=0.5)
    assert "skipped_steps" not in line


def test_float16_goes_on_bit_by_bit(cache, tmp_path, low_scale):
    chosen = dict(precision="float16", log_every=1)
    train(options(cache, tmp_path / "whole", steps=45, **chosen))
    train(options(cache, tmp_path / "parts", steps=31, **chosen))
    train(options(cache, tmp_path / "parts", steps=45, **chosen), resume=True)
    for part in ("weights", "optimiser"):
        files = (tmp_path / name / "checkpoints" / "last" / f"{part}.safetensors"
                 for name in ("whole", "parts"))  # fmt: skip
        assert same(*map(load_file, files))
    scales = [[line["loss_scale"] for line in metrics(tmp_path / name, "train")]
              for name in ("whole", "parts")]  # fmt: skip
    assert scales[0] == scales[1]
    assert len(set(scales[0][31:])) > 1


def test_gradients_that_no_scale_saves_stop_the_run(cache, run, monkeypatch):
    real = Base.loss

    def loss(self, *arguments):
        terms = real(self, *arguments)
        total = terms.total + 0 * terms.total
        total.register_hook(lambda gradient: gradient * torch.nan)
        return terms._replace(total=total)

    monkeypatch.setattr(Base, "loss", loss)
    with pytest.raises(PipelineError, match="gradients overflow float16 even at a loss scale of"):
        train(options(cache, run, "base", steps=60, precision="float16", val_split="none"))
