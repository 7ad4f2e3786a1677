"""Scores of N captions an image, one by one, and the best that an oracle would choose."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multispace.pipeline.metrics.captions.cider import ORDERS, Cider, Ngram, ngrams
from multispace.pipeline.metrics.captions.coco_metrics import (
    BLEU_NAMES,
    NAMES,
    TIME_LIMIT,
    meteor_of_samples,
)
from multispace.pipeline.metrics.captions.corpus import bleu, with_guesses

Floats = NDArray[np.float64]

ROUGE_BETA = 1.2  # pycocoevalcap's
NOTES = (
    "best: each metric's best sample of an image, chosen by its references, averaged over "
    "pictures; no system can choose so. mean: of the samples of an image, averaged likewise",
    "BLEU of best and mean is that of single captions, and does not compare with that of a set",
)
CONSENSUS_NOTE = (
    "consensus: the sample with the highest mean CIDEr to its image's other samples (Devlin "
    "2015, without captions of neighbours), scored as captions of the set; it sees no reference, "
    "but for the document frequencies"
)


def score_samples(
    references: Sequence[Sequence[str]],
    samples: Sequence[Sequence[str]],
    metrics: Sequence[str],
    time_limit: float = TIME_LIMIT,
) -> dict[str, Floats]:
    """Return the score of each sample by pycocoevalcap's names. (P, N)

    They are what pycocoevalcap gives an image, without computing anew for each sample what
    depends on the references alone.

    :param references: of each of P images, one or more, as tokens
    :param samples: N of each image, as tokens
    :param metrics: of METRICS; METEOR sends every sample to Java

    Raises JavaError.
    """
    columns: dict[str, Floats] = {}
    pairs = list(zip(samples, references, strict=True))
    if "bleu" in metrics:
        statistics = np.array([_matches(captions, known) for captions, known in pairs], float)
        scores = bleu(with_guesses(statistics.reshape(-1, statistics.shape[-1])))
        scores = scores.reshape(*statistics.shape[:2], ORDERS)
        columns.update({name: scores[..., k] for k, name in enumerate(BLEU_NAMES)})
    if "rouge" in metrics:
        columns["ROUGE_L"] = np.array([rouge(captions, known) for captions, known in pairs])
    if "cider" in metrics:
        cider = Cider(references)
        columns["CIDEr"] = np.array([cider.scores(captions, known) for captions, known in pairs])
    if "meteor" in metrics:
        columns["METEOR"] = np.array(meteor_of_samples(references, samples, time_limit))
    return {name: columns[name] for name in NAMES if name in columns}


def rouge(captions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return ROUGE-L (Lin 2004) of each caption of an image, as pycocoevalcap.

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
        above = (1 + ROUGE_BETA**2) * precision * recall
        scores.append(above / (recall + ROUGE_BETA**2 * precision) if above else 0.0)
    return scores


def _matches(captions: Sequence[str], references: Sequence[str]) -> list[list[int]]:
    """Return BLEU's statistics of each caption: (N, 6) as in ``Scores.statistics``."""
    most: dict[Ngram, int] = {}
    for reference in references:
        for order in ngrams(reference):
            for gram, times in order.items():
                most[gram] = max(most.get(gram, 0), times)
    lengths = [len(reference.split()) for reference in references]
    rows = []
    for caption in captions:
        length = len(caption.split())
        nearest = min((abs(other - length), other) for other in lengths)[1]
        found = [
            sum(min(times, most.get(gram, 0)) for gram, times in order.items())
            for order in ngrams(caption)
        ]
        rows.append([length, nearest, *found])
    return rows


def _places(words: Sequence[str]) -> dict[str, int]:
    """Return, for each word, a number whose bits are its places."""
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
