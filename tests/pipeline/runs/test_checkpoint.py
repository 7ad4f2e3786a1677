import hashlib
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from multispace.errors import CheckpointError
from multispace.pipeline.runs import checkpoint
from multispace.pipeline.runs.checkpoint import (
    AVERAGE,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoint,
    load_checkpoint,
    load_latest,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)

KILLED = -signal.SIGKILL


def make(step: int) -> Checkpoint:
    """Return a checkpoint whose every part tells which one it is."""
    generator = torch.Generator().manual_seed(step)
    weights = {
        "layer.weight": torch.randn(3, 4, generator=generator),
        "layer.half": torch.randn(5, generator=generator).bfloat16(),
        "mean": torch.tensor([float("inf"), -0.0, step]),
        "empty": torch.zeros(0, 3),
    }
    optimizer = {"0.step": torch.tensor(float(step)), "0.exp_avg": weights["layer.weight"] / 7}
    return Checkpoint(weights, optimizer, {"step": step, "best": 0.1 + step, "metrics_lines": None})


def assert_same(ours: dict[str, Tensor] | None, theirs: dict[str, Tensor] | None) -> None:
    assert ours is not None
    assert theirs is not None
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert tensor.shape == theirs[name].shape
        raw, other = (t.reshape(-1).view(torch.uint8) for t in (tensor, theirs[name]))
        assert torch.equal(raw, other)


