"""A recurrent caption encoder, for posteriors that read the caption."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multispace.model.device import is_gpu
from multispace.model.recurrent import CELLS


class Words(NamedTuple):
    """B captions packed step by step, as in a batch; N words in all."""

    inputs: Tensor  # int64 (N,); the words of step 0 are all BOS
    batch_sizes: Sequence[int]  # captions that have a token at each step, never increasing

    def captions(self) -> Tensor:
        """Return the caption that each word belongs to, int64 (N,)."""
        captions = torch.arange(self.batch_sizes[0], device=self.inputs.device)
        return torch.cat([captions[:count] for count in self.batch_sizes])

    def ends(self) -> Tensor:
        """Return the position of each caption's last word among the N, int64 (B,)."""
        captions = self.captions()
        positions = torch.arange(len(captions), device=captions.device)
        return torch.zeros_like(captions[: self.batch_sizes[0]]).scatter_reduce(
            0, captions, positions, "amax", include_self=False
        )


class Encoder(nn.Module):
    """Captions to vectors: the output of a recurrent layer after the last word."""

    def __init__(self, *, embedding: int, hidden: int, cell: str = "lstm") -> None:
        super().__init__()
        self.cell = CELLS[cell]
        self.gates = nn.Linear(embedding, self.cell.gates * hidden)
        self.recurrent_gates = nn.Linear(
            hidden, self.cell.gates * hidden, bias=self.cell.recurrent_bias
        )
        self.cell.initialise(self.gates, self.recurrent_gates)

    def forward(self, embedding: nn.Embedding, words: Words) -> Tensor:
        """Encode captions.

        :param embedding: word vectors, those of the decoder
        :returns: one vector per caption, (B, H)
        """
        if is_gpu(words.inputs.device):
            vectors = embedding(words.inputs)  # (N, E)
            outputs = self.cell.run_fused(
                vectors, words.batch_sizes, self.gates.weight, self.gates.bias, self.recurrent_gates
            )
            return F.embedding(words.ends(), outputs)
        distinct, index = words.inputs.unique(return_inverse=True)
        gates = self.gates(embedding(distinct)).index_select(0, index)  # (N, gates * H)
        return self.cell.run(gates, words.batch_sizes, self.recurrent_gates)[words.ends()]
