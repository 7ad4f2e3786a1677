"""Output of several processes: of those that `torchrun` starts, only one prints.

All of them meet the same wrong option or missing file, and one line about it is enough. This
module does not import torch, so that a wrong option is refused before torch is loaded.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_muted = False  # another process reports the failure that ends this one


def process_count() -> int:
    """Return how many processes train together, from the environment that `torchrun` sets."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextmanager
def only_main_process_prints() -> Iterator[None]:
    """Discard what all processes but the main one (rank 0) print, until the process ends.

    Only the main process fails with an exit status: a launcher ends all processes when one
    fails, and could end the main process before it has printed the reason. An exception that
    is not turned into an exit status is printed by each process that it occurs in.
    """
    if process_count() == 1:
        yield
        return
    if os.environ["RANK"] != "0":
        sys.stdout = sys.stderr = _null_stream()
    try:
        yield
    except SystemExit:
        if sys.stderr is not sys.__stderr__:
            raise SystemExit(0) from None
        raise
    except BaseException:
        if not _muted:
            unmute()
        raise


def unmute() -> None:
    """Let this process print the failure that ends it."""
    sys.stderr = sys.__stderr__


def mute() -> None:
    """Print nothing more in this process: another one reports the failure."""
    global _muted
    _muted = True
    sys.stderr = _null_stream()


def _null_stream() -> TextIO:
    return open(os.devnull, "w")
