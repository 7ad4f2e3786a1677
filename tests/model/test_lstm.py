import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from multispace.model.lstm import lstm

BATCH_SIZES = (7, 7, 5, 3, 3, 1)
SIZE = 5


def parts(batch_sizes=BATCH_SIZES, dtype=torch.float32):
    torch.manual_seed(0)
    captions = batch_sizes[0] if batch_sizes else 0
    shapes = ((sum(batch_sizes), 4 * SIZE), (captions, 4 * SIZE), (4 * SIZE, SIZE))
    return [torch.randn(shape, dtype=dtype).mul(0.5).requires_grad_() for shape in shapes]


def as_torch_has_it(words, condition, recurrent, batch_sizes=BATCH_SIZES):
    """The same by nn.LSTM, whose gates are in another order: it reads the gates as its input."""
    module = nn.LSTM(4 * SIZE, SIZE, bias=False)
    del module.weight_ih_l0, module.weight_hh_l0
    module.weight_ih_l0, module.weight_hh_l0 = torch.eye(4 * SIZE), recurrent
    module._flat_weights = [module.weight_ih_l0, recurrent]
    lengths = [sum(count > row for count in batch_sizes) for row in range(batch_sizes[0])]
    inputs = torch.zeros(len(batch_sizes), batch_sizes[0], 4 * SIZE)
    start = 0
    for step, count in enumerate(batch_sizes):
        inputs[step, :count] = words[start : start + count] + condition[:count]
        start += count
    return module(pack_padded_sequence(inputs, lengths))[0].data


@pytest.mark.parametrize("batch_sizes", [BATCH_SIZES, (4,), (2, 2, 2), (3, 1)])
def test_it_is_an_lstm_and_so_are_its_gradients(batch_sizes):
    ours, theirs = parts(batch_sizes), parts(batch_sizes)
    weights = torch.randn(sum(batch_sizes), SIZE)
    hidden, expected = lstm(*ours, batch_sizes), as_torch_has_it(*theirs, batch_sizes)
    torch.testing.assert_close(hidden, expected)
    (hidden * weights).sum().backward()
    (expected * weights).sum().backward()
    for own, other in zip(ours, theirs, strict=True):
        mine = torch.zeros_like(own) if own.grad is None else own.grad
        torch.testing.assert_close(mine, other.grad, rtol=1e-5, atol=1e-6)


def test_under_autocast_only_products_are_short():
    exact, short = parts(), parts()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = lstm(*short, BATCH_SIZES)
    assert hidden.dtype == torch.float32
    expected = lstm(*exact, BATCH_SIZES)
    torch.testing.assert_close(hidden, expected, rtol=0.03, atol=0.01)
    assert not torch.equal(hidden, expected)
    hidden.sum().backward()
    expected.sum().backward()
    for own, other in zip(short, exact, strict=True):
        assert own.grad.dtype == torch.float32
        torch.testing.assert_close(own.grad, other.grad, rtol=0.05, atol=0.05)