def in_child(work: Callable[[], None]) -> int:
    """Do ``work`` in a forked process and return its exit status, or minus its signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# What is written is what is read


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    saved = make(3)
    save_checkpoint(tmp_path / "deep" / "last", saved)
    loaded = load_checkpoint(tmp_path / "deep" / "last")
    assert_same(loaded.weights, saved.weights)
    assert_same(loaded.optimizer, saved.optimizer)
    assert loaded.state == saved.state


def test_a_checkpoint_for_use_holds_no_optimizer(tmp_path):
    save_checkpoint(tmp_path / "best", Checkpoint(make(3).weights, None, {}))
    assert load_checkpoint(tmp_path / "best").optimizer is None
    assert load_checkpoint(tmp_path / "best").average is None
    assert sorted(p.name for p in (tmp_path / "best").iterdir()) == [STATE, WEIGHTS]


def test_an_average_is_kept_beside_the_weights(tmp_path):
    whole = make(3)
    average = {name: tensor + 1 for name, tensor in whole.weights.items()}
    save_checkpoint(tmp_path / "last", Checkpoint(whole.weights, whole.optimizer, {}, average))
    loaded = load_checkpoint(tmp_path / "last")
    assert_same(loaded.weights, whole.weights)
    assert_same(loaded.average, average)
    (tmp_path / "last" / AVERAGE).unlink()
    with pytest.raises(CheckpointError, match=f"{AVERAGE}: not found"):
        load_checkpoint(tmp_path / "last")


def test_views_and_parameters_are_saved_by_value(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    weights = {"column": whole[:, 1], "parameter": nn.Parameter(whole.T)}
    save_checkpoint(tmp_path / "last", Checkpoint(weights, None, {}))
    loaded = load_checkpoint(tmp_path / "last").weights
    assert loaded["column"].tolist() == [1, 5, 9]
    assert torch.equal(loaded["parameter"], whole.T)


def test_the_one_before_is_kept_and_nothing_else(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path / "last", make(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "last.previous"]
    assert load_checkpoint(tmp_path / "last").state["step"] == 3
    assert load_checkpoint(tmp_path / "last.previous").state["step"] == 2


def test_a_number_that_json_cannot_hold_leaves_the_old_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "last", make(1))
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path / "last", Checkpoint({}, None, {"best": float("nan")}))
    assert load_checkpoint(tmp_path / "last").state["step"] == 1


def test_no_room_is_named_and_leaves_the_old_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "last", make(1))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: not written \(.*; make room"):
            save_checkpoint(tmp_path / "last", Checkpoint({"a": torch.zeros(2048)}, None, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert load_latest(tmp_path / "last")[0].state["step"] == 1


# Damage


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"last/state.json: not found; is this a run folder"):
        load_checkpoint(tmp_path / "last")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def spoil_state(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (WEIGHTS, flip, "does not match its digest"),
        (WEIGHTS, halve, "does not match its digest"),
        (WEIGHTS, Path.unlink, "not found"),
        (OPTIMIZER, flip, "does not match its digest"),
        (OPTIMIZER, Path.unlink, "not found"),
        (STATE, halve, "not JSON"),
        (STATE, Path.unlink, "not found"),
        (STATE, spoil_state("[]"), "it is a list, expected an object"),
        (STATE, spoil_state("[" * 5000), "too deeply nested"),
        (STATE, spoil_state('{"step": -1, "files": {}}'), "step is -1, expected a whole number"),
        (STATE, spoil_state('{"best": NaN, "files": {}}'), "best is nan, expected a finite"),
        (STATE, spoil_state('{"stride": 1, "files": {}}'), "has the unknown name 'stride'"),
        (STATE, spoil_state("{}"), "lists no weights"),
        (STATE, spoil_state('{"files": {}}'), "lists no weights"),
    ],
)
def test_damage_is_named_and_the_one_before_is_taken(tmp_path, name, damage, message):
    folder = tmp_path / "last"
    save_checkpoint(folder, make(1))
    save_checkpoint(folder, make(2))
    damage(folder / name)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    assert str(error.value).startswith(f"{folder / name}: {message}")
    assert "\n" not in str(error.value)

    loaded, line = load_latest(folder)
    assert loaded.state["step"] == 1
    assert_same(loaded.weights, make(1).weights)
    assert line == f"{error.value}; continuing from {folder}.previous"


def test_weights_that_are_no_safetensors_are_refused(tmp_path):
    save_checkpoint(tmp_path / "last", make(1))
    path = tmp_path / "last" / WEIGHTS
    path.write_bytes(b"no tensors")
    state = json.loads((tmp_path / "last" / STATE).read_text())
    state["files"][WEIGHTS] = hashlib.sha256(path.read_bytes()).hexdigest()
    del state["digest"]  # as earlier versions wrote it
    (tmp_path / "last" / STATE).write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: not readable .* damaged"):
        load_checkpoint(tmp_path / "last")


def test_the_state_is_verified_and_that_of_earlier_versions_is_read(tmp_path):
    save_checkpoint(tmp_path / "last", make(1))
    path = tmp_path / "last" / STATE
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "step": 7}))
    with pytest.raises(CheckpointError, match=f"{STATE}: does not match its digest"):
        load_checkpoint(tmp_path / "last")
    del state["digest"]
    path.write_text(json.dumps(state))
    assert load_checkpoint(tmp_path / "last").state == make(1).state


def test_the_latest_of_a_whole_folder_needs_no_line(tmp_path):
    save_checkpoint(tmp_path / "last", make(1))
    save_checkpoint(tmp_path / "last", make(2))
    loaded, line = load_latest(tmp_path / "last")
    assert loaded.state["step"] == 2
    assert line is None


def test_the_one_before_is_taken_where_the_last_is_missing(tmp_path):
    # So it stands between the two renames.
    save_checkpoint(tmp_path / "last", make(1))
    os.rename(tmp_path / "last", tmp_path / "last.previous")
    loaded, line = load_latest(tmp_path / "last")
    assert loaded.state["step"] == 1
    assert line is not None
    assert "last/state.json: not found" in line
    assert line.endswith("last.previous")


def test_without_any_checkpoint_the_error_is_about_the_last(tmp_path):
    with pytest.raises(CheckpointError, match=r"last/state.json: not found"):
        load_latest(tmp_path / "last")


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_rights_of_the_files_follow_the_umask(tmp_path, umask):
    def save() -> None:
        os.umask(umask)
        save_checkpoint(tmp_path / "last", make(1))

    assert in_child(save) == 0
    rights = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "last").iterdir()}
    assert rights == dict.fromkeys((WEIGHTS, OPTIMIZER, STATE), 0o666 & ~umask)


# Training replaces a checkpoint while it is read


def assert_whole(loaded: Checkpoint) -> int:
    """Check that all parts are of one checkpoint, and return its step."""
    step = loaded.state["step"]
    assert_same(loaded.weights, make(step).weights)
    assert_same(loaded.optimizer, make(step).optimizer)
    return step


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_checkpoint_that_is_replaced_while_it_is_read_is_read_whole(
    tmp_path, monkeypatch, moment, times
):
    last = tmp_path / "last"
    save_checkpoint(last, make(1))
    reads, saved = 0, 1

    def replace_first(function):
        def read(*arguments, **options):
            nonlocal reads, saved
            reads += 1
            if reads > moment and saved <= times:
                saved += 1
                save_checkpoint(last, make(saved))
            return function(*arguments, **options)

        return read

    monkeypatch.setattr(checkpoint, "PAUSE", 0)
    monkeypatch.setattr(checkpoint, "read_file", replace_first(checkpoint.read_file))
    monkeypatch.setattr(checkpoint, "_read_state", replace_first(checkpoint._read_state))
    assert 1 <= assert_whole(load_checkpoint(last)) <= times + 1
    assert saved == (times + 1 if moment < 3 else 1)


def test_a_checkpoint_is_read_whole_while_another_process_saves(tmp_path):
    last = tmp_path / "last"
    save_checkpoint(last, make(1))
    ready, go = os.pipe()

    def save_often() -> None:
        os.write(go, b".")
        for step in range(2, 60):
            save_checkpoint(last, make(step))

    child = os.fork()
    if child == 0:
        save_often()
        os._exit(0)
    os.read(ready, 1)
    steps = []
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        steps.append(assert_whole(load_checkpoint(last)))
    assert len(set(steps)) > 2
    assert steps == sorted(steps)


# A kill at any moment


def test_a_kill_at_any_moment_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    """Kill a save before its 1st, 2nd, 3rd ... call to the system, until one lives to the end."""
    begun = tmp_path / "begun"
    for step in (1, 2):
        save_checkpoint(begun / "last", make(step))

    def work(folder: Path, calls: int) -> None:
        left = calls

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event.partition(".")[0] in ("open", "os", "shutil"):
                left -= 1
                if left == -1:  # not again: to kill is a call too
                    die()

        sys.addaudithook(count)  # stays in the child
        save_checkpoint(folder, make(3))

    found = []
    for calls in range(200):
        run = tmp_path / str(calls)
        shutil.copytree(begun, run)
        status = in_child(lambda run=run, calls=calls: work(run / "last", calls))
        loaded, line = load_latest(run / "last")
        step = loaded.state["step"]
        found.append(step)
        assert_same(loaded.weights, make(step).weights)
        assert_same(loaded.optimizer, make(step).optimizer)
        assert step == 3 or status == KILLED
        assert line is None or not (run / "last").exists()

        save_checkpoint(run / "last", make(4))  # what was left is no hindrance
        assert load_latest(run / "last")[0].state["step"] == 4
        assert sorted(p.name for p in run.iterdir()) == ["last", "last.previous"]
        if status == 0:
            break
        assert status == KILLED
    else:
        pytest.fail("the save never came to its end")
    assert len(found) > 10
    assert set(found) == {2, 3}
    assert found == sorted(found)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", [WEIGHTS, OPTIMIZER])
def test_a_kill_in_the_middle_of_a_file_leaves_what_was_there(tmp_path, monkeypatch, name, first):
    def half_a_file(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        if path.name == name:
            die()

    if not first:
        save_checkpoint(tmp_path / "last", make(1))
    monkeypatch.setattr(checkpoint, "write_synced", half_a_file)
    assert in_child(lambda: save_checkpoint(tmp_path / "last", make(2))) == KILLED
    if first:
        with pytest.raises(CheckpointError, match="not found"):
            load_latest(tmp_path / "last")
    else:
        loaded, line = load_latest(tmp_path / "last")
        assert loaded.state["step"] == 1
        assert line is None


# The optimizer


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        network(inputs).square().mean().backward()
        optimizer.step()


def fresh(kind: type[torch.optim.Adam], **options: float) -> tuple[nn.Module, torch.optim.Adam]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    return network, kind(network.parameters(), lr=0.01, fused=True, **options)


@pytest.mark.parametrize(
    ("kind", "options"), [(torch.optim.Adam, {}), (torch.optim.AdamW, {"weight_decay": 0.1})]
)
def test_a_resumed_optimizer_goes_on_exactly(tmp_path, kind, options):
    straight, optimizer = fresh(kind, **options)
    train(straight, optimizer, range(2))
    packed = pack_optimizer(optimizer)
    save_checkpoint(tmp_path / "last", Checkpoint(straight.state_dict(), packed, {}))
    train(straight, optimizer, range(2, 5))

    resumed, other = fresh(kind, **options)
    loaded = load_checkpoint(tmp_path / "last")
    resumed.load_state_dict(loaded.weights)
    unpack_optimizer(other, loaded.optimizer)
    train(resumed, other, range(2, 5))
    assert_same(dict(resumed.state_dict()), dict(straight.state_dict()))
    assert_same(pack_optimizer(other), pack_optimizer(optimizer))

    forgetful, new = fresh(kind, **options)  # the state matters: without it the end is another
    forgetful.load_state_dict(loaded.weights)
    train(forgetful, new, range(2, 5))
    assert not torch.equal(forgetful[0].weight, straight[0].weight)


def test_an_optimizer_that_has_not_stepped_is_empty():
    network, optimizer = fresh(torch.optim.Adam)
    assert pack_optimizer(optimizer) == {}
    unpack_optimizer(optimizer, {})
    train(network, optimizer, range(1))
    assert set(pack_optimizer(optimizer)) == {
        f"{number}.{name}" for number in range(4) for name in ("step", "exp_avg", "exp_avg_sq")
    }


def test_the_learning_rate_is_the_optimizers_own():
    _, optimizer = fresh(torch.optim.Adam)
    optimizer.param_groups[0]["lr"] = 0.5
    unpack_optimizer(optimizer, {})
    assert optimizer.param_groups[0]["lr"] == 0.5
