"""The caption decoder: an LSTM that reads [condition ; word] at every step.

The condition (what is known of the picture) is the same at every step, so its part of the input
product is computed once a caption, and the words' part in one product for all steps. That is the
LSTM over the concatenation, with its input matrix split in two.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class State(NamedTuple):
    """Where a caption stands between two words."""

    hidden: Tensor  # (B, H)
    cell: Tensor  # (B, H)
    condition: Tensor  # (B, 4 H), the condition's part of the gates

    def select(self, rows: Tensor) -> "State":
        """Return the states of ``rows``, int64 (n,)."""
        return State(*(part[rows] for part in self))


class Decoder(nn.Module):
    """Word probabilities given a condition and the words so far."""

    def __init__(
        self, *, words: int, condition: int, embedding: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding)
        self.word_gates = nn.Linear(embedding, 4 * hidden)
        self.condition_gates = nn.Linear(condition, 4 * hidden, bias=False)
        self.recurrent_gates = nn.Linear(hidden, 4 * hidden, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, words)
        self._initialise(hidden)

    def _initialise(self, hidden: int) -> None:
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.orthogonal_(self.recurrent_gates.weight)
        with torch.no_grad():
            self.word_gates.bias.zero_()
            self.word_gates.bias[hidden : 2 * hidden] = 1.0  # remember at first, Jozefowicz 2015

    def forward(self, condition: Tensor, inputs: Tensor, active: Sequence[int]) -> Tensor:
        """Return word logits under teacher forcing.

        :param condition: (B, C)
        :param inputs: int64 (N,), packed step by step as in a batch
        :param active: captions that have a token at each step, not rising
        :return: (N, V)
        """
        # A batch repeats its words: each distinct one goes through the product once. Dropout is
        # then alike for all places of a word in the batch, as Gal & Ghahramani 2016 propose.
        distinct, place = inputs.unique(return_inverse=True)
        gates = self.word_gates(self.dropout(self.embedding(distinct)))[place]
        state = self.start(condition)
        outputs = []
        for count, words in zip(active, gates.split(list(active)), strict=True):
            state = self._cell(State(*(part[:count] for part in state)), words)
            outputs.append(state.hidden)
        return self.output(self.dropout(torch.cat(outputs)))

    def start(self, condition: Tensor) -> State:
        """Return the state before the first word. (B, C) -> B states"""
        zeros = condition.new_zeros(len(condition), self.recurrent_gates.in_features)
        return State(zeros, zeros, self.condition_gates(condition))

    def step(self, state: State, words: Tensor) -> tuple[State, Tensor]:
        """Read one word each and return the new state and the logits of the next.

        :param words: int64 (B,)
        :return: state, (B, V)
        """
        state = self._cell(state, self.word_gates(self.embedding(words)))
        return state, self.output(state.hidden)

    def _cell(self, state: State, words: Tensor) -> State:
        gates = words + state.condition + self.recurrent_gates(state.hidden)  # (n, 4 H)
        enter, keep, new, show = gates.chunk(4, dim=1)
        cell = keep.sigmoid() * state.cell + enter.sigmoid() * new.tanh()
        return State(show.sigmoid() * cell.tanh(), cell, state.condition)
