"""The caption decoder: a recurrent network that reads [condition ; word] at every step.

The condition (what is known of the image) is the same at every step, so its part of the input
product is computed once a caption, and the words' part in one product for all steps. That is the
cell over the concatenation, with its input matrix split in two.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multispace.model.recurrent import CELLS, States


class State(NamedTuple):
    """Where a caption stands between two words."""

    layers: tuple[States, ...]  # the lowest first; (B, H) each
    condition: Tensor  # the condition's part of the lowest layer's gates, (B, gates * H)

    def select(self, rows: Tensor) -> "State":
        """Return the states of ``rows``, int64 (n,)."""
        layers = tuple(tuple(part[rows] for part in layer) for layer in self.layers)
        return State(layers, self.condition[rows])


class Decoder(nn.Module):
    """Word probabilities given a condition and the words so far.

    :param dropout: share of the units of word vectors, and of each layer's outputs, left out
    :param word_dropout: share of the words read, but for BOS, that training replaces by
        ``unknown``, so that the condition is worth heeding, Bowman 2016
    :param tie: the output matrix is the embedding's, Press & Wolf 2017; both sizes must be alike
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
        # A layer above the lowest reads the outputs of the one below.
        self.upper_gates = nn.ModuleList(nn.Linear(hidden, gates) for _ in range(layers - 1))
        self.upper_recurrent_gates = nn.ModuleList(
            nn.Linear(hidden, gates, bias=bias) for _ in range(layers - 1)
        )
        self.word_dropout = word_dropout
        self.unknown = unknown
        nn.init.normal_(self.embedding.weight, std=0.1)
        for read, recurrent in ((self.word_gates, self.recurrent_gates), *self._upper()):
            self.cell.initialise(read, recurrent)
        if tie:  # one parameter under one name, so that a checkpoint holds it once
            self.output.register_parameter("weight", None)

    @property
    def output_weight(self) -> Tensor:
        """The matrix from outputs to logits, (V, H)."""
        return self.embedding.weight if self.output.weight is None else self.output.weight

    def forward(self, condition: Tensor, inputs: Tensor, batch_sizes: Sequence[int]) -> Tensor:
        """Return word logits under teacher forcing, (N, V); see :meth:`outputs`."""
        return self._logits(self.outputs(condition, inputs, batch_sizes))

    def outputs(self, condition: Tensor, inputs: Tensor, batch_sizes: Sequence[int]) -> Tensor:
        """Return what the logits are made from, under teacher forcing.

        :param condition: (B, C)
        :param inputs: int64 (N,), packed step by step as in a batch, those of step 0 all BOS
        :param active: captions that have a token at each step, not rising
        :return: (N, H)
        """
        if self.training and self.word_dropout:
            dropped = torch.rand(inputs.shape, device=inputs.device) < self.word_dropout
            dropped[: batch_sizes[0]] = False
            inputs = inputs.masked_fill(dropped, self.unknown)
        # A batch repeats its words: each distinct one goes through the product once. Dropout is
        # then alike for all places of a word in the batch, as Gal & Ghahramani 2016 propose.
        distinct, place = inputs.unique(return_inverse=True)
        gates = self.word_gates(self.dropout(self.embedding(distinct))).index_select(0, place)
        constant = self.condition_gates(condition)
        outputs = self.dropout(self.cell.run(gates, batch_sizes, self.recurrent_gates, constant))
        for read, recurrent in self._upper():
            outputs = self.dropout(self.cell.run(read(outputs), batch_sizes, recurrent))
        return outputs

    def start(self, condition: Tensor) -> State:
        """Return the state before the first word. (B, C) -> B states"""
        zeros = condition.new_zeros(len(condition), self.recurrent_gates.in_features)
        layers = ((zeros,) * self.cell.states,) * (1 + len(self.upper_gates))
        return State(layers, self.condition_gates(condition))

    def step(self, state: State, words: Tensor) -> tuple[State, Tensor]:
        """Read one word each and return the new state and the logits of the next.

        :param words: int64 (B,)
        :return: state, (B, V)
        """
        gates = self.word_gates(self.embedding(words)) + state.condition
        lowest, *above = state.layers
        layers = [self.cell.step(gates, lowest, self.recurrent_gates)]
        for (read, recurrent), layer in zip(self._upper(), above, strict=True):
            layers.append(self.cell.step(read(layers[-1][0]), layer, recurrent))
        return State(tuple(layers), state.condition), self._logits(layers[-1][0])

    def _upper(self) -> list[tuple[nn.Linear, nn.Linear]]:
        pairs = zip(self.upper_gates, self.upper_recurrent_gates, strict=True)
        return cast(list[tuple[nn.Linear, nn.Linear]], list(pairs))

    def _logits(self, outputs: Tensor) -> Tensor:
        return F.linear(outputs, self.output_weight, self.output.bias)
