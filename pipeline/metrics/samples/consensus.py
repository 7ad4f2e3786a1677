"""Choose the caption of an image that is most like its samples, without references."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from multispace.pipeline.console.progress import DELAY, Progress
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.captions.quick_cider import plain_tokens
from multispace.pipeline.metrics.captions.tfidf import NgramVectors, TfIdf

DIGITS = 9  # sums of equal numbers in another order may differ in their last digits


def consensus(
    candidates: Sequence[Sequence[str]],
    training: Sequence[Sequence[str]],
    probabilities: Sequence[Floats] | None = None,
) -> list[int]:
    """Return the index of the consensus among the candidates of each image.

    The similarity of two captions is CIDEr-D with the document frequencies of the training
    captions, over lower-cased words split at white space. Without probabilities the consensus is
    the candidate with the highest mean similarity to the others (Devlin 2015, without captions of
    neighbours). With probabilities it is the candidate with the highest expected similarity to a
    candidate that is drawn by them, itself included. Ties go to the first.

    :param candidates: of each of P images, as text
    :param training: the captions of each training image, as text
    :param probabilities: of the candidates of each image, (N,) each
    """
    texts = [[plain_tokens(text) for text in group] for group in candidates]
    known = [[plain_tokens(text) for text in group] for group in training]
    similarity = TfIdf(known, scored=(text for group in texts for text in group))
    rows: Sequence[Floats | None] = probabilities or [None] * len(texts)
    chosen = []
    with Progress(len(texts), "images", "consensus", delay=DELAY) as progress:
        for pair in zip(texts, rows, strict=True):
            chosen.append(_most_similar(similarity, *pair))
            progress.advance()
    return chosen


def reranked(hypotheses: Sequence[Sequence[str]], samples: Sequence[Sequence[str]]) -> list[int]:
    """Return the index of the hypothesis of each image that is most like its samples.

    Minimum Bayes risk decoding (Kumar & Byrne 2004): the samples stand for what people may write,
    and the chosen hypothesis has the highest mean similarity to them. The similarity is that of
    CIDEr-D with equal weights of all n-grams, over lower-cased words split at white space. It
    needs no captions but these. Ties go to the first hypothesis.

    :param hypotheses: of each of P images, as text
    :param samples: of each image, as text
    """
    similarity = NgramVectors()
    chosen = []
    for texts, drawn in zip(hypotheses, samples, strict=True):
        distinct = Counter(plain_tokens(text) for text in drawn)
        each = similarity.similarities([plain_tokens(text) for text in texts], [*distinct])
        scores = each @ np.array([*distinct.values()])
        chosen.append(int(np.argmax(np.round(scores, DIGITS))))
    return chosen


def _most_similar(similarity: TfIdf, texts: Sequence[str], probabilities: Floats | None) -> int:
    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    places = np.array([distinct[text] for text in texts])
    each = similarity.similarities([*distinct], [*distinct])
    if probabilities is None:
        scores = each @ np.bincount(places) - np.diag(each)
    else:
        scores = each @ np.bincount(places, weights=probabilities)
    # Distinct captions are in the order of their first candidates.
    best = int(np.argmax(np.round(scores, DIGITS)))
    return int(np.argmax(places == best))
