"""One voice for several processes: of those that `torchrun` starts, one tells what happens.

All meet the same wrong option or missing file, and one line about it is enough. No torch here:
a wrong option is refused before it is loaded.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_told_elsewhere = False  # another process tells of the failure that ends this one


def process_count() -> int:
    """Return how many processes train together, by the environment that `torchrun` sets."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextmanager
def one_voice() -> Iterator[None]:
    """Let rank 0 speak, and the others go without a word, for the rest of the process.

    The exit status is the speaker's too: a launcher ends all processes when one fails, and could
    end the speaker before it has spoken. Only what nobody foresaw is shown by whoever meets it.
    """
    if process_count() == 1:
        yield
        return
    if os.environ["RANK"] != "0":
        sys.stdout = sys.stderr = _nowhere()
    try:
        yield
    except SystemExit:
        if sys.stderr is not sys.__stderr__:
            raise SystemExit(0) from None
        raise
    except BaseException:
        if not _told_elsewhere:
            take_voice()
        raise


def take_voice() -> None:
    """Let this process tell of the failure that ends it."""
    sys.stderr = sys.__stderr__


def lose_voice() -> None:
    """Say no more: another process tells of the failure."""
    global _told_elsewhere
    _told_elsewhere = True
    sys.stderr = _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w")
