"""Vectors of the n-grams of captions, for many captions of an image at once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.captions.ngrams import ORDERS, Ngram, ngrams

SIGMA = 6.0  # std of CIDEr-D's length penalty, in words


class NgramVectors:
    """Counts of n-grams. All n-grams have the same weight, so that no statistics are needed."""

    def weights(self, grams: Sequence[Ngram]) -> Floats:
        """Return the factor on the count of each n-gram. (G,)"""
        return np.ones(len(grams))

    def vectors(self, captions: Sequence[str]) -> tuple[Floats, ...]:
        """Return one matrix for each of the 4 orders, a row per caption. (N, G_order)"""
        counts = [ngrams(caption) for caption in captions]
        found = []
        for order in range(ORDERS):
            place = {gram: i for i, gram in enumerate({g for c in counts for g in c[order]})}
            matrix = np.zeros((len(captions), len(place)))
            for row, count in zip(matrix, counts, strict=True):
                for gram, times in count[order].items():
                    row[place[gram]] = times
            found.append(matrix * self.weights([*place]))
        return tuple(found)

    def similarities(self, captions: Sequence[str], references: Sequence[str]) -> Floats:
        """Return the similarity of each of N captions with each of M references. (N, M)

        It is that of CIDEr-D with one reference: the mean over the orders of the cosines, where
        no count is larger than the reference's, times 10 and a penalty for other lengths.
        """
        count = len(captions)
        texts = [*captions, *references]
        cosines = np.zeros((count, len(references)))
        for matrix in self.vectors(texts):
            known = matrix[count:]
            clipped = np.array([(np.minimum(row, known) * known).sum(-1) for row in matrix[:count]])
            norms = np.linalg.norm(matrix, axis=1)
            cosines += _over(clipped, norms[:count, None] * norms[count:]) / ORDERS
        # pycocoevalcap takes the number of pairs of words as the length.
        lengths = np.array([max(0, len(text.split()) - 1) for text in texts], float)
        apart = lengths[:count, None] - lengths[count:]
        return 10 * cosines * np.exp(-(apart**2) / (2 * SIGMA**2))


class TfIdf(NgramVectors):
    """CIDEr's TF-IDF vectors of captions, with the document frequencies of ``references``.

    A document is the references of one image. An n-gram that is in none of them counts as if it
    were in one (Vedantam 2015, as in pycocoevalcap).

    :param references: of each image, as tokens
    :param scored: the captions that will be compared, if the n-grams of no others need counting;
        many references then take little memory
    """

    def __init__(
        self, references: Sequence[Sequence[str]], scored: Iterable[str] | None = None
    ) -> None:
        wanted = None if scored is None else {gram for text in scored for gram in _grams(text)}
        self._documents: Counter[Ngram] = Counter()
        for captions in references:
            found = {gram for caption in captions for gram in _grams(caption)}
            self._documents.update(found if wanted is None else found & wanted)
        self._log_images = float(np.log(len(references)))

    def weights(self, grams: Sequence[Ngram]) -> Floats:
        """Return the inverse document frequency of each n-gram. (G,)"""
        documents = np.array([max(1, self._documents[gram]) for gram in grams], float)
        return self._log_images - np.log(documents)

    def kernel(self, captions: Sequence[str]) -> Floats:
        """Return the similarity of each pair of captions: CIDEr / 10, from 0 to 1. (N, N)

        It is the mean over the orders of the cosines (CIDEr, not CIDEr-D), so the matrix is
        symmetric and has no negative eigenvalue.
        """
        kernel = np.zeros((len(captions), len(captions)))
        for matrix in self.vectors(captions):
            rows = _over(matrix, np.linalg.norm(matrix, axis=1, keepdims=True))
            kernel += rows @ rows.T / ORDERS
        return kernel

    def cider_d(self, captions: Sequence[str], references: Sequence[str]) -> Floats:
        """Return CIDEr-D of each of N captions of an image, as pycocoevalcap does. (N,)"""
        return self.similarities(captions, references).mean(1)


def _grams(caption: str) -> Iterator[Ngram]:
    return chain.from_iterable(ngrams(caption))


def _over(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
