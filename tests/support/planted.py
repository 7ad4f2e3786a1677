"""Systems whose latents and words are known, over images that each say one word of their own."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from multispace.data.batches import Pairs, load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.captions.vocabulary import Vocabulary
from multispace.model.encoder import Words
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from support import rows

WORDS = ("apple", "bear", "cloud", "door", "egg")
STRENGTH = 5.0  # logit of the word that a latent stands for


def one_word_pairs(root: Path) -> tuple[Pairs, Vocabulary]:
    """Return five images, their features one-hot, with a caption of one word each."""
    captions = {"test": {f"{word}.jpg": (word,) for word in WORDS}}
    with write_cache(root) as writer:
        rows.put_text(writer, captions)
        rows.append(writer, list(captions["test"]))
    cache = Cache.open(root)
    return replace(load_pairs(cache, "test"), features=torch.eye(len(WORDS))), cache.vocabulary()


class Speaker(nn.Module):
    """A decoder whose logits are a linear function of the condition, whatever was said."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.output_weight = weight  # (V, C)
        self.output = SimpleNamespace(bias=torch.zeros(len(weight)))

    def outputs(self, condition: Tensor, inputs: Tensor, batch_sizes: tuple[int, ...]) -> Tensor:
        """Return the condition of each token."""
        return torch.cat([condition[:count] for count in batch_sizes])


class Planted(nn.Module):
    """z, c or both name the image: a one-hot mean, a certain category.

    :param heard: the channels that the decoder heeds
    """

    reads_captions = False
    feature_mean = torch.zeros(len(WORDS))
    options = SimpleNamespace(system="multispace")

    def __init__(self, vocabulary: Vocabulary, *, has: str = "zc", heard: str = "zc") -> None:
        super().__init__()
        self.has = has
        word = torch.zeros(len(vocabulary), len(WORDS))
        for place, text in enumerate(WORDS):
            word[vocabulary.encode(text)[0], place] = STRENGTH
        read = {"z": word, "c": word / len(WORDS) ** 0.5}  # c is read times sqrt(K)
        weight = torch.cat([read[channel] * (channel in heard) for channel in has], dim=1)
        self.decoder = Speaker(weight)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return what is planted for images, features one-hot (B, 5)."""
        z = DiagonalGaussian(features, torch.full_like(features, -6.0))
        c = Categoricals.from_parameters(30 * features, (len(WORDS),))
        return Posterior(z if "z" in self.has else None, c if "c" in self.has else None)
