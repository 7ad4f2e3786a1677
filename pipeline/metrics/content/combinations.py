"""Recall of pairs of concepts that were held out of training.

This is the recall of Nikolaus et al. 2019: the fraction of the images showing a pair for which at
least one of k captions names the pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multispace.data.language.pairs import Pair
from multispace.data.shapes import mentions
from multispace.data.shapes.scene import things_of
from multispace.pipeline.metrics.content.attributes import percent

LEVELS = (1, 2, 3, 4, 5)  # minimum number of references that name the pair
FIRST = (1, 5, 20, 100)  # recall is also given in so many of the captions of an image
TRUE = "true"  # in place of a level, for a generated image: the pair was drawn


@dataclass(frozen=True)
class Example:
    """An image: its references, its factors if it was generated, and k captions made for it."""

    references: Sequence[str]
    factors: Any
    captions: Sequence[str]


def composition_scores(pairs: Sequence[str], examples: Sequence[Example]) -> dict[str, Any]:
    """Return recall at k of each pair over the images that show it, and the mean over pairs.

    ``levels`` maps the minimum number of references that name the pair, or "true" for generated
    images, to ``pictures``, ``recalled`` and ``recall``. ``noun_named`` is the fraction of single
    captions for these images that name the noun. ``recall_of_first`` is the recall at the lowest
    level in only the first n captions of an image, by n. Means are over the pairs that have images.

    :param examples: images with k captions each, the same k for all
    """
    k = max((len(example.captions) for example in examples), default=0)
    sizes = sorted({k, *(n for n in FIRST if n < k)})
    of_pairs = {text: _pair_scores(Pair.parse(text), examples, sizes) for text in pairs}
    names = dict.fromkeys(level for scores in of_pairs.values() for level in scores["levels"])
    mean = {
        level: _mean(
            s["levels"][level]["recall"] for s in of_pairs.values() if level in s["levels"]
        )
        for level in names
    }
    return {
        "k": k,
        "pairs": of_pairs,
        "mean_recall": mean,
        "mean_recall_of_first": {
            str(n): _mean(s["recall_of_first"].get(str(n)) for s in of_pairs.values())
            for n in sizes
        },
        "mean_noun_named": _mean(scores["noun_named"] for scores in of_pairs.values()),
    }


def composition_rows(scores: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of recall and the number of images, by level."""
    levels = list(scores["mean_recall"])
    head = ["pair", *(level if level == TRUE else f">= {level}" for level in levels), "noun"]
    rows = []
    for pair, values in scores["pairs"].items():
        cells = [values["levels"].get(level, {"recall": None, "pictures": 0}) for level in levels]
        shown = [f"{percent(cell['recall'])} of {cell['pictures']}" for cell in cells]
        rows.append([pair, *shown, percent(values["noun_named"])])
    mean = [percent(value) for value in scores["mean_recall"].values()]
    return head, [*rows, ["mean", *mean, percent(scores["mean_noun_named"])]]


def composition_lines(scores: Mapping[str, Any]) -> list[str]:
    """Return a line on the mean recall in the first captions; none for earlier evaluations."""
    found = scores.get("mean_recall_of_first", {})
    parts = [f"{percent(recall)} in {n}" for n, recall in found.items()]
    return [f"mean recall in the first captions of an image: {', '.join(parts)}"] if parts else []


def _pair_scores(pair: Pair, examples: Sequence[Example], sizes: Sequence[int]) -> dict[str, Any]:
    recalled: dict[str, list[bool]] = {}
    first: dict[str, list[bool]] = {}
    nouns = []
    for example in examples:
        levels = _levels(pair, example)
        if not levels:
            continue
        named, noun = _named(pair, example)
        nouns += noun
        for level in levels:
            recalled.setdefault(level, []).append(any(named))
        for n in sizes:
            first.setdefault(str(n), []).append(any(named[:n]))
    return {
        "levels": {
            level: {"pictures": len(hits), "recalled": sum(hits), "recall": sum(hits) / len(hits)}
            for level, hits in sorted(recalled.items())
        },
        "recall_of_first": {n: sum(hits) / len(hits) for n, hits in first.items()},
        "noun_named": _mean(nouns),
    }


def _levels(pair: Pair, example: Example) -> list[str]:
    things = things_of(example.factors)
    if things is not None:
        return [TRUE] if any(map(pair.is_in, things)) else []
    agreeing = sum(map(pair.is_named, example.references))
    return [str(level) for level in LEVELS if level <= agreeing]


def _named(pair: Pair, example: Example) -> tuple[list[bool], list[bool]]:
    """Return whether each caption names the pair, and whether it names the noun."""
    if things_of(example.factors) is None:
        captions = example.captions
        return [*map(pair.is_named, captions)], [*map(pair.noun_is_named, captions)]
    found = [mentions(caption) for caption in example.captions]
    return (
        [any(map(pair.is_in, things)) for things in found],
        [any(mention.shape in pair.nouns for mention in things) for things in found],
    )


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
