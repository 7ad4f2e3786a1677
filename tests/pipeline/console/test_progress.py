import io
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from multispace.pipeline.console import progress as module
from multispace.pipeline.console.progress import Progress, watched


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_now_and_then_where_there_is_no_terminal(clock, capsys):
    with Progress(100, "steps", "train", state=lambda: "loss 3") as progress:
        progress.advance(10)
        clock[0] += module.LINE_SECONDS + 10
        progress.advance(10)
        progress.advance(10)
    assert capsys.readouterr().err == "train: 20/100 steps, 0.5/s, 160 s left, loss 3\n"


def test_a_resumed_job_does_not_count_old_steps_as_pace(clock, capsys):
    with Progress(100, "steps", "train", initial=60) as progress:
        clock[0] += 40
        progress.advance(20)
    assert "train: 80/100 steps, 0.5/s, 40 s left" in capsys.readouterr().err


def test_plain_lines_have_room_for_details(clock, capsys):
    with Progress(9, "steps", "x", lambda: "epoch 1/3", details=lambda: "KL 3") as progress:
        clock[0] += module.LINE_SECONDS + 1
        progress.advance(3)
    assert capsys.readouterr().err.endswith(" left, epoch 1/3, KL 3\n")


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in place of stderr, which pytest itself replaces when a test begins."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=terminal))
    return terminal


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_bars_fit_80_columns_and_narrower_terminals(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    state = "epoch 12/20, loss 45.67"
    with Progress(12345, "steps", "joint-cvae", lambda: state, details=lambda: "y" * 99) as bar:
        for _ in range(5):
            bar.advance(2000)
            bar._bar.refresh()
    shown = [line for line in terminal.getvalue().split("\r") if "joint" in line]
    assert len(shown) > 5
    assert max(len(line.rstrip("\n")) for line in shown) <= min(columns, 80)
    assert "y" not in terminal.getvalue()
    if columns >= 80:
        assert any("| 10000/12345 steps [" in line and f", {state}]" in line for line in shown)


def test_bytes_are_shown_as_megabytes(terminal):
    with Progress(25_000_000, "bytes", "pull") as progress:
        progress.advance(25_000_000)
    assert "25.0M/25.0MB" in terminal.getvalue()


def test_a_bar_below_another_one_disappears(terminal):
    with Progress(2, "steps", "train") as outer:
        with Progress(3, "captions", "validation") as inner:
            inner.advance(3)
        outer.advance(2)
    last = terminal.getvalue().rstrip("\n").split("\n")[-1]
    assert "validation" in terminal.getvalue()
    assert "2/2 steps" in last
    assert "validation" not in last.split("\r")[-1]


def test_a_short_job_has_no_bar_where_bars_wait(terminal):
    with Progress(2, "images", "captions", delay=60) as progress:
        progress.advance(2)
    assert terminal.getvalue() == ""


def test_nothing_to_do_is_no_error(terminal):
    with Progress(0, "images", "captions"):
        pass
    assert "captions" in terminal.getvalue()


def test_a_function_that_knows_its_total_later_is_watched(terminal):
    with ExitStack() as stack:
        count = watched(stack, "merge", "vectors")(4)
        count(3)
        count(1)
    assert "4/4 vectors" in terminal.getvalue()


def test_a_bar_on_a_terminal(terminal):
    with Progress(3, "images", "features", state=lambda: "fine") as progress:
        progress.advance(3)
        progress.note("a note")
    assert "3/3" in terminal.getvalue()
    assert "a note" in terminal.getvalue()
