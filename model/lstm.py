"""An LSTM over packed steps, with its backward pass written out.

Left to itself, automatic differentiation would record a dozen small operations for each step and
sum the recurrent weights' gradient up step by step. Here the derivatives (Hochreiter &
Schmidhuber 1997; with forget gates, Gers 2000) are written out, and the weights' gradient is
one product over all steps.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def lstm(
    inputs: Tensor, constant: Tensor | None, recurrent: Tensor, batch_sizes: Sequence[int]
) -> Tensor:
    """Return the outputs of all steps, from a state of zeros. (N, H)

    Under autocast the product with the output is in its type, states and gates are float32.

    :param inputs: (N, 4 H), the inputs' part of the gates (enter, keep, new, show), bias
        included, packed step by step
    :param constant: (B, 4 H), a part that is the same at every step
    :param recurrent: (4 H, H), the weights of the output
    :param active: captions that have a token at each step, not rising; N in all
    """
    kind = inputs.device.type
    if torch.is_autocast_enabled(kind):
        recurrent = recurrent.to(torch.get_autocast_dtype(kind))
        inputs = inputs.float()
        constant = None if constant is None else constant.float()
    with torch.autocast(kind, enabled=False):
        return _Lstm.apply(inputs, constant, recurrent, tuple(batch_sizes))


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        constant: Tensor | None,
        recurrent: Tensor,
        batch_sizes: tuple[int, ...],
    ) -> Tensor:
        size = recurrent.shape[1]
        gates = inputs.clone()  # (N, 4 H), after their non-linearities
        cells, bent, hidden = (inputs.new_empty(len(inputs), size) for _ in range(3))
        c = inputs.new_zeros(batch_sizes[0], size)
        for here, last in _steps(batch_sizes):
            gate = gates[here]
            if constant is not None:
                gate += constant[: len(gate)]
            if last is not None:
                _add_product(gate, hidden[last], recurrent.T)
                c = cells[last]
            gate[:, : 2 * size].sigmoid_()
            gate[:, 2 * size : 3 * size].tanh_()
            gate[:, 3 * size :].sigmoid_()
            enter, keep, new, show = gate.chunk(4, dim=1)
            c = torch.mul(keep, c, out=cells[here]).addcmul_(enter, new)
            torch.mul(show, torch.tanh(c, out=bent[here]), out=hidden[here])
        ctx.batch_sizes, ctx.has_constant = batch_sizes, constant is not None
        ctx.save_for_backward(recurrent, gates, cells, bent, hidden)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        recurrent, gates, cells, bent, hidden = ctx.saved_tensors
        captions, size = ctx.batch_sizes[0], recurrent.shape[1]
        d_gates = torch.empty_like(gates)
        d_constant = gates.new_zeros(captions, 4 * size) if ctx.has_constant else None
        d_h, d_c = (gates.new_zeros(captions, size) for _ in range(2))
        steps = list(_steps(ctx.batch_sizes))
        for here, last in reversed(steps):
            count = here.stop - here.start
            dh, dc = d_h[:count], d_c[:count]  # rows that ended before are still zero
            enter, keep, new, show = gates[here].chunk(4, dim=1)
            d_enter, d_keep, d_new, d_show = d_gates[here].chunk(4, dim=1)
            dh += d_hidden[here]
            torch.mul(dh, bent[here], out=d_show).mul_(show).mul_(1 - show)
            dc.addcmul_(dh * show, 1 - bent[here].square())
            torch.mul(dc, new, out=d_enter).mul_(enter).mul_(1 - enter)
            torch.mul(dc, enter, out=d_new).mul_(1 - new.square())
            if last is None:
                d_keep.zero_()
            else:
                torch.mul(dc, cells[last], out=d_keep).mul_(keep).mul_(1 - keep)
                dc *= keep
                dh.copy_(d_gates[here].to(recurrent.dtype) @ recurrent)
            if d_constant is not None:
                d_constant[:count] += d_gates[here]
        before = [hidden[last] for _, last in steps if last is not None]
        d_recurrent = None
        if before:
            short = d_gates[captions:].to(recurrent.dtype)
            d_recurrent = short.T @ torch.cat(before).to(recurrent.dtype)
        return d_gates, d_constant, d_recurrent, None


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b, multiplied in the type of b, to ``total``."""
    if total.dtype == b.dtype:
        total.addmm_(a, b)
    else:
        total += a.to(b.dtype) @ b


def _steps(batch_sizes: Sequence[int]) -> Iterator[tuple[slice, slice | None]]:
    """Yield each step's rows, and those of the same captions at the step before."""
    start, last = 0, None
    for count in batch_sizes:
        yield slice(start, start + count), None if last is None else slice(last, last + count)
        start, last = start + count, start
