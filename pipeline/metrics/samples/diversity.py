"""How much captions differ: the N samples of an image, and the single captions of a split.

Captions are tokens joined by single spaces, as :func:`ptb.tokenize` returns them.
"""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Any

import numpy as np

from multispace.pipeline.console.progress import Progress
from multispace.pipeline.metrics.captions.bleu import bleu, with_totals
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.captions.ngrams import ORDERS, Ngram, ngrams
from multispace.pipeline.metrics.captions.tfidf import TfIdf

COLUMNS = ("Div-1", "Div-2", "mBLEU-4", "self-CIDEr", "unique", "novel")
CORPUS_MBLEU = "mBLEU-4 (corpus)"
# Names in tables that differ from those on disk.
SHOWN: dict[str, str] = {"mBLEU-4": "mBLEU-4 (sentence)"}
ROUNDING = 1e-12  # eigenvalues below this are 0
NOTES = (
    "tokens are those of the metrics: Penn Treebank, lower case, without punctuation",
    "distinct: different captions over the split; words: different words in use",
    "novel: fraction of the captions that are not among the training captions, token by token",
)
SAMPLE_NOTES = (
    "Div-n: different n-grams divided by words of an image's samples; unique: different samples "
    "divided by samples of an image; both, like all below, averaged over images",
    "mBLEU-4 (sentence): pycocoevalcap's sentence BLEU-4 of each sample against the others of its "
    "image, averaged over samples and images; lower is more diverse",
    "mBLEU-4 (corpus): corpus BLEU-4 of the i-th samples of all images against the others of their "
    "images, averaged over i, as in the literature (Wang 2016; Luo 2020)",
    "self-CIDEr (Wang & Chan 2019): -log_N (sqrt l_1 / sum_i sqrt l_i), l the eigenvalues, largest "
    "first, of the N x N matrix of CIDEr between an image's samples; 0 for equal captions, 1 for "
    "captions that have nothing in common",
    "document frequencies of self-CIDEr: the references of the images of this split",
)


def caption_summary(captions: Sequence[str], training: AbstractSet[str]) -> dict[str, Any]:
    """Describe the single captions of a split's images.

    :param training: the training captions, in the same tokens
    """
    novel = sum(caption not in training for caption in captions)
    distinct = len(set(captions))
    return {
        "pictures": len(captions),
        "distinct": distinct,
        "distinct_share": distinct / len(captions),
        "novel": novel,
        "novel_share": novel / len(captions),
        "words": _words(captions),
    }


def sample_summary(
    samples: Sequence[Sequence[str]],
    siblings: Floats,
    kernels: Sequence[Floats],
    training: AbstractSet[str],
) -> tuple[dict[str, Any], Floats]:
    """Describe the N samples of each of P images.

    :param siblings: by :func:`sibling_statistics` of each image, (P, N, 6)
    :param kernels: CIDEr between the samples of each image, by :meth:`TfIdf.kernel`
    :returns: each of COLUMNS averaged over images, mBLEU-4 of the corpus, and the number of
        different words; COLUMNS of each image (P, 6)
    """
    each = np.array(
        [
            (
                div(captions, 1),
                div(captions, 2),
                sentence_bleu.mean(),
                self_cider(kernel),
                len(set(captions)) / len(captions),
                np.mean([caption not in training for caption in captions]),
            )
            for captions, sentence_bleu, kernel in zip(
                samples, sibling_bleu(siblings), kernels, strict=True
            )
        ]
    )
    means = dict(zip(COLUMNS, each.mean(0).tolist(), strict=True))
    words = _words([caption for captions in samples for caption in captions])
    return {**means, CORPUS_MBLEU: corpus_mbleu(siblings), "words": words}, each


def div(captions: Sequence[str], order: int) -> float:
    """Return the number of different n-grams divided by the words of an image's captions.

    It is 0 where no caption holds a word.

    :param order: n
    """
    words = sum(len(caption.split()) for caption in captions)
    different = {gram for caption in captions for gram in ngrams(caption)[order - 1]}
    return len(different) / words if words else 0.0


