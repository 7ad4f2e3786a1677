"""Cross entropy of a linear layer's output, which is never held for all tokens at once.

Logits of all tokens would be the largest tensor of training by far (tokens x words), written
and read several times. Here they exist for a few tokens at a time, in the processor's cache,
and their gradients are made on the spot: where the loss is a plain sum, the backward pass has
nothing left to do but to multiply by a number.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 256  # tokens whose logits exist at a time
COLUMNS = 1024  # words of one matrix product: into wider rows it runs at two thirds of the speed
ALIGN = 64  # numbers; rows that begin at odd places cost a fifth of the speed
GPU_ROWS = 8192  # a GPU wants large products, and has the memory


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return cross entropy and negative log likelihood, summed over tokens, in nats.

    They are those of ``F.linear(hidden, weight, bias)``, with softmax in float32. The cross
    entropy is against 1 - smoothing on the target and smoothing / V on every word (Szegedy
    2016, section 7); without smoothing both are the same number. Gradients pass only through the
    first. Products run in the type of autocast, if that is on.

    :param hidden: (N, H)
    :param weight: (V, H)
    :param bias: (V,)
    :param targets: int64 (N,)
    :return: two scalars, float32
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    learns = torch.is_grad_enabled()
    with torch.autocast(kind, enabled=False):
        return _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing, learns)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        learns: bool,
    ) -> tuple[Tensor, Tensor]:
        words, dtype = len(weight), hidden.dtype
        w, b = weight.to(dtype), bias.to(dtype)
        on_cpu = hidden.device.type == "cpu"
        rows, columns = (ROWS, COLUMNS) if on_cpu else (GPU_ROWS, words)
        # In a short type the weights' gradient cannot be summed up in place: fewer, larger parts.
        group = rows * (8 if on_cpu and dtype != torch.float32 else 1) if learns else rows
        width = -(-words // ALIGN) * ALIGN
        logits = hidden.new_full((min(rows, len(hidden)), width), -torch.inf)
        errors = hidden.new_empty(min(group, len(hidden)), width)
        d_hidden = torch.empty_like(hidden) if learns else None
        d_weight = torch.zeros_like(weight) if learns else None
        d_bias = torch.zeros_like(bias) if learns else None
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
                plain = -log_p.gather(1, target).sum()
                nll += plain
                entropy += (1 - smoothing) * plain
                if smoothing:
                    entropy -= smoothing / words * log_p[:, :words].sum()
                if learns:  # the cross entropy's gradient by the logits
                    error = log_p.exp_()
                    minus = error.new_full((len(target), 1), smoothing - 1)
                    error.scatter_add_(1, target, minus)
                    if smoothing:
                        error -= smoothing / words
                    assert d_bias is not None
                    d_bias += error[:, :words].sum(0)
                    errors[start - begin : stop - begin] = error
            if d_hidden is not None and d_weight is not None:
                made = errors[: end - begin, :words]
                torch.mm(made, w, out=d_hidden[begin:end])
                if dtype == weight.dtype:
                    d_weight.addmm_(made.T, hidden[begin:end])
                else:
                    d_weight += made.T @ hidden[begin:end]
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
