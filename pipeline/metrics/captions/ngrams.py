"""Counts of the groups of 1 to 4 words of a caption."""

from collections import Counter

Ngram = tuple[str, ...]

ORDERS = 4


def ngrams(caption: str) -> tuple[Counter[Ngram], ...]:
    """Count the groups of 1 to 4 words of a caption, given as tokens joined by spaces."""
    words = caption.split()
    return tuple(
        Counter(zip(*(words[start:] for start in range(order)), strict=False))
        for order in range(1, ORDERS + 1)
    )
