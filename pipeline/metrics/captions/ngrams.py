"""Counts of the groups of 1 to 4 words of a caption."""

from collections import Counter
from functools import lru_cache

Ngram = tuple[str, ...]

ORDERS = 4


@lru_cache(maxsize=1024)  # several metrics count the captions of an image one after the other
def ngrams(caption: str) -> tuple[Counter[Ngram], ...]:
    """Count the groups of 1 to 4 words of a caption, given as tokens joined by spaces.

    The counters are shared: do not change them.
    """
    words = caption.split()
    return tuple(
        Counter(zip(*(words[start:] for start in range(order)), strict=False))
        for order in range(1, ORDERS + 1)
    )
