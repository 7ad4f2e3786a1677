"""Cross entropy of a linear layer's output, computed for a few tokens at a time.

The logits of all tokens (tokens x words) would be by far the largest tensor of training, written
and read several times. Here the logits of a few tokens exist at a time, in the processor's
cache, and the forward pass already computes their gradients. The loss is a plain sum, so the
backward pass only multiplies these gradients by a number.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from multispace.model.device import autocast_type, without_autocast

ROWS = 256  # tokens whose logits exist at the same time
COLUMNS = 1024  # words per matrix product; with wider rows it runs at two thirds of the speed
ALIGN = 64  # numbers; unaligned rows cost a fifth of the speed
GPU_ROWS = 8192  # a GPU needs large products, and has the memory for them


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the cross entropy and the negative log likelihood, summed over tokens, in nats.

    The logits are ``F.linear(hidden, weight, bias)``; the softmax runs in float32. The target
    distribution of the cross entropy has 1 - smoothing on the target word plus smoothing / V on
    every word (Szegedy 2016, section 7). Without smoothing both results are equal. Only the
    first result has a gradient. Under autocast, products run in its type.

    :param hidden: (N, H)
    :param weight: (V, H)
    :param bias: (V,)
    :param targets: int64 (N,)
    :param smoothing: label smoothing, in [0, 1)
    :returns: two float32 scalars
    """
    hidden = hidden.to(autocast_type(hidden.device) or hidden.dtype)
    needs_gradient = torch.is_grad_enabled()
    with without_autocast(hidden.device):
        return _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing, needs_gradient)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        needs_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        words, dtype = len(weight), hidden.dtype
        w, b = weight.to(dtype), bias.to(dtype)
        on_cpu = hidden.device.type == "cpu"
        rows, columns = (ROWS, COLUMNS) if on_cpu else (GPU_ROWS, words)
        # A 16-bit type does not allow summing the weights' gradient in place: use larger parts.
        group = rows * (8 if on_cpu and dtype != torch.float32 else 1) if needs_gradient else rows
        width = -(-words // ALIGN) * ALIGN
        logits = hidden.new_full((min(rows, len(hidden)), width), -torch.inf)
        errors = hidden.new_empty(min(group, len(hidden)), width)
        d_hidden = torch.empty_like(hidden) if needs_gradient else None
        d_weight = torch.zeros_like(weight) if needs_gradient else None
        d_bias = torch.zeros_like(bias) if needs_gradient else None
        entropy, nll = (torch.zeros((), device=hidden.device) for _ in range(2))

        for begin in range(0, len(hidden), group):
            end = min(begin + group, len(hidden))
            for start in range(begin, end, rows):
                stop = min(start + rows, end)
                part = logits[: stop - start]
                for left in range(0, words, columns):
                    block = slice(left, min(left + columns, words))
                    torch.addmm(b[block], hidden[start:stop], w[block].T, out=part[:, block])
                log_p = part.log_softmax(-1, dtype=torch.float32)  # (n, width)
                target = targets[start:stop, None]
                own = log_p.gather(1, target)  # (n, 1)
                batch_nll = -own.sum()
                nll += batch_nll
                entropy += (1 - smoothing) * batch_nll
                if smoothing:
                    entropy -= smoothing / words * log_p[:, :words].sum()
                if needs_gradient:  # gradient of the cross entropy with respect to the logits
                    error = errors[start - begin : stop - begin]
                    if smoothing:
                        torch.sub(log_p.exp_(), smoothing / words, out=error)
                    else:
                        torch.exp(log_p, out=error)
                    of_target = own.exp() + (smoothing - 1) - smoothing / words
                    error.scatter_(1, target, of_target.to(dtype))
                    assert d_bias is not None
                    d_bias += error[:, :words].sum(0, dtype=d_bias.dtype)
            if d_hidden is not None and d_weight is not None:
                part_errors = errors[: end - begin, :words]
                torch.mm(part_errors, w, out=d_hidden[begin:end])
                if dtype == weight.dtype:
                    d_weight.addmm_(part_errors.T, hidden[begin:end])
                else:
                    d_weight += part_errors.T @ hidden[begin:end]
        ctx.save_for_backward(*(d for d in (d_hidden, d_weight, d_bias) if d is not None))
        ctx.mark_non_differentiable(nll)
        return entropy, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_entropy: Tensor, _d_nll: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        return (
            d_hidden * d_entropy.to(d_hidden.dtype),
            d_weight * d_entropy,
            d_bias * d_entropy,
            None,
            None,
            None,
        )
