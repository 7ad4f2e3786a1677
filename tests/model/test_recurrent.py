import pytest
import torch
from torch import nn

from multispace.model.recurrent import CELLS

READ, HIDDEN, ROWS = 3, 5, 4


@pytest.mark.parametrize(("name", "theirs"), [("lstm", nn.LSTMCell), ("gru", nn.GRUCell)])
def test_a_step_is_that_of_torchs_cell(name, theirs):
    torch.manual_seed(0)
    cell, torchs = CELLS[name], theirs(READ, HIDDEN).double()
    recurrent = nn.Linear(HIDDEN, cell.gates * HIDDEN).double()
    recurrent.weight, recurrent.bias = torchs.weight_hh, torchs.bias_hh
    read = torch.randn(ROWS, READ, dtype=torch.float64)
    state = tuple(torch.randn(ROWS, HIDDEN, dtype=torch.float64) for _ in range(cell.states))
    expected = torchs(read, state if cell.states == 2 else state[0])
    gates = nn.functional.linear(read, torchs.weight_ih, torchs.bias_ih)
    ours = cell.step(gates, state, recurrent)
    torch.testing.assert_close(ours, expected if cell.states == 2 else (expected,))


@pytest.mark.parametrize("name", CELLS)
def test_under_autocast_only_products_are_in_its_type(name):
    torch.manual_seed(0)
    cell, batch_sizes = CELLS[name], [4] * 20
    recurrent = nn.Linear(HIDDEN, cell.gates * HIDDEN, bias=cell.recurrent_bias)
    inputs = torch.randn(sum(batch_sizes), cell.gates * HIDDEN)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = cell.run(inputs, batch_sizes, recurrent)
    expected = cell.run(inputs, batch_sizes, recurrent)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, expected, rtol=0.03, atol=0.01)
    assert not torch.equal(outputs, expected)


@pytest.mark.parametrize("name", CELLS)
def test_a_run_is_its_steps_with_the_constant_part_in_each(name):
    torch.manual_seed(0)
    cell, batch_sizes = CELLS[name], [3, 3, 1]
    recurrent = nn.Linear(HIDDEN, cell.gates * HIDDEN, bias=cell.recurrent_bias)
    inputs = torch.randn(sum(batch_sizes), cell.gates * HIDDEN)
    constant = torch.randn(batch_sizes[0], cell.gates * HIDDEN)
    state, expected = (torch.zeros(batch_sizes[0], HIDDEN),) * cell.states, []
    for count, part in zip(batch_sizes, inputs.split(batch_sizes), strict=True):
        state = cell.step(part + constant[:count], tuple(s[:count] for s in state), recurrent)
        expected.append(state[0])
    outputs = cell.run(inputs, batch_sizes, recurrent, constant)
    torch.testing.assert_close(outputs, torch.cat(expected))
    without = cell.run(inputs, batch_sizes, recurrent)
    zeros = cell.run(inputs, batch_sizes, recurrent, torch.zeros_like(constant))
    torch.testing.assert_close(without, zeros)


def run_both(name, batch_sizes, precision=torch.float32):
    """Return the outputs and all gradients of `run`, and those of `run_fused`."""
    torch.manual_seed(0)
    cell = CELLS[name]
    read = nn.Linear(READ, cell.gates * HIDDEN)
    recurrent = nn.Linear(HIDDEN, cell.gates * HIDDEN, bias=cell.recurrent_bias)
    inputs = torch.randn(sum(batch_sizes), READ, requires_grad=True)
    factors = torch.randn(sum(batch_sizes), HIDDEN)
    leaves = [inputs, *read.parameters(), *recurrent.parameters()]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        both = (
            cell.run(read(inputs), batch_sizes, recurrent),
            cell.run_fused(inputs, batch_sizes, read.weight, read.bias, recurrent),
        )
    return [(out, *torch.autograd.grad((out * factors).sum(), leaves)) for out in both]


@pytest.mark.parametrize("batch_sizes", [[4], [4, 4, 4], [4, 3, 3, 1], [1, 1], [5] * 3 + [2] * 17])
@pytest.mark.parametrize("name", CELLS)
def test_the_fused_run_is_that_of_the_steps(name, batch_sizes):
    steps, fused = run_both(name, batch_sizes)
    torch.testing.assert_close(fused, steps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_under_autocast_the_fused_run_is_float32(name):
    batch_sizes = [4, 3, 3, 1]
    exact, _ = run_both(name, batch_sizes)
    steps, fused = run_both(name, batch_sizes, torch.bfloat16)
    assert fused[0].dtype == torch.float32
    torch.testing.assert_close(fused, exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused, steps, rtol=0.05, atol=0.05)
    assert not torch.equal(fused[0], steps[0])
