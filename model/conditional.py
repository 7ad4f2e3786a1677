"""Systems whose posterior sees the caption: z is what the picture leaves open.

In use there is no caption, and z comes from its prior; the decoder reads the picture beside it.
"""

import math

import torch
from torch import Tensor, nn

from model.encoder import Encoder, Words
from model.latents import DiagonalGaussian
from model.options import SystemOptions
from model.posterior import Posterior
from model.system import Annealed, read_features, read_gaussian


class CVAE(Annealed):
    """The conditional variational autoencoder, Sohn 2015: q(z | v, w), and N(0, I) as prior."""

    reads_captions = True

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size + options.embedding)
        self.embed = read_features(options, options.embedding)
        self.encoder = Encoder(
            embedding=options.embedding, hidden=options.hidden, cell=options.cell
        )
        self.z_parameters = read_gaussian(options)
        self.z_words = nn.Linear(options.hidden, 2 * options.z_size, bias=False)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v, w), and the prior, of --sample-deviation, where no words are given."""
        standard = self.standardise(features)
        if words is None:
            z = self._prior(len(features), standard)
        else:
            read = self.z_words(self.encoder(self.decoder.embedding, words))
            z = DiagonalGaussian.from_parameters(self.z_parameters(standard) + read)
        return self._placed(z, standard)

    def _prior(self, rows: int, like: Tensor) -> DiagonalGaussian:
        zeros = like.new_zeros(rows, self.options.z_size, dtype=torch.float32)
        return DiagonalGaussian(zeros, zeros + 2 * math.log(self.options.sample_deviation))

    def _placed(self, z: DiagonalGaussian, standard: Tensor) -> Posterior:
        """Return the posterior with what the decoder reads beside z."""
        return Posterior(z=z, picture=self.embed(standard))


class AGCVAE(CVAE):
    """A CVAE whose prior adds up, Wang 2017: N(sum_k c_k(v) m_k, sigma^2 I).

    A cluster k is a noun with a place m_k of its own, at length 1 in a random direction, and c(v)
    says which nouns captions of the picture name. Wang takes c from an object detector; here it
    is a softmax over the features, learnt beside the captions from the nouns that they name, and
    the captions' own loss does not move it. The posterior is told as its distance to the prior,
    in units of sigma.
    """

    cluster: Tensor
    places: Tensor

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options)
        self.nouns = read_features(options, options.clusters)
        directions = torch.randn(options.clusters, options.z_size)
        self.register_buffer("places", directions / directions.norm(dim=-1, keepdim=True))
        self.register_buffer("cluster", torch.full((options.words,), -1))

    def set_clusters(self, cluster: Tensor) -> None:
        """Set which cluster each word of the vocabulary names: int64 (V,), -1 for none."""
        self.cluster.copy_(cluster)

    def _placed(self, z: DiagonalGaussian, standard: Tensor) -> Posterior:
        nouns = self.nouns(standard).float().softmax(-1)
        return Posterior(
            z=z,
            centre=nouns.detach() @ self.places,
            deviation=self.options.prior_deviation,
            picture=self.embed(standard),
        )

    def _aside(self, features: Tensor, words: Words) -> Tensor:
        """Return -log c_k, averaged over the nouns k of a caption and over captions."""
        named = self.cluster[words.inputs]
        said = torch.zeros(len(features), len(self.places), device=features.device)
        said[words.captions()[named >= 0], named[named >= 0]] = 1.0
        said = said / said.sum(-1, keepdim=True).clamp(min=1)
        found = self.nouns(self.standardise(features)).float().log_softmax(-1)
        return -(said * found).sum(-1).mean()
