"""Real processes, started by torchrun; few of them, for each start takes seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.paths import ROOT
from support.tiny import make_cache, make_collection

from multispace.errors import OptionError
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.train import train

SMALL = dict(embedding=32, hidden=32, log_every=1, device="cpu", precision="float32",
             learning_rate=5e-3)  # fmt: skip
# Of 23 captions, batches of 2 x 5 leave one of 3, those of 2 x 11 one of 1: a rank has none.
OF_SYSTEM = {
    "base": dict(batch_size=5),
    "latent": dict(batch_size=11, z_size=4, free_bits=0.4, annealing="none"),
    "multispace": dict(batch_size=5, z_size=4, categories=(6, 3), ema=0.8, gamma_z=1.0),
    "ag-cvae": dict(batch_size=5, z_size=4, annealing="none"),
    "joint": dict(batch_size=5, z_size=4, categories=(6, 3), latent_dropout=0.3),
}
STEPS = 13

TOGETHER = """
import sys
sys.path[:0] = [{root!r}]
from pathlib import Path
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.train import train
for system, chosen in {of_system!r}.items():
    train(TrainOptions(system=system, cache=Path({cache!r}), run=Path({run!r}) / system,
                       steps={steps}, **{{**{small!r}, **chosen}}))
"""

HIT = """
import os, signal, sys
sys.path[:0] = [{root!r}]
from multispace.cli import main
import multispace.pipeline.training.step as module
real = module.seed_step
def seed_step(seed, step):
    if (step, os.environ["RANK"]) == ({step}, "1"):
        os.kill(os.getpid(), signal.{signal})
    real(seed, step)
module.seed_step = seed_step
main()
"""


def launch(script: Path, *arguments: object, ranks: int = 2) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
               ranks, "--", script, *arguments]  # fmt: skip
    return subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          timeout=240, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip


def metrics(run: Path, split: str = "train") -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["split"] == split]


def tensors(run: Path, which: str = "last", part: str = "weights") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / which / f"{part}.safetensors")


def step_of(run: Path) -> int:
    return json.loads((run / "checkpoints" / "last" / "state.json").read_text())["step"]


def options(cache: Path, run: Path, system: str, **other) -> TrainOptions:
    chosen = {"steps": STEPS, **SMALL, **OF_SYSTEM[system], **other}
    return TrainOptions(system=system, cache=cache, run=run, **chosen)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    collection = make_collection(folder / "collection")
    content = json.loads((collection / "train.json").read_text())
    content["annotations"].pop()
    (collection / "train.json").write_text(json.dumps(content))
    make_cache(folder / "cache", collection)
    return folder / "cache"


@pytest.fixture(scope="module")
def together(cache, tmp_path_factory):
    """Return the folder of three runs of two ranks."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "script.py").write_text(
        TOGETHER.format(root=str(ROOT), cache=str(cache), run=str(folder), of_system=OF_SYSTEM,
                        small=SMALL, steps=STEPS)
    )  # fmt: skip
    done = launch(folder / "script.py")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("system", OF_SYSTEM)
def test_two_ranks_follow_one_with_twice_the_batch(cache, together, tmp_path, system):
    own = OF_SYSTEM[system]["batch_size"]
    train(options(cache, tmp_path / "alone", system, batch_size=2 * own))
    alone, ours = metrics(tmp_path / "alone"), metrics(together / system)
    assert [line["step"] for line in ours] == list(range(1, STEPS + 1))
    for name in ("loss", "recon", "kl_z", "kl_c", "perplexity", "gradient_norm"):
        assert [line[name] for line in ours] == pytest.approx(
            [line[name] for line in alone], rel=1e-4, abs=1e-5
        ), name
    assert ours[-1]["recon"] < 0.9 * ours[0]["recon"]
    (*_, one), (*_, two) = (metrics(run, "val") for run in (tmp_path / "alone", together / system))
    assert (two["step"], two["loss"]) == (STEPS, pytest.approx(one["loss"], rel=1e-3))
    expected = tensors(tmp_path / "alone")
    for name, tensor in tensors(together / system).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_stopped_killed_and_resumed_it_is_the_same_run(cache, together, tmp_path):
    chosen = options(cache, tmp_path / "run", "multispace")
    config = tmp_path / "options.json"
    config.write_text(json.dumps(chosen.to_json()))
    script = tmp_path / "hit.py"

    def hit(signal: str, step: int, *more: str) -> subprocess.CompletedProcess:
        script.write_text(HIT.format(root=str(ROOT), signal=signal, step=step))
        return launch(script, "train", "multispace", "--config", config, "--run", chosen.run, *more)

    stopped = hit("SIGTERM", 7)  # one rank alone hears it: all stop at the same step
    message = "stopped by SIGTERM after step 8; the checkpoint is saved; continue with"
    assert stopped.stderr.count(message) == 1, stopped.stderr
    assert step_of(chosen.run) == 8
    killed = hit("SIGKILL", 10, "--resume")
    (line,) = [line for line in killed.stderr.splitlines() if line.startswith("error: ")]
    assert "another of the 2 processes ended in step 10" in line
    assert "--resume" in line
    assert step_of(chosen.run) == 10  # not one step is lost
    done = hit("SIGKILL", -1, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("multispace") == 1
    whole = together / "multispace"
    for which, part in (("last", "weights"), ("last", "optimiser"), ("last", "average"),
                        ("best", "weights")):  # fmt: skip
        expected = tensors(whole, which, part)
        for name, tensor in tensors(chosen.run, which, part).items():
            assert torch.equal(tensor, expected[name]), (which, part, name)
    assert metrics(chosen.run, "val") == metrics(whole, "val")


def test_a_run_goes_on_with_another_number_of_ranks_but_the_same_batch(cache, together, tmp_path):
    run = together / "base"
    with pytest.raises(OptionError, match="1 x 5 captions a step: .* was begun with 2 x 5"):
        train(options(cache, run, "base", steps=STEPS + 2), resume=True)
    train(options(cache, run, "base", batch_size=10, steps=STEPS + 2), resume=True)
    train(options(cache, tmp_path / "alone", "base", batch_size=10, steps=STEPS + 2))
    assert metrics(run)[-1]["loss"] == pytest.approx(metrics(tmp_path / "alone")[-1]["loss"], 1e-4)


def test_a_run_is_not_overwritten_and_one_rank_says_so(cache, together):
    done = launch(ROOT / "cli.py", "train", "latent", "--cache", cache, "--run",
                  together / "latent")  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("error: ") == done.stderr.count("holds a run; add --resume") == 1


@pytest.mark.parametrize("wrong", [["--hidden", "0"], ["--no-such-option"]])
def test_one_rank_refuses_what_is_wrong_for_all(cache, tmp_path, wrong):
    said = []
    for rank in range(2):
        command = [sys.executable, ROOT / "cli.py", "train", "base", "--cache", cache, "--run",
                   tmp_path / "run", *wrong]  # fmt: skip
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                              timeout=60, check=False,
                              env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"})  # fmt: skip
        said.append((done.returncode, done.stdout + done.stderr))
    assert said[0][0] == 2
    assert wrong[0] in said[0][1]
    assert said[1] == (0, "")  # the launcher is not to end rank 0 before it has spoken
