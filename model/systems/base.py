"""CNN + RNN: the image feature is the condition."""

from torch import Tensor

from multispace.errors import ModelError
from multispace.model.encoder import Words
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.partition import Partition
from multispace.model.systems.captioner import Captioner, read_features


class Base(Captioner):
    """CNN + RNN, trained by teacher forcing: e = W v is the condition."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.embedding)
        self.embed = read_features(options, options.embedding)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return a posterior without channels."""
        return Posterior()

    def condition(self, features: Tensor, *, sample: bool = False) -> Tensor:
        """Return e = W v. (B, embedding)

        :raises ModelError: a sample is asked for; there is nothing to sample.
        """
        if sample:
            raise ModelError("base has no latent space to sample from; use another system")
        return self.embed(self.standardise(features))

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return 0."""
        return kl_z

    def schedule(self, step: int) -> dict[str, float]:
        """Return nothing: the loss does not change with time."""
        return {}

    def _drawn(
        self, features: Tensor, words: Words, step: int, partition: Partition
    ) -> tuple[Tensor, Posterior]:
        """Return e = W v, and nothing drawn: the loss is the reconstruction alone."""
        return self.condition(features), self.posterior(features)
