"""The words that distinguish the captions of a category from all other captions."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import SPECIALS, Vocabulary
from multispace.data.language.words import bare

Numbers = npt.NDArray[np.int64]

MIN_Z = 1.96  # the two-sided 5 % level of the normal distribution


@dataclass(frozen=True)
class CaptionWords:
    """The words of M captions in lower case, without punctuation and unknown words.

    :param captions: the caption of each of the N words, 0 to M - 1, (N,)
    :param words: indices into ``names``, (N,)
    """

    captions: Numbers
    words: Numbers
    names: tuple[str, ...]


@dataclass(frozen=True)
class TellingWord:
    """A word that a category has more often than the other captions, and its z-score."""

    word: str
    z: float
    count: int  # in the captions of the category


def caption_words(pairs: Pairs, vocabulary: Vocabulary, captions: Numbers) -> CaptionWords:
    """Return the words of captions.

    :param captions: M caption numbers
    """
    lengths = pairs.lengths[captions] - 1  # without EOS
    of_token = np.repeat(np.arange(len(captions)), lengths)
    place = np.arange(len(of_token)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    tokens = pairs.tokens[pairs.starts[captions][of_token] + 1 + place]  # BOS is at the start
    folded = ["" if i < len(SPECIALS) else bare(word) for i, word in enumerate(vocabulary.words)]
    names, name_of = np.unique(folded, return_inverse=True)
    words = name_of[tokens]
    kept = names[words] != ""
    return CaptionWords(of_token[kept], words[kept], tuple(names.tolist()))


class LogOdds(NamedTuple):
    """The pairs of a group and a word that occur, by group and word, and their z-scores."""

    groups: Numbers  # (E,)
    words: Numbers  # (E,)
    counts: Numbers  # (E,)
    z: npt.NDArray[np.float64]  # (E,)


def log_odds(groups: Numbers, words: Numbers) -> LogOdds:
    """Compare the frequency of each word in a group with that in all other groups.

    The score is z = delta / sigma, the difference of log odds with an informative Dirichlet prior
    (Monroe, Colaresi & Quinn 2008). The prior of a word is proportional to its frequency in all
    groups. The prior has as many pseudo-counts as a group has words on average.

    :param groups: the group of each of N words, (N,)
    :param words: (N,)
    :returns: nothing if there is only one group or one word
    """
    size = int(words.max(initial=0)) + 1
    pairs, counts = np.unique(groups * size + words, return_counts=True)
    group, word = np.divmod(pairs, size)
    of_word, of_group = np.bincount(words, minlength=size), np.bincount(groups)
    total, in_use = len(words), np.count_nonzero(of_group)
    if in_use < 2 or np.count_nonzero(of_word) < 2:
        return LogOdds(group[:0], word[:0], counts[:0], np.empty(0))
    prior_size = total / in_use
    prior = prior_size * of_word[word] / total
    here, there = counts + prior, of_word[word] - counts + prior
    all_here, all_there = of_group[group] + prior_size, total - of_group[group] + prior_size
    delta = np.log(here / (all_here - here)) - np.log(there / (all_there - there))
    return LogOdds(group, word, counts, delta / np.sqrt(1 / here + 1 / there))


def telling_words(
    categories: Numbers, found: CaptionWords, count: int
) -> dict[int, list[TellingWord]]:
    """Return the words of each category with the highest z-scores, at least 1.96.

    :param categories: of the M captions, (M,)
    :param count: maximum number of words of a category
    :returns: by category; a category that no word distinguishes is left out
    """
    group, word, counts, z = log_odds(categories[found.captions], found.words)
    order = np.lexsort((word, -z, group))
    order = order[z[order] >= MIN_Z]
    rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
    order = order[rank < count]
    telling: dict[int, list[TellingWord]] = {}
    for i in order.tolist():
        telling.setdefault(int(group[i]), []).append(
            TellingWord(found.names[word[i]], float(z[i]), int(counts[i]))
        )
    return telling
