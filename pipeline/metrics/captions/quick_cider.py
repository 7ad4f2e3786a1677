"""CIDEr of a split without Java: quick enough for each epoch of a training."""

from collections.abc import Sequence

import numpy as np

from multispace.data.batches import Pairs
from multispace.data.language.words import bare
from multispace.pipeline.metrics.captions.tfidf import TfIdf


def quick_cider(pairs: Pairs, *captions: Sequence[str]) -> list[float]:
    """Return the CIDEr-D of each set of captions, over lower-cased words split at white space.

    Compare it with other values of this function only: the official score reads Penn Treebank
    tokens.

    :param pairs: the split, with its references
    :param captions: sets of one caption per image, in the order of ``pairs.images``
    """
    references = pairs.captions.references()
    ids = [pairs.captions.image_ids[image] for image in pairs.images]
    known = [[plain_tokens(text) for text in references[i]] for i in ids]
    weights = TfIdf(known)
    scores = [
        weights.cider_d([plain_tokens(text) for text in texts], of_image)
        for *texts, of_image in zip(*captions, known, strict=True)
    ]
    return [float(mean) for mean in np.mean(scores, axis=0)]


def plain_tokens(text: str) -> str:
    """Return lower-cased words without punctuation, joined by spaces, as the other tokens are."""
    return " ".join(word for w in text.split() if (word := bare(w)))