def sibling_bleu(statistics: Floats) -> Floats:
    """Return sentence BLEU-4 of each sample against the others of its image.

    :param statistics: of :func:`sibling_statistics`, (..., 6)
    :returns: (...)
    """
    rows = with_totals(statistics.reshape(-1, statistics.shape[-1]))
    return bleu(rows)[:, 3].reshape(statistics.shape[:-1])


class CorpusMBleu:
    """Corpus BLEU-4 of the i-th samples of all images, averaged over i.

    The references of a sample are the other samples of its image. This is the mBLEU-4 of the
    literature on diverse captions (Wang 2016; Luo 2020).

    :param statistics: of :func:`sibling_statistics` for each image, (P, N, 6)
    """

    def __init__(self, statistics: Floats) -> None:
        images, self._count, columns = statistics.shape
        self._rows = with_totals(statistics.reshape(-1, columns)).reshape(images, -1)

    def of(self, weights: Floats) -> Floats:
        """Return mBLEU-4 of the images taken ``weights`` times. (..., P) -> (...)"""
        sums = (weights @ self._rows).reshape(*weights.shape[:-1], self._count, -1)
        return bleu(sums)[..., 3].mean(-1)


def corpus_mbleu(statistics: Floats) -> float:
    """Return mBLEU-4 of :class:`CorpusMBleu` of the images, each taken once."""
    return float(CorpusMBleu(statistics).of(np.ones(len(statistics))))


def sibling_statistics(captions: Sequence[str]) -> Floats:
    """Return BLEU's statistics of each of two or more captions against the others. (N, 6)

    They are the length, the length of the nearest other caption, and the matched n-grams of 1 to
    4 words, as in :class:`BleuMetric`.
    """
    counts = [
        dict(chain.from_iterable(map(Counter.items, ngrams(caption)))) for caption in captions
    ]
    lengths = [len(caption.split()) for caption in captions]
    # The highest count among the others is one of the two highest counts among all.
    first: Counter[Ngram] = Counter()
    second: Counter[Ngram] = Counter()
    for count in counts:
        for gram, times in count.items():
            if times > first[gram]:
                first[gram], second[gram] = times, first[gram]
            else:
                second[gram] = max(second[gram], times)
    rows = []
    for row, count in enumerate(counts):
        matches = [0] * ORDERS
        for gram, times in count.items():
            others = second[gram] if times == first[gram] else first[gram]
            matches[len(gram) - 1] += min(times, others)
        siblings = lengths[:row] + lengths[row + 1 :]
        nearest = min(siblings, key=lambda other: (abs(other - lengths[row]), other))
        rows.append([lengths[row], nearest, *matches])
    return np.array(rows, float)


def self_cider(kernel: Floats) -> float:
    """Return self-CIDEr (Wang & Chan 2019) of a matrix of CIDEr between captions. (N, N), N > 1

    It is -log_N (sqrt l_1 / sum_i sqrt l_i) with the eigenvalues l, l_1 the largest: 0 where all
    captions are equal, 1 where no two have anything in common. It is 0 where all weights are 0.
    """
    values = np.linalg.eigvalsh(kernel)
    roots = np.sqrt(np.where(values > ROUNDING, values, 0.0))
    if not roots[-1]:
        return 0.0
    return float(np.log(roots.sum() / roots[-1]) / np.log(len(kernel)))


def kernels(samples: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> list[Floats]:
    """Return CIDEr between the samples of each image. (N, N) per image

    :param references: of each image, for the document frequencies
    """
    weights = TfIdf(references)
    found = []
    with Progress(len(samples), "images", "self-CIDEr") as progress:
        for captions in samples:
            found.append(weights.kernel(captions))
            progress.advance()
    return found


def _words(captions: Sequence[str]) -> int:
    return len({word for caption in captions for word in caption.split()})
