"""The conditional VAE: z describes what the image leaves open."""

import math

import torch
from torch import Tensor, nn

from multispace.model.encoder import Encoder, Words
from multispace.model.latent.distributions import DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.annealed import Annealed
from multispace.model.systems.layers import feature_layer, gaussian_layer


class CVAE(Annealed):
    """The conditional variational autoencoder, Sohn 2015: q(z | v, w) with the prior N(0, I).

    The decoder reads e = W v in addition to z. For a new image there is no caption, and z comes
    from its prior.
    """

    reads_captions = True

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size + options.embedding)
        self.embed = feature_layer(options, options.embedding)
        self.encoder = Encoder(
            embedding=options.embedding, hidden=options.hidden, cell=options.cell
        )
        self.z_parameters = gaussian_layer(options)
        self.z_words = nn.Linear(options.hidden, 2 * options.z_size, bias=False)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v, w); without captions, the prior with its std times --sample-deviation."""
        standard = self.standardise(features)
        if words is None:
            zeros = standard.new_zeros(len(standard), self.options.z_size)
            z = DiagonalGaussian(zeros, zeros + 2 * math.log(self.options.sample_deviation))
        else:
            from_words = self.z_words(self.encoder(self.decoder.embedding, words))
            z = DiagonalGaussian.from_parameters(self.z_parameters(standard) + from_words)
        return self.conditional(z, standard)

    def conditional(self, z: DiagonalGaussian, standard: Tensor) -> Posterior:
        """Return the posterior with the image vector that the decoder reads.

        :param standard: standardised features, (B, D)
        """
        return Posterior(z=z, image=self.embed(standard))
