"""SIGINT and SIGTERM as a wish to stop after the step in hand."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM")


@dataclass
class Stop:
    """The wish of this process."""

    asked: str | None = None  # the name of the signal


@contextmanager
def noted(stop: Stop, insist: bool) -> Iterator[None]:
    """Write the first SIGINT or SIGTERM down in ``stop`` in place of obeying it.

    :param insist: obey the second one. A launcher of several processes repeats what it is sent
        and kills those that do not end; there each one is only noted, also on the way out of
        a failure that is still to be told.
    """

    def note(number: int, frame: FrameType | None) -> None:
        stop.asked = signal.Signals(number).name
        if insist:
            signal.signal(number, old[signal.Signals(number)])

    old = {signal.Signals[name]: signal.getsignal(signal.Signals[name]) for name in SIGNALS}
    for number in old:
        signal.signal(number, note)
    failed = True
    try:
        yield
        failed = False
    finally:
        if insist or not failed:
            for number, handler in old.items():
                signal.signal(number, handler)
