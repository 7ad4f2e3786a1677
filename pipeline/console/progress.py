"""Progress of a long job: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

LINE_SECONDS = 30.0


class Progress:
    """Counts steps towards ``total`` on stderr.

    :param state: called when something is shown; its text follows the count.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        title: str,
        state: Callable[[], str] = str,
        initial: int = 0,
    ) -> None:
        self._state = state
        self._title, self._unit, self._total = title, unit, total
        self._start = self._shown = time.monotonic()
        self._initial = self._count = initial
        self._bar = (
            tqdm(total=total, unit=f" {unit}", desc=title, initial=initial, dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more."""
        self._count += steps
        if self._bar is not None:
            self._bar.set_postfix_str(self._state(), refresh=False)
            self._bar.update(steps)
        elif time.monotonic() - self._shown > LINE_SECONDS:
            self._shown = time.monotonic()
            rate = (self._count - self._initial) / (self._shown - self._start)
            left = (self._total - self._count) / rate if rate else float("inf")
            parts = (
                f"{self._title}: {self._count}/{self._total} {self._unit}",
                f"{rate:.1f}/s",
                f"{left:.0f} s left",
                self._state(),
            )
            self.note(", ".join(part for part in parts if part))

    def note(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        tqdm.write(line, file=sys.stderr)

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
