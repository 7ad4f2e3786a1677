import io
import sys

import pytest

from multispace.pipeline.console import progress as module
from multispace.pipeline.console.progress import Progress


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


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(3, "images", "features", state=lambda: "fine") as progress:
        progress.advance(3)
        progress.note("a note")
    assert "3/3" in terminal.getvalue()
    assert "a note" in terminal.getvalue()
