"""The joint continuous and discrete latent space of the paper."""

from torch import Tensor

from multispace.model.encoder import Words
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.capacities import CapacityControlled
from multispace.model.systems.layers import feature_layer, gaussian_layer

# With this spread most images start with a category of high probability, so that categories are
# random cells of the feature space. If all probabilities start alike, KL_c can reach its capacity
# with a few categories that serve all images.
SPREAD = 12.0


class Multispace(CapacityControlled):
    """Gaussian z and categorical c, each with its own capacity."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size + sum(options.categories))
        self.z_parameters = gaussian_layer(options)
        self.c_parameters = feature_layer(options, sum(options.categories), SPREAD)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z, c | v) = q(z | v) q(c | v)."""
        standard = self.standardise(features)
        return Posterior(
            z=DiagonalGaussian.from_parameters(self.z_parameters(standard)),
            c=Categoricals.from_parameters(self.c_parameters(standard), self.options.categories),
            scale_c=self.options.scale_c,
        )
