"""The recurrent cells of the decoder, over captions packed step by step.

A cell holds no weights. It is given the input's part of its gates, already multiplied, and the
map of its own output (``recurrent``), and turns them into the next state.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multispace.model.lstm import lstm

States = tuple[Tensor, ...]  # what a cell carries between two steps, (n, H) each; output first


class Cell(ABC):
    """One kind of recurrent cell."""

    gates: int  # the gates are (n, gates * H)
    states: int
    recurrent_bias: bool  # whether ``recurrent`` needs a bias beside that of the input's part

    def initialise(self, inputs: nn.Linear, recurrent: nn.Linear) -> None:
        """Set what a layer begins with: an orthogonal recurrent matrix, and biases of 0."""
        nn.init.orthogonal_(recurrent.weight)
        for bias in (inputs.bias, recurrent.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    @abstractmethod
    def step(self, inputs: Tensor, state: States, recurrent: nn.Linear) -> States:
        """Return the state after one step.

        :param inputs: the input's part of the gates, (n, gates * H)
        """

    def run(
        self,
        inputs: Tensor,
        batch_sizes: Sequence[int],
        recurrent: nn.Linear,
        constant: Tensor | None = None,
    ) -> Tensor:
        """Return the outputs of all steps of a packed batch, from a state of zeros.

        :param inputs: the input's part of the gates, (N, gates * H)
        :param active: captions that have a token at each step, not rising
        :param constant: a part of the gates that is alike at all steps, (B, gates * H)
        :return: (N, H)
        """
        zeros = inputs.new_zeros(batch_sizes[0], recurrent.in_features)
        state: States = (zeros,) * self.states
        outputs = []
        for count, part in zip(batch_sizes, inputs.split(list(batch_sizes)), strict=True):
            state = tuple(one[:count] for one in state)
            if constant is not None:
                constant = constant[:count]
                part = part + constant
            state = self.step(part, state, recurrent)
            outputs.append(state[0])
        return torch.cat(outputs)


class LSTM(Cell):
    """Long short-term memory with a forget gate, Gers 2000. Gates: in, forget, new, out."""

    gates, states, recurrent_bias = 4, 2, False

    def initialise(self, inputs: nn.Linear, recurrent: nn.Linear) -> None:
        """Begin by remembering: the forget gate's bias is 1, Jozefowicz 2015."""
        super().initialise(inputs, recurrent)
        with torch.no_grad():
            inputs.bias.chunk(4)[1].fill_(1.0)

    def step(self, inputs: Tensor, state: States, recurrent: nn.Linear) -> States:
        """Return (output, memory), (n, H) each."""
        output, memory = state
        enter, keep, new, show = (inputs + recurrent(output)).chunk(4, dim=1)
        memory = keep.sigmoid() * memory + enter.sigmoid() * new.tanh()
        return show.sigmoid() * memory.tanh(), memory

    def run(
        self,
        inputs: Tensor,
        batch_sizes: Sequence[int],
        recurrent: nn.Linear,
        constant: Tensor | None = None,
    ) -> Tensor:
        """Return the same as step after step, with a backward pass that is written out."""
        return lstm(inputs, constant, recurrent.weight, batch_sizes)


class GRU(Cell):
    """Gated recurrent unit, Cho 2014, in the form of cuDNN. Gates: reset, update, new.

    The reset gate acts on the product with the output, and so on the bias in it: the recurrent
    map needs a bias of its own.
    """

    gates, states, recurrent_bias = 3, 1, True

    def step(self, inputs: Tensor, state: States, recurrent: nn.Linear) -> States:
        """Return (output,), (n, H)."""
        (output,) = state
        reset_in, update_in, new_in = inputs.chunk(3, dim=1)
        reset_own, update_own, new_own = recurrent(output).chunk(3, dim=1)
        update = (update_in + update_own).sigmoid()
        new = (new_in + (reset_in + reset_own).sigmoid() * new_own).tanh()
        return ((1 - update) * new + update * output,)


CELLS: dict[str, Cell] = {"lstm": LSTM(), "gru": GRU()}
