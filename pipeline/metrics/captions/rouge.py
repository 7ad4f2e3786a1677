"""ROUGE-L (Lin 2004) as pycocoevalcap computes it."""

from collections.abc import Sequence

import numpy as np
from pycocoevalcap.rouge.rouge import Rouge

from multispace.pipeline.metrics.captions.metric import (
    TIME_LIMIT,
    Floats,
    Metric,
    MetricScores,
    Tokens,
)

BETA = 1.2  # pycocoevalcap's weight of recall


class RougeMetric(Metric):
    """ROUGE-L: the F score of the longest common subsequence."""

    option = "rouge"
    names = ("ROUGE_L",)

    def score(self, references: Tokens, captions: Tokens) -> MetricScores:
        """Score one caption per image; see :meth:`Metric.score`."""
        _, each = Rouge().compute_score(references, captions)
        # Without this, an empty caption would match an empty reference perfectly.
        scores = [
            float(score) if caption else 0.0
            for score, (caption,) in zip(each, captions.values(), strict=True)
        ]
        return MetricScores({"ROUGE_L": float(np.mean(scores))}, {"ROUGE_L": scores})

    def score_samples(
        self,
        references: Sequence[Sequence[str]],
        samples: Sequence[Sequence[str]],
        time_limit: float = TIME_LIMIT,
    ) -> dict[str, Floats]:
        """Score N captions per image, indexing the words of its references once."""
        pairs = zip(samples, references, strict=True)
        return {"ROUGE_L": np.array([rouge(captions, known) for captions, known in pairs])}


METRIC = RougeMetric()


def rouge(captions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return ROUGE-L of each caption of an image.

    Precision and recall are each the best over the references; a caption without a word scores 0.
    """
    known = [reference.split() for reference in references]
    places = [_places(words) for words in known]
    scores = []
    for caption in captions:
        words = caption.split()
        common = [_common(words, p, len(k)) for p, k in zip(places, known, strict=True)]
        precision = max(common) / max(1, len(words))
        recall = max(c / max(1, len(k)) for c, k in zip(common, known, strict=True))
        product = (1 + BETA**2) * precision * recall
        scores.append(product / (recall + BETA**2 * precision) if product else 0.0)
    return scores


def _places(words: Sequence[str]) -> dict[str, int]:
    """Return, for each word, a number whose bits are the positions of the word."""
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    return places


def _common(words: Sequence[str], places: dict[str, int], length: int) -> int:
    """Return the length of the longest common subsequence, by bits (Hyyrö 2004)."""
    whole = (1 << length) - 1
    row = whole
    for word in words:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & whole
    return length - row.bit_count()
