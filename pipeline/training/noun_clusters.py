"""The nouns that the prior of `ag-cvae` sums over."""

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.language.phrases import LEXICON
from multispace.data.language.words import bare


def noun_clusters(vocabulary: Vocabulary, pairs: Pairs, clusters: int) -> Tensor:
    """Return the cluster of each word of the vocabulary.

    A cluster is a noun of the lexicon in singular and plural, without synonyms. Cluster 0 is the
    most frequent noun in the captions, and so on.

    :param pairs: the training captions
    :param clusters: number of clusters; if the captions contain fewer nouns, the last clusters
        stay empty
    :returns: int64 (V,); -1 for words that belong to no cluster
    """
    nouns = [LEXICON.nouns.get(bare(word)) for word in vocabulary.words]
    counts = np.bincount(pairs.captions.tokens, minlength=len(nouns))
    frequency: Counter[str] = Counter()
    for noun, count in zip(nouns, counts.tolist(), strict=True):
        if noun is not None:
            frequency[noun] += count
    frequent = frequency.most_common(clusters)
    cluster = {noun: number for number, (noun, _) in enumerate(frequent)}
    return torch.tensor([-1 if noun is None else cluster.get(noun, -1) for noun in nouns])
