"""The recurrent cells, applied to captions in the order of torch's ``PackedSequence``.

A cell holds no weights. It is computed in one of two ways, which give equal results:

- :meth:`Cell.run`, step by step. Its caller multiplies the input with the input weights and passes
  the result, together with the layer that multiplies the cell's own output (``recurrent``). On a
  CPU this is faster, because parts of the product can be shared between words and captions.
- :meth:`Cell.run_fused`, in one operation of torch: cuDNN's kernels on a GPU, where the many small
  operations of single steps would take longer to start than to compute.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from multispace.model.device import autocast_type, without_autocast

# cuDNN copies weights that are not parts of one tensor. The copy takes a few microseconds.
COPIED_WEIGHTS = "RNN module weights are not part of single contiguous chunk of memory"

States = tuple[Tensor, ...]  # the state between two steps, (n, H) each; the output comes first


class Cell(ABC):
    """A kind of recurrent cell."""

    gates: int  # number of gates; their pre-activations are (n, gates * H)
    states: int  # number of tensors in the state
    recurrent_bias: bool  # whether ``recurrent`` has a bias in addition to that of the input
    fused: Callable[..., tuple[Tensor, ...]]  # torch's operation on packed sequences

    def initialise(self, inputs: nn.Linear, recurrent: nn.Linear) -> None:
        """Initialise the weights of a layer: an orthogonal recurrent matrix, biases of 0."""
        nn.init.orthogonal_(recurrent.weight)
        for bias in (inputs.bias, recurrent.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    @abstractmethod
    def step(self, inputs: Tensor, state: States, recurrent: nn.Linear) -> States:
        """Return the state after one step.

        :param inputs: the input's part of the gates, (n, gates * H)
        :param state: (n, H) each
        """

    def run(
        self,
        inputs: Tensor,
        batch_sizes: Sequence[int],
        recurrent: nn.Linear,
        constant: Tensor | None = None,
    ) -> Tensor:
        """Return the outputs of all steps of a packed batch, starting from a state of zeros.

        Under autocast only the products are in its type; gates and states are float32.

        :param inputs: the input's part of the gates, (N, gates * H)
        :param batch_sizes: number of captions that have a token at each step, never increasing
        :param constant: a part of the gates that is the same at every step, (B, gates * H)
        :returns: (N, H)
        """
        if autocast_type(inputs.device):
            inputs = inputs.float()
            constant = None if constant is None else constant.float()
        zeros = inputs.new_zeros(batch_sizes[0], recurrent.in_features)  # (B, H)
        state: States = (zeros,) * self.states
        outputs = []
        for count, part in zip(batch_sizes, inputs.split(list(batch_sizes)), strict=True):
            state = tuple(one[:count] for one in state)
            if constant is not None:
                constant = constant[:count]
                part = part + constant
            state = self.step(part, state, recurrent)
            outputs.append(state[0])
        return torch.cat(outputs)  # (N, H)

    def run_fused(
        self,
        inputs: Tensor,
        batch_sizes: Sequence[int],
        weight: Tensor,
        bias: Tensor,
        recurrent: nn.Linear,
    ) -> Tensor:
        """Return the outputs of :meth:`run` for the gates ``F.linear(inputs, weight, bias)``.

        It computes in the type of the weights, under autocast as well. On a GPU, products of
        float32 have the precision of ``torch.backends.cudnn.allow_tf32``. cuDNN does not multiply
        bfloat16, and torch would take float16 in its place, in which small gradients become 0.

        :param inputs: (N, D)
        :param batch_sizes: number of captions that have a token at each step, never increasing
        :param weight: (gates * H, D)
        :param bias: (gates * H,)
        :returns: (N, H)
        """
        own = torch.zeros_like(bias) if recurrent.bias is None else recurrent.bias
        with without_autocast(inputs.device), warnings.catch_warnings():
            warnings.filterwarnings("ignore", COPIED_WEIGHTS)
            inputs = inputs.to(weight.dtype)
            zeros = inputs.new_zeros(1, batch_sizes[0], recurrent.in_features)  # (1, B, H)
            outputs, *_ = self.fused(
                inputs,
                torch.tensor(batch_sizes),
                (zeros,) * self.states if self.states > 1 else zeros,
                [weight, recurrent.weight, bias, own],
                has_biases=True,
                num_layers=1,
                dropout=0.0,
                train=torch.is_grad_enabled(),
                bidirectional=False,
            )
        return outputs


class LSTM(Cell):
    """Long short-term memory with a forget gate, Gers 2000. Gates: input, forget, cell, output."""

    gates, states, recurrent_bias = 4, 2, False
    fused = staticmethod(torch.lstm)

    def initialise(self, inputs: nn.Linear, recurrent: nn.Linear) -> None:
        """Initialise the weights, with a forget gate bias of 1, Jozefowicz 2015."""
        super().initialise(inputs, recurrent)
        with torch.no_grad():
            inputs.bias.chunk(4)[1].fill_(1.0)

    def step(self, inputs: Tensor, state: States, recurrent: nn.Linear) -> States:
        """Return (output, cell state), (n, H) each."""
        output, memory = state
        input_, forget, cell, out = (inputs + recurrent(output)).chunk(4, dim=1)  # (n, H) each
        memory = forget.sigmoid() * memory + input_.sigmoid() * cell.tanh()
        return out.sigmoid() * memory.tanh(), memory


class GRU(Cell):
    """Gated recurrent unit, Cho 2014, in cuDNN's form. Gates: reset, update, new.

    The reset gate multiplies the recurrent product including its bias, so the recurrent layer
    needs a bias of its own.
    """

    gates, states, recurrent_bias = 3, 1, True
    fused = staticmethod(torch.gru)

    def step(self, inputs: Tensor, state: States, recurrent: nn.Linear) -> States:
        """Return (output,), (n, H)."""
        (output,) = state
        reset_in, update_in, new_in = inputs.chunk(3, dim=1)  # (n, H) each
        reset_own, update_own, new_own = recurrent(output).chunk(3, dim=1)
        update = (update_in + update_own).sigmoid()
        new = (new_in + (reset_in + reset_own).sigmoid() * new_own).tanh()
        return ((1 - update) * new + update * output,)


CELLS: dict[str, Cell] = {"lstm": LSTM(), "gru": GRU()}
