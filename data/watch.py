"""How long work on data reports its progress, to whoever shows it."""

from collections.abc import Callable
from threading import Lock

Watch = Callable[[int], Callable[[int], None]]
"""Called with the total; what it returns is called with each number of items that are done."""


def counter(total: int, watch: Watch | None) -> Callable[[int], None]:
    """Start to count towards ``total``; any thread may call the function returned."""
    if watch is None:
        return lambda _items: None
    count, lock = watch(total), Lock()

    def advance(items: int) -> None:
        with lock:
            count(items)

    return advance
