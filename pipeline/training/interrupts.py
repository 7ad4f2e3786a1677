"""SIGINT and SIGTERM as a request to stop after the current step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM")


@dataclass
class StopRequest:
    """Whether this process was asked to stop."""

    signal: str | None = None  # the name of the signal


@contextmanager
def signals_request_stop(request: StopRequest, second_interrupts: bool) -> Iterator[None]:
    """Record the first SIGINT or SIGTERM in ``request`` instead of ending the process.

    Outside the main thread, where Python cannot handle signals, nothing is recorded.

    :param second_interrupts: whether a second signal has its usual effect. A launcher of several
        processes repeats the signal that it receives and kills processes that do not end; there
        every signal is only recorded, also while a failure is being reported.
    """

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def record(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number).name
        if second_interrupts:
            signal.signal(number, before[signal.Signals(number)])

    before = {signal.Signals[name]: signal.getsignal(signal.Signals[name]) for name in SIGNALS}
    for number in before:
        signal.signal(number, record)
    failed = True
    try:
        yield
        failed = False
    finally:
        if second_interrupts or not failed:
            for number, handler in before.items():
                signal.signal(number, handler)
