"""Long lists in printed results."""

from collections.abc import Sequence

SHOWN = 10


def first_lines(
    lines: Sequence[str], rest: str = "... and {} more: --json lists them all"
) -> list[str]:
    """Return the first ten lines of a list and, if there are more, a line that counts the others.

    :param rest: that line; "{}" stands for the count
    """
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([rest.replace("{}", str(more), 1)] if more > 0 else [])]
