"""The losses: reconstruction in nats a caption, and what is paid for the latent space.

Every term is in nats a caption (a batch mean), so that reconstruction and KL are comparable.
The KL of the categoricals is analytic though their samples are relaxed, so the capacity
objective is not a strict bound on the likelihood.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Loss(NamedTuple):
    """One batch's terms; scalars, in nats a caption."""

    total: Tensor
    reconstruction: Tensor
    kl_z: Tensor  # batch mean, summed over dimensions; 0 where a system has no z
    kl_c: Tensor  # batch mean, summed over variables; 0 where a system has no c


def reconstruction(logits: Tensor, targets: Tensor, captions: int) -> Tensor:
    """Negative log likelihood, summed over the tokens of a caption, averaged over captions.

    :param logits: (N, V), one row for each real token (padding already left out)
    :param targets: int64 (N,), EOS included
    :param captions: how many captions the N tokens belong to
    """
    return F.cross_entropy(logits.float(), targets, reduction="sum") / captions


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
