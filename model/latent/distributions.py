"""Distributions of the latent space as objects: ``sample``, ``mode``, ``kl``.

All of it runs in float32 whatever the precision of the networks around it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from multispace.model.partition import WHOLE, Partition

LOG_VARIANCE_RANGE = (-10.0, 2.0)  # unbounded, an early step can overflow exp and give NaN


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag exp(log_variance)), against the prior N(0, I)."""

    mean: Tensor  # (B, D)
    log_variance: Tensor  # (B, D)

    @classmethod
    def from_parameters(cls, parameters: Tensor) -> "DiagonalGaussian":
        """Split a network's output, (B, 2 D), into mean and bounded log variance."""
        mean, log_variance = parameters.float().chunk(2, dim=-1)
        return cls(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def sample(self, partition: Partition = WHOLE) -> Tensor:
        """Draw by reparameterisation: mean + sigma * epsilon. (B, D)"""
        epsilon = partition.draw(self.mean, Tensor.normal_)
        return self.mean + epsilon * (0.5 * self.log_variance).exp()

    def mode(self) -> Tensor:
        """Return the mean. (B, D)"""
        return self.mean

    def kl(self) -> Tensor:
        """KL to N(0, I) for each dimension, in nats. (B, D)

        1/2 (mean^2 + sigma^2 - log sigma^2 - 1), Kingma & Welling 2014, appendix B.
        """
        variance = self.log_variance.exp()
        return 0.5 * (self.mean.square() + variance - self.log_variance - 1)

    def log_density(self, z: Tensor) -> Tensor:
        """Return log q(z) for each dimension, in nats. (B, D) -> (B, D)"""
        distance = (z - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (distance + self.log_variance + math.log(2 * math.pi))

    @staticmethod
    def prior_sample(rows: int, dimensions: int, like: Tensor) -> Tensor:
        """Draw from N(0, I). (rows, dimensions)"""
        return torch.randn(rows, dimensions, device=like.device)


@dataclass(frozen=True)
class Categoricals:
    """A list of independent categorical variables, against uniform priors.

    Their probabilities, and their samples, lie side by side: (B, sum of sizes).
    """

    log_probabilities: tuple[Tensor, ...]  # one (B, K_i) a variable

    @classmethod
    def from_parameters(cls, parameters: Tensor, sizes: Sequence[int]) -> "Categoricals":
        """Split a network's output, (B, sum of sizes), into normalised variables."""
        parts = parameters.float().split(list(sizes), dim=-1)
        return cls(tuple(F.log_softmax(part, dim=-1) for part in parts))

    def sample(self, temperature: float, partition: Partition = WHOLE) -> Tensor:
        """Draw a relaxed sample. (B, sum of sizes); each variable's part sums to 1.

        Gumbel-softmax: softmax((log p - log(-log u)) / temperature), Jang 2017; Maddison 2017.
        """
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, it must be above 0")
        parts = []
        for log_p in self.log_probabilities:
            # An exponential draw is -log u without the rounding of u to 0 or 1.
            gumbel = -partition.draw(log_p, Tensor.exponential_).log()
            parts.append(F.softmax((log_p + gumbel) / temperature, dim=-1))
        return torch.cat(parts, dim=-1)

    def mode(self) -> Tensor:
        """Return the one-hot arg max of each variable. (B, sum of sizes)"""
        return torch.cat([_one_hot(p.argmax(-1), p.shape[-1]) for p in self.log_probabilities], -1)

    def one_hot_sample(self) -> Tensor:
        """Draw a category of each variable. (B, sum of sizes)"""
        parts = self.log_probabilities
        drawn = [torch.multinomial(p.exp(), 1).squeeze(-1) for p in parts]
        return torch.cat([_one_hot(d, p.shape[-1]) for d, p in zip(drawn, parts, strict=True)], -1)

    def kl(self) -> Tensor:
        """KL to the uniform distribution for each variable, in nats. (B, variables)

        log K + sum_k p_k log p_k.
        """
        return torch.stack(
            [math.log(p.shape[-1]) + (p.exp() * p).sum(-1) for p in self.log_probabilities], dim=-1
        )

    def log_probability(self, c: Tensor) -> Tensor:
        """Return log q(c) of one-hot c, in nats. (B, sum of sizes) -> (B, variables)"""
        parts = c.split([p.shape[-1] for p in self.log_probabilities], dim=-1)
        pairs = zip(self.log_probabilities, parts, strict=True)
        return torch.cat([log_p.gather(-1, part.argmax(-1, True)) for log_p, part in pairs], -1)

    @staticmethod
    def prior_sample(rows: int, sizes: Sequence[int], like: Tensor) -> Tensor:
        """Draw one-hot categories uniformly. (rows, sum of sizes)"""
        draws = (torch.randint(size, (rows,), device=like.device) for size in sizes)
        return torch.cat([_one_hot(d, k) for d, k in zip(draws, sizes, strict=True)], -1)


def _one_hot(index: Tensor, size: int) -> Tensor:
    return F.one_hot(index, size).float()
