"""Distributions of the latent space, each with its prior: ``sample``, ``mode``, ``kl``.

All methods compute in float32, whatever the precision of the networks around them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from multispace.model.batch_partition import WHOLE, Partition

LOG_VARIANCE_RANGE = (-10.0, 2.0)  # without bounds, an early step can overflow exp and give NaN


@dataclass(frozen=True)
class DiagonalGaussian:
    """The distribution N(mean, diag exp(log_variance)). Its prior is N(0, I)."""

    mean: Tensor  # (B, D)
    log_variance: Tensor  # (B, D)

    @classmethod
    def from_parameters(cls, parameters: Tensor) -> "DiagonalGaussian":
        """Split a network's output, (B, 2 D), into the mean and the clamped log variance."""
        mean, log_variance = parameters.float().chunk(2, dim=-1)  # (B, D) each
        return cls(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def sample(self, partition: Partition = WHOLE) -> Tensor:
        """Draw a reparameterised sample, mean + std * epsilon. (B, D)"""
        epsilon = partition.draw(self.mean, Tensor.normal_)
        return self.mean + epsilon * (0.5 * self.log_variance).exp()

    def quantile(self, levels: Tensor) -> Tensor:
        """Return z at given values of the distribution function of each dimension. (B, D)

        Of uniform levels it is a sample.

        :param levels: between 0 and 1, float64 (B, D)
        """
        return self.mean + torch.special.ndtri(levels).float() * (0.5 * self.log_variance).exp()

    def tempered(self, temperature: float) -> "DiagonalGaussian":
        """Return the distribution with its std multiplied by ``temperature``."""
        return DiagonalGaussian(self.mean, self.log_variance + 2 * math.log(temperature))

    def mode(self) -> Tensor:
        """Return the mean. (B, D)"""
        return self.mean

    def kl(self) -> Tensor:
        """Return the KL to N(0, I) of each dimension, in nats. (B, D)

        1/2 (mean^2 + std^2 - log std^2 - 1), Kingma & Welling 2014, appendix B.
        """
        variance = self.log_variance.exp()
        return 0.5 * (self.mean.square() + variance - self.log_variance - 1)

    def log_density(self, z: Tensor) -> Tensor:
        """Return log q(z) of each dimension, in nats.

        :param z: (B, D)
        :returns: (B, D)
        """
        distance = (z - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (distance + self.log_variance + math.log(2 * math.pi))

    def prior_sample(self) -> Tensor:
        """Draw from the prior. (B, D)"""
        return torch.randn(self.mean.shape, device=self.mean.device)

    @staticmethod
    def prior_log_density(z: Tensor) -> Tensor:
        """Return log p(z) of each dimension under the prior, in nats.

        :param z: (B, D)
        :returns: (B, D)
        """
        return -0.5 * (z.square() + math.log(2 * math.pi))


@dataclass(frozen=True)
class Categoricals:
    """Independent categorical variables of K_1, K_2 ... categories, with their priors.

    Samples of all variables lie side by side: (B, sum of sizes).

    :param log_probabilities: one normalised (B, K_i) per variable
    :param log_prior: the same of the prior; None is the uniform distribution
    """

    log_probabilities: tuple[Tensor, ...]
    log_prior: tuple[Tensor, ...] | None = None

    @classmethod
    def from_parameters(
        cls, parameters: Tensor, sizes: Sequence[int], prior_parameters: Tensor | None = None
    ) -> "Categoricals":
        """Split logits into variables and normalise them.

        :param parameters: logits, (B, sum of sizes)
        :param prior_parameters: logits of the prior, (B, sum of sizes); None is uniform
        """
        prior = None if prior_parameters is None else _split(prior_parameters, sizes)
        return cls(_split(parameters, sizes), prior)

    @property
    def sizes(self) -> list[int]:
        """The number of categories of each variable."""
        return [log_p.shape[-1] for log_p in self.log_probabilities]

    def sample(self, temperature: float, partition: Partition = WHOLE) -> Tensor:
        """Draw a relaxed sample; the entries of each variable sum to 1. (B, sum of sizes)

        Gumbel-softmax: softmax((log p - log(-log u)) / temperature), Jang 2017; Maddison 2017.
        """
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, it must be above 0")
        parts = []
        for log_p in self.log_probabilities:
            # An exponential draw equals -log u without the rounding of u to 0 or 1.
            gumbel = -partition.draw(log_p, Tensor.exponential_).log()
            parts.append(F.softmax((log_p + gumbel) / temperature, dim=-1))
        return torch.cat(parts, dim=-1)

    def mode(self) -> Tensor:
        """Return the one-hot arg max of each variable. (B, sum of sizes)"""
        return torch.cat([_one_hot(p.argmax(-1), p.shape[-1]) for p in self.log_probabilities], -1)

    def one_hot_sample(self) -> Tensor:
        """Draw a category of each variable. (B, sum of sizes)"""
        return _draw_one_hot(self.log_probabilities)

    def quantile(self, levels: Tensor) -> Tensor:
        """Return the one-hot category at given values of the distribution functions.

        Of uniform levels it is a sample.

        :param levels: between 0 and 1, float64 (B, variables)
        :returns: (B, sum of sizes)
        """
        parts = []
        for log_p, level in zip(self.log_probabilities, levels.T, strict=True):
            sums = log_p.double().exp().cumsum(-1)  # (B, K)
            below = sums[:, :-1] / sums[:, -1:] <= level[:, None]
            parts.append(_one_hot(below.sum(-1), log_p.shape[-1]))
        return torch.cat(parts, dim=-1)

    def tempered(self, temperature: float) -> "Categoricals":
        """Return the variables with probabilities raised to 1 / ``temperature``, normalised."""
        tempered = (F.log_softmax(log_p / temperature, -1) for log_p in self.log_probabilities)
        return Categoricals(tuple(tempered), self.log_prior)

    def kl(self) -> Tensor:
        """Return the KL to the prior of each variable, in nats. (B, variables)

        sum_k q_k (log q_k - log p_k); log K + sum_k q_k log q_k for a uniform prior. The prior
        gets no gradient; :meth:`prior_loss` trains it.
        """
        if self.log_prior is None:
            parts = [math.log(q.shape[-1]) + (q.exp() * q).sum(-1) for q in self.log_probabilities]
            return torch.stack(parts, dim=-1)
        return _kl(self.log_probabilities, [p.detach() for p in self.log_prior])

    def prior_loss(self) -> Tensor:
        """Return the KL to the prior as :meth:`kl` does, with a gradient for the prior alone.

        It is 0 for a uniform prior, which nothing trains. (B, variables)
        """
        if self.log_prior is None:
            first = self.log_probabilities[0]
            return first.new_zeros(len(first), len(self.sizes))
        return _kl([q.detach() for q in self.log_probabilities], self.log_prior)

    def log_probability(self, c: Tensor) -> Tensor:
        """Return log q(c) of each variable, in nats.

        :param c: one-hot, (B, sum of sizes)
        :returns: (B, variables)
        """
        return _log_probability(self.log_probabilities, c)

    def prior_log_probability(self, c: Tensor) -> Tensor:
        """Return log p(c) of each variable under the prior, in nats.

        :param c: one-hot, (B, sum of sizes)
        :returns: (B, variables)
        """
        if self.log_prior is None:
            uniform = c.new_tensor([-math.log(size) for size in self.sizes])
            return uniform.expand(len(c), -1)
        return _log_probability(self.log_prior, c)

    def prior_sample(self) -> Tensor:
        """Draw a category of each variable from the prior. (B, sum of sizes)"""
        if self.log_prior is not None:
            return _draw_one_hot(self.log_prior)
        rows, device = len(self.log_probabilities[0]), self.log_probabilities[0].device
        draws = [torch.randint(size, (rows,), device=device) for size in self.sizes]
        return torch.cat([_one_hot(d, k) for d, k in zip(draws, self.sizes, strict=True)], -1)

    def select(self, rows: Tensor) -> "Categoricals":
        """Return the distributions of ``rows``, int64 (n,); a row may occur more than once."""
        prior = None if self.log_prior is None else tuple(p[rows] for p in self.log_prior)
        return Categoricals(tuple(q[rows] for q in self.log_probabilities), prior)

    def to(self, device: torch.device | str) -> "Categoricals":
        """Return the distributions on a device."""
        prior = None if self.log_prior is None else tuple(p.to(device) for p in self.log_prior)
        return Categoricals(tuple(q.to(device) for q in self.log_probabilities), prior)

    @classmethod
    def stack(cls, parts: Sequence["Categoricals"]) -> "Categoricals":
        """Concatenate the rows of several groups."""
        joined = [torch.cat(q) for q in zip(*(p.log_probabilities for p in parts), strict=True)]
        priors = [part.log_prior for part in parts if part.log_prior is not None]
        prior = tuple(torch.cat(p) for p in zip(*priors, strict=True)) if priors else None
        return cls(tuple(joined), prior)


def _kl(log_q: Sequence[Tensor], log_p: Sequence[Tensor]) -> Tensor:
    """Return sum_k q_k (log q_k - log p_k) of each variable. (B, variables)"""
    pairs = zip(log_q, log_p, strict=True)
    return torch.stack([(q.exp() * (q - p)).sum(-1) for q, p in pairs], dim=-1)


def _split(parameters: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    parts = parameters.float().split(list(sizes), dim=-1)
    return tuple(F.log_softmax(part, dim=-1) for part in parts)


def _draw_one_hot(log_probabilities: Sequence[Tensor]) -> Tensor:
    drawn = [torch.multinomial(p.exp(), 1).squeeze(-1) for p in log_probabilities]
    parts = zip(drawn, log_probabilities, strict=True)
    return torch.cat([_one_hot(index, p.shape[-1]) for index, p in parts], -1)


def _log_probability(log_probabilities: Sequence[Tensor], c: Tensor) -> Tensor:
    parts = c.split([p.shape[-1] for p in log_probabilities], dim=-1)
    pairs = zip(log_probabilities, parts, strict=True)
    return torch.cat([log_p.gather(-1, part.argmax(-1, True)) for log_p, part in pairs], -1)


def _one_hot(index: Tensor, size: int) -> Tensor:
    return F.one_hot(index, size).float()
