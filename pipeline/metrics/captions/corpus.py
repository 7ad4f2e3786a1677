"""Corpus scores of weighted images, from what each image adds to them.

CIDEr (its document frequencies being those of all references) and ROUGE-L are means over
images. BLEU and METEOR are not: both are functions of statistics summed over images, so a
weighted set of images has the score of its weighted sums, and no mean of sentence scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multispace.pipeline.metrics.captions.coco_metrics import BLEU_NAMES

Floats = NDArray[np.float64]

MEANS = ("ROUGE_L", "CIDEr")
SMALL, TINY = 1e-9, 1e-15  # pycocoevalcap's guards against divisions by 0 and logarithms of 0
BLEU_SIZE = 6  # length, length of the nearest reference, matches of 1 to 4 words
METEOR_SIZE = 23
CHUNKS = 20  # in METEOR's statistics
# METEOR 1.5, English, task "rank" (Denkowski & Lavie 2014, table 1).
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


@dataclass(frozen=True)
class ImageScores:
    """What P images add to each corpus score.

    :param means: (P, len(names)), of the metrics in ``names`` that are means over images
    :param bleu: (P, 6) as :class:`coco_metrics.Scores` has it, or (P, 0)
    :param meteor: (P, 23), the statistics that METEOR prints, or (P, 0)
    """

    names: tuple[str, ...]
    means: Floats
    bleu: Floats
    meteor: Floats

    @classmethod
    def from_entries(cls, entries: Sequence[Mapping[str, Any]]) -> "ImageScores":
        """Read the entries of ``per_image.json``; scores without statistics are left out.

        :raises KeyError, ValueError, TypeError: entries that are not alike.
        """
        first = entries[0]
        names = tuple(name for name in MEANS if name in first)
        means = [[float(entry[name]) for name in names] for entry in entries]
        blocks = {}
        for name, size in (("bleu", BLEU_SIZE), ("meteor", METEOR_SIZE)):
            size = size if name in first.get("statistics", {}) else 0
            rows = [entry["statistics"][name] if size else [] for entry in entries]
            blocks[name] = np.array(rows, float).reshape(len(entries), size)
        return cls(names, np.array(means).reshape(len(entries), len(names)), **blocks)

    def totals(self) -> dict[str, float]:
        """Return the scores of the set itself."""
        return {k: float(v) for k, v in self.corpus(np.ones(len(self.means))).items()}

    def corpus(self, weights: Floats) -> dict[str, Floats]:
        """Return each score of the images taken ``weights`` times.

        :param weights: (..., P), not all 0; ones give the score of the set itself.
        :return: by pycocoevalcap's name, (...)
        """
        scores: dict[str, Floats] = {}
        if self.bleu.size:
            values = bleu(weights @ with_guesses(self.bleu))
            scores.update({name: values[..., k] for k, name in enumerate(BLEU_NAMES)})
        if self.meteor.size:
            scores["METEOR"] = meteor(weights @ without_whole(self.meteor))
        means = weights @ self.means / weights.sum(-1, keepdims=True)
        return scores | {name: means[..., k] for k, name in enumerate(self.names)}


def with_guesses(statistics: Floats) -> Floats:
    """Put how many n-grams each caption has between its lengths and its matches.

    :param statistics: (P, 6)
    :return: (P, 10): length, reference length, n-grams of 1 to 4 words, matches of 1 to 4
    """
    length = statistics[:, :1]
    return np.hstack((statistics[:, :2], np.maximum(length - np.arange(4), 0.0), statistics[:, 2:]))


def bleu(sums: Floats) -> Floats:
    """Return BLEU-1 to BLEU-4 (Papineni 2002) with pycocoevalcap's guards. (..., 10) -> (..., 4)

    :param sums: of :func:`with_guesses`
    """
    precision = (sums[..., 6:] + TINY) / (sums[..., 2:6] + SMALL)
    geometric = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, 5))
    ratio = (sums[..., 0] + TINY) / (sums[..., 1] + SMALL)
    # an empty caption's penalty is exp(-10^15) = 0, and not a failure
    penalty = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return geometric * penalty[..., None]


def without_whole(statistics: Floats) -> Floats:
    """Count no chunk for captions that match in one piece, as METEOR does in sums. (P, 23)"""
    summed = statistics.copy()
    summed[_whole(statistics), CHUNKS] = 0
    return summed


def meteor(statistics: Floats) -> Floats:
    """Return METEOR 1.5 (Denkowski & Lavie 2014) of its statistics. (..., 23) -> (...)

    The columns are: words and function words of caption and reference (caption, reference,
    caption, reference), then, for each matcher, matched content words of both and matched
    function words of both, then chunks and matched words of both.
    """
    length, other, function, other_function = np.moveaxis(statistics[..., :4], -1, 0)
    matches = statistics[..., 4:CHUNKS].reshape(*statistics.shape[:-1], 4, 4)
    content, other_content, small, other_small = np.moveaxis(
        np.einsum("...mk,m->...k", matches, MATCHERS), -1, 0
    )
    precision = _share(content, small, length, function)
    recall = _share(other_content, other_small, other, other_function)
    product = precision * recall
    mean = _divide(product, ALPHA * precision + (1 - ALPHA) * recall)
    matched = (statistics[..., 21] + statistics[..., 22]) / 2
    fragments = np.where(_whole(statistics), 0.0, _divide(statistics[..., CHUNKS], matched))
    return mean * (1 - GAMMA * fragments**BETA)


def _whole(statistics: Floats) -> NDArray[np.bool_]:
    same = statistics[..., 21:23] == statistics[..., :2]
    return same.all(-1) & (statistics[..., CHUNKS] == 1)


def _share(content: Floats, small: Floats, length: Floats, function: Floats) -> Floats:
    """Return the matched share of the words, content words counting three times the others."""
    whole = DELTA * (length - function) + (1 - DELTA) * function
    return _divide(DELTA * content + (1 - DELTA) * small, whole)


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above, dtype=float), where=below != 0)
