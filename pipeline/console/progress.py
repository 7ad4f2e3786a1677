"""Progress of a long job: a bar on a terminal, a plain line now and then elsewhere."""

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

LINE_SECONDS = 30.0
WIDTH = 80  # columns of a bar, on wider terminals too
DELAY = 2.0  # seconds before the bar of a job that is often short appears
BYTES = "bytes"  # the unit that is shown as MB
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}{postfix}]"

Count = Callable[[int], None]  # called with each number of items that are done


def uncounted(_items: int) -> None:
    """Count nothing: what a function calls where nobody watches its progress."""


class Progress:
    """Counts items towards ``total`` on stderr.

    A bar that stands below another one disappears when it is done.

    :param state: called when something is shown; its text follows the count
    :param details: likewise, for plain lines alone, which have room for more
    :param delay: seconds before a bar appears, for jobs that are often short
    """

    def __init__(
        self,
        total: int,
        unit: str,
        title: str,
        state: Callable[[], str] = str,
        initial: int = 0,
        *,
        details: Callable[[], str] = str,
        delay: float = 0.0,
    ) -> None:
        self._state, self._details = state, details
        self._title, self._unit, self._total = title, unit, total
        self._start = self._shown = time.monotonic()
        self._initial = self._count = initial
        self._bar: Any = None  # of tqdm, on a terminal
        if sys.stderr.isatty():
            from tqdm import tqdm  # nothing else of the package is needed to decode

            self._bar = tqdm(
                total=total,
                unit="B" if unit == BYTES else f" {unit}",
                unit_scale=unit == BYTES,
                desc=title,
                initial=initial,
                file=sys.stderr,
                ncols=min(WIDTH, shutil.get_terminal_size().columns),
                bar_format=BAR,
                delay=delay,
                leave=None,
            )

    def advance(self, items: int = 1) -> None:
        """Count ``items`` more."""
        self._count += items
        if self._bar is not None:
            self._bar.set_postfix_str(self._state(), refresh=False)
            self._bar.update(items)
        elif time.monotonic() - self._shown > LINE_SECONDS:
            self._shown = time.monotonic()
            rate = (self._count - self._initial) / (self._shown - self._start)
            left = (self._total - self._count) / rate if rate else float("inf")
            parts = (
                f"{self._title}: {self._count}/{self._total} {self._unit}",
                f"{rate:.1f}/s",
                f"{left:.0f} s left",
                self._state(),
                self._details(),
            )
            self.note(", ".join(part for part in parts if part))

    def note(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.write(line, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def watched(stack: ExitStack, title: str, unit: str = BYTES) -> Callable[[int], Count]:
    """Return what shows the progress of a function that only knows its total while it works.

    The function calls it with the total, and then calls what it returned with each number of items
    that are done.

    :param stack: ends the bar
    """
    return lambda total: stack.enter_context(Progress(total, unit, title)).advance
