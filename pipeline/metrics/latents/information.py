"""Mutual information of image and latent, and the KL of the aggregate posterior to the prior.

The two sum to the mean KL to the prior (Hoffman & Johnson 2016). The aggregate posterior is
q(h) = 1/N sum_n q(h | v_n).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from multispace.model.latent.distributions import DiagonalGaussian
from multispace.pipeline.console.progress import Progress

ROWS = 512  # draws whose densities under all posteriors are computed at a time


@dataclass(frozen=True)
class Information:
    """The parts of a mean KL, in nats; their sum is the KL, up to the noise of draws.

    ``predicted`` is what a learnt prior predicts of the latent from the image, E_n sum_k q_n(k)
    log p(k | v_n) / p(k), where p(k) is the mean of the prior. It is a lower bound on the mutual
    information of image and latent (Barber & Agakov 2003), and 0 for a fixed prior.
    """

    kl: float  # analytic
    mutual_information: float
    aggregate_kl: float
    predicted: float = 0.0

    @property
    def sum(self) -> float:
        """The KL as the sum of its parts: I + KL of the aggregate - predicted."""
        return self.mutual_information + self.aggregate_kl - self.predicted


def categorical_information(
    log_probabilities: Tensor, log_prior: Tensor | None = None
) -> Information:
    """Split the KL of one categorical variable into its parts, which are exact.

    I = H(mean q) - mean H(q); the KL of the aggregate is that of the mean q to the mean prior.

    :param log_probabilities: log q of N images or captions, (N, K)
    :param log_prior: log p of each, (N, K); None is the uniform prior
    """
    q = log_probabilities.double().exp()
    mean_q = q.mean(0)  # (K,)
    q_entropy = torch.special.entr(q).sum(-1).mean().item()
    aggregate_entropy = torch.special.entr(mean_q).sum().item()
    if log_prior is None:
        size = math.log(log_probabilities.shape[-1])
        return Information(
            size - q_entropy, aggregate_entropy - q_entropy, size - aggregate_entropy
        )
    log_p = log_prior.double()
    log_mean_p = log_p.logsumexp(0) - math.log(len(log_p))  # (K,)
    cross, aggregate_cross = -(q * log_p).sum(-1).mean().item(), -(mean_q @ log_mean_p).item()
    return Information(
        kl=cross - q_entropy,
        mutual_information=aggregate_entropy - q_entropy,
        aggregate_kl=aggregate_cross - aggregate_entropy,
        predicted=aggregate_cross - cross,
    )


def gaussian_information(q: DiagonalGaussian, draws: int = 1) -> Information:
    """Split the KL of N Gaussians by Monte Carlo, with ``draws`` of each from torch's generator.

    I is the mean of log q(z | v_n) - log q(z), z ~ q(z | v_n), where log q(z) =
    logsumexp_n log q(z | v_n) - log N. So I cannot exceed log N. A value near log N only shows
    that the posteriors do not overlap; the rest of the KL is then counted as the aggregate's KL.
    Noise can make a small value negative.
    """
    wide = DiagonalGaussian(q.mean.double(), q.log_variance.double())
    count, dimensions = wide.mean.shape
    precision = (-wide.log_variance).exp()
    scaled = wide.mean * precision
    constant = (wide.mean * scaled + wide.log_variance).sum(-1)
    normal = dimensions * math.log(2 * math.pi)
    own, aggregate, prior = 0.0, 0.0, 0.0
    total = count * draws
    with Progress(total, "draws", "information of z") as progress:
        for _ in range(draws):
            z = wide.sample()
            own += wide.log_density(z).sum().item()
            prior -= 0.5 * (z.square().sum().item() + count * normal)
            for part in z.split(ROWS):  # (a - b)^2 is a^2 - 2 a b + b^2: three float64 products
                distances = part.square() @ precision.T - 2 * part @ scaled.T + constant
                aggregate += (-0.5 * (distances + normal)).logsumexp(-1).sum().item()
                progress.advance(len(part))
    log_aggregate = aggregate / total - math.log(count)
    return Information(
        kl=wide.kl().sum(-1).mean().item(),
        mutual_information=own / total - log_aggregate,
        aggregate_kl=log_aggregate - prior / total,
    )
