"""One Gaussian latent with a KL capacity."""

from torch import Tensor

from multispace.model.encoder import Words
from multispace.model.latent.distributions import DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.capacities import CapacityControlled
from multispace.model.systems.layers import gaussian_layer


class BetaCVAE(CapacityControlled):
    """`multispace` without c: one Gaussian held at one capacity, Burgess 2018."""

    has_c = False

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size)
        self.z_parameters = gaussian_layer(options)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v)."""
        parameters = self.z_parameters(self.standardise(features))  # (B, 2 z_size)
        return Posterior(z=DiagonalGaussian.from_parameters(parameters))
