"""The nouns that the prior of `ag-cvae` is a sum over."""

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from multispace.data.batches import Pairs
from multispace.data.cache.vocabulary import Vocabulary
from multispace.data.language.phrases import LEXICON
from multispace.data.language.words import bare


def noun_clusters(vocabulary: Vocabulary, pairs: Pairs, most: int) -> Tensor:
    """Return the cluster that each word of the vocabulary names, int64 (V,), -1 for none.

    A cluster is a noun of :mod:`language.nouns` with its plural, without its synonyms; the
    ``most`` that the captions of ``pairs`` name most often are kept, the commonest first. Where
    they name fewer, the clusters that are left stay empty.
    """
    nouns = [LEXICON.nouns.get(bare(word)) for word in vocabulary.words]
    counts = np.bincount(pairs.captions.tokens, minlength=len(nouns))
    said: Counter[str] = Counter()
    for noun, count in zip(nouns, counts.tolist(), strict=True):
        if noun is not None:
            said[noun] += count
    cluster = {noun: place for place, (noun, _) in enumerate(said.most_common(most))}
    return torch.tensor([-1 if noun is None else cluster.get(noun, -1) for noun in nouns])
