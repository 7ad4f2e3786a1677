"""CNN + RNN: the image feature is the condition."""

from torch import Tensor

from multispace.errors import ModelError
from multispace.model.batch_partition import Partition
from multispace.model.encoder import Words
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.captioner import Captioner, Latents
from multispace.model.systems.layers import feature_layer


class Base(Captioner):
    """CNN + RNN, trained with teacher forcing. The condition is e = W v."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.embedding)
        self.embed = feature_layer(options, options.embedding)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return a posterior without channels."""
        return Posterior()

    def condition(self, features: Tensor, latents: Latents = "mode") -> Tensor:
        """Return e = W v. (B, embedding)

        :raises ModelError: a sample of the latents is requested
        """
        if latents == "sample":
            raise ModelError("base has no latent space to sample from", hint="use another system")
        return self.embed(self.standardise(features))

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return 0, the KL of no latents."""
        return kl_z

    def schedule(self, step: int) -> dict[str, float]:
        """Return nothing: the loss does not change during training."""
        return {}

    def draw_condition(
        self, features: Tensor, words: Words, step: int, partition: Partition
    ) -> tuple[Tensor, Posterior]:
        """Return e = W v and the empty posterior."""
        return self.condition(features), self.posterior(features)
