"""CIDEr's word groups and their weights, for many captions of an image at once."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ngram = tuple[str, ...]

ORDERS = 4
SIGMA = 6.0  # of CIDEr-D's penalty on lengths, in words


def ngrams(caption: str) -> tuple[Counter[Ngram], ...]:
    """Count the groups of 1 to 4 words of a caption, given as tokens joined by spaces."""
    words = caption.split()
    return tuple(
        Counter(zip(*(words[start:] for start in range(order)), strict=False))
        for order in range(1, ORDERS + 1)
    )


class Cider:
    """TF-IDF vectors of captions; the inverse document frequencies come from ``references``.

    A document is the references of one image; an n-gram in none of them counts as in one
    (Vedantam 2015, as pycocoevalcap has it).

    :param references: of each image, as tokens
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self._documents = Counter(
            gram
            for captions in references
            for gram in {g for caption in captions for order in ngrams(caption) for g in order}
        )
        self._log_images = float(np.log(len(references)))

    def vectors(self, captions: Sequence[str]) -> tuple[Floats, ...]:
        """Return, for each of the 4 orders, a row of weights a caption. (N, G_order)"""
        counts = [ngrams(caption) for caption in captions]
        found = []
        for order in range(ORDERS):
            place = {gram: i for i, gram in enumerate({g for c in counts for g in c[order]})}
            matrix = np.zeros((len(captions), len(place)))
            for row, count in zip(matrix, counts, strict=True):
                for gram, times in count[order].items():
                    row[place[gram]] = times
            documents = np.array([max(1, self._documents[gram]) for gram in place], float)
            found.append(matrix * (self._log_images - np.log(documents)))
        return tuple(found)

    def kernel(self, captions: Sequence[str]) -> Floats:
        """Return the likeness of each two captions: CIDEr over 10, from 0 to 1. (N, N)

        This is the mean over the orders of the cosines (CIDEr, not CIDEr-D), so the matrix is
        symmetric and has no negative eigenvalue.
        """
        kernel = np.zeros((len(captions), len(captions)))
        for matrix in self.vectors(captions):
            rows = _over(matrix, np.linalg.norm(matrix, axis=1, keepdims=True))
            kernel += rows @ rows.T / ORDERS
        return kernel

    def scores(self, captions: Sequence[str], references: Sequence[str]) -> Floats:
        """Return CIDEr-D of each of N captions of an image, as pycocoevalcap. (N,)"""
        count = len(captions)
        texts = [*captions, *references]
        cosines = np.zeros((count, len(references)))
        for matrix in self.vectors(texts):
            hypotheses, known = matrix[:count, None], matrix[None, count:]
            clipped = (np.minimum(hypotheses, known) * known).sum(-1)
            norms = np.linalg.norm(matrix, axis=1)
            cosines += _over(clipped, norms[:count, None] * norms[count:]) / ORDERS
        # pycocoevalcap takes the number of pairs of words for the length
        lengths = np.array([max(0, len(text.split()) - 1) for text in texts], float)
        apart = lengths[:count, None] - lengths[count:]
        return 10 * (cosines * np.exp(-(apart**2) / (2 * SIGMA**2))).mean(1)


def _over(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
