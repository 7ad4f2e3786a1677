"""The terms of the training loss that depend on the KL of the latents.

Every term is a batch mean in nats per caption, like the reconstruction
(`model.cross_entropy`), so that the terms are comparable. The KL of categorical variables is
analytic although their samples are relaxed. The capacity objective is therefore not a strict
bound on the likelihood.
"""

from typing import NamedTuple

from torch import Tensor


class Loss(NamedTuple):
    """The terms of the loss of one batch; scalars, in nats per caption."""

    total: Tensor  # the training objective, with label smoothing, free bits and weights
    reconstruction: Tensor  # the negative log likelihood, without label smoothing
    kl_z: Tensor  # batch mean, summed over dimensions; 0 for systems without z
    kl_c: Tensor  # batch mean, summed over variables; 0 for systems without c


def capacity_penalty(kl: Tensor, target: float, weight: float) -> Tensor:
    """Return ``weight * |KL - C|``, Dupont 2018, equation 7.

    The absolute value is taken of the batch mean: captions with a KL of 0 and of 2 C together
    cost nothing.

    :param kl: batch mean, in nats ()
    :param target: the capacity C, in nats
    """
    return weight * (kl - target).abs()


def batch_kl(kl: Tensor) -> Tensor:
    """Return the sum over dimensions, averaged over the batch. (B, n) -> ()"""
    return kl.sum(-1).mean()


def free_bits(kl: Tensor, minimum: float) -> Tensor:
    """Return the KL with free bits per dimension, sum_j max(minimum, KL_j). ()

    Kingma 2016, with each dimension in a group of its own. A dimension whose batch mean is below
    the minimum has no gradient.

    :param kl: batch means by dimension, in nats (n,)
    :param minimum: lambda, in nats per dimension
    """
    return kl.clamp(min=minimum).sum()
