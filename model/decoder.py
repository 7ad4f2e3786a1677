"""The caption decoder: a recurrent network that reads [condition ; word] at every step.

The condition is a vector computed from the image and the latents. It is the same at every step.
The input matrix is therefore split in two: the condition's product is computed once per caption,
and the words' product once for all steps. The result equals the cell over the concatenation.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multispace.model.device import is_gpu
from multispace.model.encoder import Words
from multispace.model.recurrent import CELLS, States


class State(NamedTuple):
    """The decoder's state between two words of B captions."""

    layers: tuple[States, ...]  # the first layer first; (B, H) each
    condition: Tensor  # the condition's part of the first layer's gates, (B, gates * H)

    def select(self, rows: Tensor) -> "State":
        """Return the states of ``rows``, int64 (n,)."""
        layers = tuple(tuple(part[rows] for part in layer) for layer in self.layers)
        return State(layers, self.condition[rows])


class Decoder(nn.Module):
    """Word logits given a condition and the previous words.

    :param words: size V of the vocabulary
    :param condition: size C of the condition
    :param embedding: size of word vectors
    :param hidden: units H of each layer
    :param dropout: fraction of the units of word vectors, and of each layer's outputs, that
        training sets to zero
    :param cell: ``lstm`` or ``gru``
    :param layers: number of recurrent layers
    :param tie: use the embedding as the output matrix, Press & Wolf 2017; needs ``embedding``
        equal to ``hidden``
    :param word_dropout: fraction of the input words except BOS that training replaces by
        ``unknown``, so that the decoder relies more on the condition, Bowman 2016
    :param unknown: id of the word <unk>
    """

    def __init__(
        self,
        *,
        words: int,
        condition: int,
        embedding: int,
        hidden: int,
        dropout: float = 0.0,
        cell: str = "lstm",
        layers: int = 1,
        tie: bool = False,
        word_dropout: float = 0.0,
        unknown: int = 3,
    ) -> None:
        super().__init__()
        self.cell = CELLS[cell]
        gates, bias = self.cell.gates * hidden, self.cell.recurrent_bias
        self.embedding = nn.Embedding(words, embedding)
        self.word_gates = nn.Linear(embedding, gates)
        self.condition_gates = nn.Linear(condition, gates, bias=False)
        self.recurrent_gates = nn.Linear(hidden, gates, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, words)
        # Each further layer reads the outputs of the layer below.
        self.upper_gates = nn.ModuleList(nn.Linear(hidden, gates) for _ in range(layers - 1))
        self.upper_recurrent_gates = nn.ModuleList(
            nn.Linear(hidden, gates, bias=bias) for _ in range(layers - 1)
        )
        self.word_dropout = word_dropout
        self.unknown = unknown
        nn.init.normal_(self.embedding.weight, std=0.1)
        for read, recurrent in ((self.word_gates, self.recurrent_gates), *self._upper()):
            self.cell.initialise(read, recurrent)
        if tie:  # remove the parameter, so that a checkpoint stores the shared matrix once
            self.output.register_parameter("weight", None)

    @property
    def output_weight(self) -> Tensor:
        """The matrix from outputs to logits, (V, H)."""
        return self.embedding.weight if self.output.weight is None else self.output.weight

    def forward(self, condition: Tensor, inputs: Tensor, batch_sizes: Sequence[int]) -> Tensor:
        """Return word logits under teacher forcing, (N, V); see :meth:`outputs`."""
        return self._logits(self.outputs(condition, inputs, batch_sizes))

    def outputs(self, condition: Tensor, inputs: Tensor, batch_sizes: Sequence[int]) -> Tensor:
        """Return the outputs of the last layer under teacher forcing.

        :param condition: (B, C)
        :param inputs: words packed step by step as in a batch, int64 (N,); BOS at step 0
        :param batch_sizes: number of captions that have a token at each step, never increasing
        :returns: (N, H)
        """
        if self.training and self.word_dropout:
            dropped = torch.rand(inputs.shape, device=inputs.device) < self.word_dropout
            dropped[: batch_sizes[0]] = False
            inputs = inputs.masked_fill(dropped, self.unknown)
        if is_gpu(inputs.device):
            outputs = self._first_outputs_fused(condition, inputs, batch_sizes)
            for read, recurrent in self._upper():
                outputs = self.cell.run_fused(
                    self.dropout(outputs), batch_sizes, read.weight, read.bias, recurrent
                )
            return self.dropout(outputs)
        # A batch repeats words, so each distinct word is multiplied once. Dropout is then the
        # same for all occurrences of a word in the batch, as in Gal & Ghahramani 2016.
        distinct, index = inputs.unique(return_inverse=True)
        gates = self.word_gates(self.dropout(self.embedding(distinct)))  # (distinct, gates * H)
        gates = gates.index_select(0, index)  # (N, gates * H)
        constant = self.condition_gates(condition)  # (B, gates * H)
        outputs = self.dropout(self.cell.run(gates, batch_sizes, self.recurrent_gates, constant))
        for read, recurrent in self._upper():
            outputs = self.dropout(self.cell.run(read(outputs), batch_sizes, recurrent))
        return outputs

    def _first_outputs_fused(
        self, condition: Tensor, inputs: Tensor, batch_sizes: Sequence[int]
    ) -> Tensor:
        """Return the outputs of the first layer in one operation, (N, H)."""
        # Dropout is the same for all occurrences of a word, as in the other way. The gradient of
        # an embedding, unlike that of an index, is summed in the same order each time.
        vectors = F.embedding(inputs, self.dropout(self.embedding.weight))  # (N, E)
        captions = Words(inputs, batch_sizes).captions()  # (N,)
        conditions = F.embedding(captions, condition.to(vectors.dtype))  # (N, C)
        weight = torch.cat((self.word_gates.weight, self.condition_gates.weight), dim=1)
        return self.cell.run_fused(
            torch.cat((vectors, conditions), dim=1),
            batch_sizes,
            weight,
            self.word_gates.bias,
            self.recurrent_gates,
        )

    def start(self, condition: Tensor) -> State:
        """Return the state before the first word.

        :param condition: (B, C)
        """
        zeros = condition.new_zeros(len(condition), self.recurrent_gates.in_features)  # (B, H)
        layers = ((zeros,) * self.cell.states,) * (1 + len(self.upper_gates))
        return State(layers, self.condition_gates(condition))

    def step(self, state: State, words: Tensor) -> tuple[State, Tensor]:
        """Read one word per caption.

        :param words: int64 (B,)
        :returns: the new state, and the logits of the next words (B, V)
        """
        gates = self.word_gates(self.embedding(words)) + state.condition  # (B, gates * H)
        first, *upper = state.layers
        layers = [self.cell.step(gates, first, self.recurrent_gates)]
        for (read, recurrent), layer in zip(self._upper(), upper, strict=True):
            layers.append(self.cell.step(read(layers[-1][0]), layer, recurrent))
        return State(tuple(layers), state.condition), self._logits(layers[-1][0])

    def _upper(self) -> list[tuple[nn.Linear, nn.Linear]]:
        pairs = zip(self.upper_gates, self.upper_recurrent_gates, strict=True)
        return cast(list[tuple[nn.Linear, nn.Linear]], list(pairs))

    def _logits(self, outputs: Tensor) -> Tensor:
        return F.linear(outputs, self.output_weight, self.output.bias)
