"""The joint space beside the image vector, with posteriors that read the caption."""

from torch import Tensor

from multispace.model.encoder import Words
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.capacities import CapacityControlled
from multispace.model.systems.conditional import Conditional
from multispace.model.systems.joint import CaptionCategories


class JointCVAE(Conditional, CapacityControlled):
    """A conditional VAE with the joint space: q(z | v, w) q(c | w), priors N(0, I) and p(c | v).

    The decoder reads e = W v in addition to [z ; c]. Both latents describe what the image leaves
    open, and both come from their priors for a new image. Latent dropout sets [z ; c] to zero for
    a fraction of the training captions.
    """

    dropped_channels = ("z", "c")

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size + sum(options.categories))
        self.categories = CaptionCategories(options)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v, w) q(c | w); without captions, the priors."""
        standard = self.standardise(features)
        return Posterior(
            z=self.gaussian(standard, words),
            c=self.categories(standard, words),
            image=self.embed(standard),
            scale_c=self.options.scale_c,
        )

    def auxiliary_loss(self, features: Tensor, words: Words, posterior: Posterior) -> Tensor:
        """Return the loss that trains p(c | v), in nats. ()"""
        return posterior.prior_loss_c()
