"""The posterior over the latents of images, and the decoder's condition made from latents."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from multispace.model.batch_partition import WHOLE, Partition
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.losses import batch_kl

LEVELS = (1e-12, 1 - 1e-12)  # of distribution functions: a Gaussian is infinite at 0 and 1


@dataclass(frozen=True)
class Posterior:
    """The distributions of the latents h = [z ; c] of B images. A missing channel is None.

    The prior of z is N(0, I). A system whose prior is N(center, std^2 I) stores the standardised
    z, for which the KL is the same; :meth:`condition` maps z back.

    :meth:`condition` multiplies the one-hot vector of a variable with K categories by sqrt(K).
    Its entries then have a mean square of 1, like those of z. ``scale_c`` replaces this factor.

    :param z: q(z), (B, D)
    :param c: q(c), (B, sum of sizes)
    :param center: mean of the prior of z, (B, D); None for 0
    :param std: std of the prior of z
    :param image: vector that the decoder reads in addition to the latents, (B, P)
    :param scale_c: factor on the one-hot vectors; None for sqrt(K)
    """

    z: DiagonalGaussian | None = None
    c: Categoricals | None = None
    center: Tensor | None = None
    std: float = 1.0
    image: Tensor | None = None
    scale_c: float | None = None

    def condition(self, latents: Tensor) -> Tensor:
        """Return the decoder's condition for given latents.

        :param latents: [z ; c], (B, L)
        :returns: [z ; scale c ; image], (B, C)
        """
        sizes = self.c.sizes if self.c else []
        z, *variables = latents.split([latents.shape[-1] - sum(sizes), *sizes], dim=-1)
        if self.center is not None:
            z = self.center + self.std * z
        scales = [size**0.5 if self.scale_c is None else self.scale_c for size in sizes]
        parts = [z, *(scale * c for scale, c in zip(scales, variables, strict=True))]
        return torch.cat(parts if self.image is None else [*parts, self.image], dim=-1)

    def relaxed_latents(self, temperature: float, partition: Partition = WHOLE) -> Tensor:
        """Draw [z ; c] as in training, with c relaxed so that it has a gradient. (B, L)"""
        z = self.z.sample(partition) if self.z else None
        return _join(z, self.c.sample(temperature, partition) if self.c else None)

    def sample(self) -> Tensor:
        """Draw the condition of a sample of [z ; c], with c one-hot. (B, C)"""
        z = self.z.sample() if self.z else None
        return self.condition(_join(z, self.c.one_hot_sample() if self.c else None))

    def spread_samples(self, count: int, seeds: Sequence[int]) -> Tensor:
        """Draw the conditions of several samples of each image, spread over the distribution.

        Latin hypercube sampling, McKay 1979: in each dimension of z, and for each categorical
        variable, one of the ``count`` samples falls into each of ``count`` intervals of equal
        probability. Each single sample is distributed as that of :meth:`sample`.

        :param seeds: of the draws of each image, of up to 128 bits (B,)
        :returns: the samples of the first image before those of the second, (B * count, C)
        """
        z_size = self.z.mean.shape[-1] if self.z else 0
        dimensions = z_size + (len(self.c.sizes) if self.c else 0)
        levels = np.empty((len(seeds), count, dimensions))
        for row, seed in zip(levels, seeds, strict=True):
            random = np.random.Generator(np.random.Philox(key=seed))
            intervals = random.permuted(np.tile(np.arange(count), (dimensions, 1)), axis=1).T
            row[:] = (intervals + random.random((count, dimensions))) / count
        uniform = torch.from_numpy(levels.reshape(-1, dimensions).clip(*LEVELS))
        every = self.select(torch.arange(len(seeds)).repeat_interleave(count))
        z = every.z.quantile(uniform[:, :z_size]) if every.z else None
        return every.condition(_join(z, every.c.quantile(uniform[:, z_size:]) if every.c else None))

    def tempered(self, temperature: float) -> "Posterior":
        """Return the posteriors with narrower or wider latents; at 1 they stay as they are.

        :param temperature: factor on the std of z; the probabilities of c are raised to 1 / it
        """
        z = self.z.tempered(temperature) if self.z else None
        return replace(self, z=z, c=self.c.tempered(temperature) if self.c else None)

    def mode(self) -> Tensor:
        """Return the condition of :meth:`latents`. (B, C)"""
        return self.condition(self.latents())

    def latents(self) -> Tensor:
        """Return [z ; c] with the mean of z and the one-hot arg max of c. (B, L)"""
        return _join(self.z.mode() if self.z else None, self.c.mode() if self.c else None)

    def prior_sample(self) -> Tensor:
        """Draw [z ; c] from the priors, with c one-hot. (B, L)"""
        z = self.z.prior_sample() if self.z else None
        return _join(z, self.c.prior_sample() if self.c else None)

    def without(
        self, latents: Tensor, channels: Collection[str], rows: Tensor | None = None
    ) -> Tensor:
        """Set channels of the latents to zero.

        :param latents: [z ; c], (B, L)
        :param channels: ``z``, ``c`` or both
        :param rows: the images concerned, bool (B, 1); None for all
        :returns: (B, L)
        """
        size = latents.shape[-1] - (sum(self.c.sizes) if self.c else 0)
        columns = torch.arange(latents.shape[-1], device=latents.device)
        dropped = torch.zeros_like(columns, dtype=torch.bool)
        if "z" in channels:
            dropped = dropped | (columns < size)  # not in place, which ONNX has not
        if "c" in channels:
            dropped = dropped | (columns >= size)
        return latents.masked_fill(dropped if rows is None else dropped & rows, 0.0)

    def kl_z(self, device: torch.device | None = None) -> Tensor:
        """Return the batch mean of the KL of z to its prior, in nats; 0 without z. ()

        :param device: of the 0
        """
        return batch_kl(self.z.kl()) if self.z else torch.zeros((), device=device)

    def kl_c(self, device: torch.device | None = None) -> Tensor:
        """Return the batch mean of the KL of c to its prior, in nats; 0 without c. ()

        :param device: of the 0
        """
        return batch_kl(self.c.kl()) if self.c else torch.zeros((), device=device)

    def prior_loss_c(self) -> Tensor:
        """Return the batch mean of the KL of c, with a gradient for its prior alone, in nats. ()"""
        assert self.c is not None
        return batch_kl(self.c.prior_loss())

    def to(self, device: torch.device | str) -> "Posterior":
        """Return the posteriors on a device."""
        z, c = self.z, self.c
        return replace(
            self,
            z=DiagonalGaussian(z.mean.to(device), z.log_variance.to(device)) if z else None,
            c=c.to(device) if c else None,
            center=None if self.center is None else self.center.to(device),
            image=None if self.image is None else self.image.to(device),
        )

    def select(self, rows: Tensor) -> "Posterior":
        """Return the posteriors of ``rows``, int64 (n,); a row may occur more than once."""
        return Posterior(
            z=DiagonalGaussian(self.z.mean[rows], self.z.log_variance[rows]) if self.z else None,
            c=self.c.select(rows) if self.c else None,
            center=None if self.center is None else self.center[rows],
            std=self.std,
            image=None if self.image is None else self.image[rows],
            scale_c=self.scale_c,
        )

    @classmethod
    def stack(cls, parts: Sequence["Posterior"]) -> "Posterior":
        """Concatenate the rows of several groups of images, all of one system."""

        def joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
            present = [tensor for tensor in tensors if tensor is not None]
            return torch.cat(present) if present else None

        mean = joined([p.z.mean if p.z else None for p in parts])
        log_variance = joined([p.z.log_variance if p.z else None for p in parts])
        discrete = [p.c for p in parts if p.c]
        return cls(
            None if mean is None or log_variance is None else DiagonalGaussian(mean, log_variance),
            Categoricals.stack(discrete) if discrete else None,
            joined([p.center for p in parts]),
            parts[0].std,
            joined([p.image for p in parts]),
            parts[0].scale_c,
        )


def _join(z: Tensor | None, c: Tensor | None) -> Tensor:
    return torch.cat([channel for channel in (z, c) if channel is not None], dim=-1)
