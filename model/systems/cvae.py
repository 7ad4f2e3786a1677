"""The conditional VAE."""

from torch import Tensor

from multispace.model.encoder import Words
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.annealed import Annealed
from multispace.model.systems.conditional import Conditional


class CVAE(Conditional, Annealed):
    """The conditional variational autoencoder, Sohn 2015, with an annealed KL."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v, w); without captions, the prior."""
        standard = self.standardise(features)
        return Posterior(z=self.gaussian(standard, words), image=self.embed(standard))
