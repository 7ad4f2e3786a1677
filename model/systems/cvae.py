"""Systems whose posterior sees the caption: z is what the image leaves open.

In use there is no caption, and z comes from its prior; the decoder reads the image beside it.
"""

import math

import torch
from torch import Tensor, nn

from multispace.model.encoder import Encoder, Words
from multispace.model.latent.distributions import DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.annealed import Annealed
from multispace.model.systems.captioner import read_features, read_gaussian


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
        return Posterior(z=z, image=self.embed(standard))
