"""The variational baseline: one Gaussian latent with an annealed KL."""

from torch import Tensor

from multispace.model.encoder import Words
from multispace.model.latent.distributions import DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.annealed import Annealed
from multispace.model.systems.captioner import Captioner, read_gaussian


class Gaussian(Captioner):
    """What `latent` and `beta-cvae` share: q(z | v), a Gaussian, is all that the decoder reads."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size)
        self.z_parameters = read_gaussian(options)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v)."""
        parameters = self.z_parameters(self.standardise(features))
        return Posterior(z=DiagonalGaussian.from_parameters(parameters))


class Latent(Gaussian, Annealed):
    """The variational baseline: one Gaussian, its KL annealed by a weight."""
