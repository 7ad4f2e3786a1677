"""The losses: what is paid for the latent space beside the words (`model.cross_entropy`).

Every term is in nats a caption (a batch mean), so that reconstruction and KL are comparable.
The KL of the categoricals is analytic though their samples are relaxed, so the capacity
objective is not a strict bound on the likelihood.
"""

from typing import NamedTuple

from torch import Tensor


class Loss(NamedTuple):
    """One batch's terms; scalars, in nats a caption."""

    total: Tensor  # what training descends: with smoothed targets, free bits and weights
    reconstruction: Tensor  # the negative log likelihood, never smoothed
    kl_z: Tensor  # batch mean, summed over dimensions; 0 where a system has no z
    kl_c: Tensor  # batch mean, summed over variables; 0 where a system has no c


def capacity_penalty(kl: Tensor, target: float, weight: float) -> Tensor:
    """Return weight * |KL - C|, Dupont 2018, equation 7.

    The absolute value is outside the batch mean: rows of 0 and 2 C cost nothing together.

    :param kl: batch mean, in nats ()
    :param target: capacity C, in nats
    """
    return weight * (kl - target).abs()


def batch_kl(kl: Tensor) -> Tensor:
    """Sum over dimensions, mean over the batch. (B, n) -> ()"""
    return kl.sum(-1).mean()


def free_bits(kl: Tensor, least: float) -> Tensor:
    """Return the KL with free bits for each dimension: sum_j max(least, batch mean KL_j). ()

    Kingma 2016, with every dimension a group of its own. Below ``least`` a dimension
    gets no gradient; the batch mean is inside the maximum.

    :param kl: batch means, in nats (n,)
    :param least: lambda, in nats a dimension
    """
    return kl.clamp(min=least).sum()
