"""What a system believes about images, and how the decoder is told."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.losses import batch_kl
from multispace.model.partition import WHOLE, Partition


@dataclass(frozen=True)
class Posterior:
    """The latents of B images; a channel that a system lacks is None.

    The prior of z is N(0, I). Where it is to lie elsewhere, z is what is left when the prior's
    mean and deviation are taken out, and :meth:`condition` puts them back; the KL is the same.
    A variable of K categories is read as sqrt(K) times its one-hot vector, whose entries have
    then a mean square of 1, like those of z: read as it is, what a category says would be
    learnt so much later than what z says that the decoder does without it.
    """

    z: DiagonalGaussian | None = None
    c: Categoricals | None = None
    centre: Tensor | None = None  # (B, D): the decoder reads centre + deviation z in place of z
    std: float = 1.0
    image: Tensor | None = None  # (B, P): what the decoder reads beside [z ; c]

    def condition(self, latents: Tensor) -> Tensor:
        """Return what the decoder reads when the latents are these. [z ; c] (B, L) -> (B, C)"""
        sizes = [p.shape[-1] for p in self.c.log_probabilities] if self.c else []
        z, *variables = latents.split([latents.shape[-1] - sum(sizes), *sizes], dim=-1)
        if self.centre is not None:
            z = self.centre + self.std * z
        parts = [z, *(size**0.5 * c for size, c in zip(sizes, variables, strict=True))]
        return torch.cat(parts if self.image is None else [*parts, self.image], dim=-1)

    def relaxed(self, temperature: float, partition: Partition = WHOLE) -> Tensor:
        """Draw a condition as in training: c softened so that gradients pass. (B, C)"""
        z = self.z.sample(partition) if self.z else None
        return self.condition(_join(z, self.c.sample(temperature, partition) if self.c else None))

    def sample(self) -> Tensor:
        """Draw a condition as in use: c one-hot. (B, C)"""
        z = self.z.sample() if self.z else None
        return self.condition(_join(z, self.c.one_hot_sample() if self.c else None))

    def mode(self) -> Tensor:
        """Return the condition of :meth:`latents`. (B, C)"""
        return self.condition(self.latents())

    def latents(self) -> Tensor:
        """Return [z ; c] as in use: the mean of z and the one-hot arg max of c. (B, L)"""
        return _join(self.z.mode() if self.z else None, self.c.mode() if self.c else None)

    def prior_sample(self) -> Tensor:
        """Draw [z ; c] from N(0, I) and from the uniform one-hot vectors. (B, L)"""
        z = c = None
        if self.z:
            rows, size = self.z.mean.shape
            z = DiagonalGaussian.prior_sample(rows, size, like=self.z.mean)
        if self.c:
            parts = self.c.log_probabilities
            sizes = [p.shape[-1] for p in parts]
            c = Categoricals.prior_sample(len(parts[0]), sizes, like=parts[0])
        return _join(z, c)

    def kl_z(self) -> Tensor:
        """Batch mean KL of z, in nats. ()"""
        return batch_kl(self.z.kl()) if self.z else torch.zeros(())

    def kl_c(self) -> Tensor:
        """Batch mean KL of c, in nats. ()"""
        return batch_kl(self.c.kl()) if self.c else torch.zeros(())

    def select(self, rows: Tensor) -> "Posterior":
        """Return those of ``rows``, int64 (n,); a row may come more than once."""
        return Posterior(
            z=DiagonalGaussian(self.z.mean[rows], self.z.log_variance[rows]) if self.z else None,
            c=Categoricals(tuple(p[rows] for p in self.c.log_probabilities)) if self.c else None,
            centre=None if self.centre is None else self.centre[rows],
            std=self.std,
            image=None if self.image is None else self.image[rows],
        )

    @classmethod
    def stack(cls, parts: Sequence["Posterior"]) -> "Posterior":
        """Put those of several groups of images, by one system, on end."""

        def together(tensors: Sequence[Tensor | None]) -> Tensor | None:
            return torch.cat(there) if (there := [t for t in tensors if t is not None]) else None

        mean = together([p.z.mean if p.z else None for p in parts])
        log_variance = together([p.z.log_variance if p.z else None for p in parts])
        variables = zip(*(p.c.log_probabilities for p in parts if p.c), strict=True)
        log_probabilities = tuple(torch.cat(each) for each in variables)
        return cls(
            None if mean is None or log_variance is None else DiagonalGaussian(mean, log_variance),
            Categoricals(log_probabilities) if log_probabilities else None,
            together([p.centre for p in parts]),
            parts[0].std,
            together([p.image for p in parts]),
        )


def _join(z: Tensor | None, c: Tensor | None) -> Tensor:
    return torch.cat([channel for channel in (z, c) if channel is not None], dim=-1)
