"""Signals as a request to stop."""

import signal
import threading

from multispace.pipeline.training.interrupts import StopRequest, signals_request_stop


def test_the_first_signal_is_a_request_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    request = StopRequest()
    with signals_request_stop(request, second_interrupts=True):
        signal.raise_signal(signal.SIGTERM)
    assert request.signal == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_may_train_without_signals():
    failures = []

    def use():
        try:
            with signals_request_stop(StopRequest(), second_interrupts=True):
                pass
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert not failures
