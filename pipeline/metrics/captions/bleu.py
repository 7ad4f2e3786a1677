"""BLEU-1 to BLEU-4 (Papineni 2002) as pycocoevalcap computes them."""

from collections.abc import Sequence

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from multispace.pipeline.metrics.captions.metric import (
    TIME_LIMIT,
    Floats,
    Metric,
    MetricScores,
    Tokens,
)
from multispace.pipeline.metrics.captions.ngrams import ORDERS, Ngram, ngrams

SMALL, TINY = 1e-9, 1e-15  # pycocoevalcap's guards against divisions by 0 and logarithms of 0


class BleuMetric(Metric):
    """BLEU, whose corpus score is a function of counts summed over images.

    The statistics of an image are the length of its caption, the length of the nearest reference,
    and the matched n-grams of 1 to 4 words.
    """

    option = "bleu"
    names = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4")
    statistics = 6

    def score(self, references: Tokens, captions: Tokens) -> MetricScores:
        """Score one caption per image; see :meth:`Metric.score`."""
        scorer = BleuScorer(n=ORDERS)
        for image_id, (caption,) in captions.items():
            scorer += (caption, references[image_id])
        corpus, each = scorer.compute_score(option="closest")
        statistics = []
        for counts in scorer.ctest:
            length = counts["testlen"]
            nearest = min(counts["reflen"], key=lambda other: (abs(other - length), other))
            statistics.append([length, nearest, *counts["correct"]])
        return MetricScores(
            dict(zip(self.names, corpus, strict=True)),
            dict(zip(self.names, each, strict=True)),
            statistics,
        )

    def score_samples(
        self,
        references: Sequence[Sequence[str]],
        samples: Sequence[Sequence[str]],
        time_limit: float = TIME_LIMIT,
    ) -> dict[str, Floats]:
        """Score N captions per image, counting the n-grams of its references once."""
        pairs = zip(samples, references, strict=True)
        statistics = np.array([_matches(captions, known) for captions, known in pairs], float)
        scores = bleu(with_totals(statistics.reshape(-1, self.statistics)))
        scores = scores.reshape(*statistics.shape[:2], ORDERS)
        return {name: scores[..., k] for k, name in enumerate(self.names)}

    def additive(self, statistics: Floats) -> Floats:
        """Return the statistics with the number of n-grams of each caption."""
        return with_totals(statistics)

    def from_sums(self, sums: Floats) -> Floats:
        """Return BLEU of sums over images."""
        return bleu(sums)


METRIC = BleuMetric()


def with_totals(statistics: Floats) -> Floats:
    """Insert the number of n-grams of each caption between its lengths and its matches.

    :param statistics: (P, 6) as in :class:`BleuMetric`
    :returns: (P, 10): length, reference length, n-grams of 1 to 4 words, matches of 1 to 4 words
    """
    length = statistics[:, :1]
    totals = np.maximum(length - np.arange(ORDERS), 0.0)
    return np.hstack((statistics[:, :2], totals, statistics[:, 2:]))


def bleu(sums: Floats) -> Floats:
    """Return BLEU-1 to BLEU-4 (Papineni 2002) with pycocoevalcap's guards. (..., 10) -> (..., 4)

    :param sums: of the rows of :func:`with_totals`
    """
    precision = (sums[..., 6:] + TINY) / (sums[..., 2:6] + SMALL)
    geometric = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, 5))
    ratio = (sums[..., 0] + TINY) / (sums[..., 1] + SMALL)
    # The penalty of an empty caption is exp(-10^15) = 0; the minimum keeps exp from overflowing.
    penalty = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return geometric * penalty[..., None]


def _matches(captions: Sequence[str], references: Sequence[str]) -> list[list[int]]:
    """Return the statistics of each of N captions of an image. (N, 6)"""
    allowed: dict[Ngram, int] = {}
    for reference in references:
        for order in ngrams(reference):
            for gram, times in order.items():
                allowed[gram] = max(allowed.get(gram, 0), times)
    lengths = [len(reference.split()) for reference in references]
    rows = []
    for caption in captions:
        length = len(caption.split())
        nearest = min((abs(other - length), other) for other in lengths)[1]
        found = [
            sum(min(times, allowed.get(gram, 0)) for gram, times in order.items())
            for order in ngrams(caption)
        ]
        rows.append([length, nearest, *found])
    return rows
