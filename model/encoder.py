"""A recurrent reader of captions, for posteriors that see the words."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from multispace.model.recurrent import CELLS


class Words(NamedTuple):
    """Captions packed step by step, as a batch has them."""

    inputs: Tensor  # int64 (N,), those of step 0 all BOS
    batch_sizes: Sequence[int]  # captions that have a token at each step, not rising

    def captions(self) -> Tensor:
        """Return which caption each token is of, int64 (N,)."""
        place = torch.arange(self.batch_sizes[0], device=self.inputs.device)
        return torch.cat([place[:count] for count in self.batch_sizes])

    def ends(self) -> Tensor:
        """Return where the last token of each caption stands among the N, int64 (B,)."""
        captions = self.captions()
        places = torch.arange(len(captions), device=captions.device)
        return torch.zeros_like(captions[: self.batch_sizes[0]]).scatter_reduce(
            0, captions, places, "amax", include_self=False
        )


class Encoder(nn.Module):
    """Captions to vectors: the output of a recurrent layer when it has read the last word."""

    def __init__(self, *, embedding: int, hidden: int, cell: str = "lstm") -> None:
        super().__init__()
        self.cell = CELLS[cell]
        self.gates = nn.Linear(embedding, self.cell.gates * hidden)
        self.recurrent_gates = nn.Linear(
            hidden, self.cell.gates * hidden, bias=self.cell.recurrent_bias
        )
        self.cell.initialise(self.gates, self.recurrent_gates)

    def forward(self, embedding: nn.Embedding, words: Words) -> Tensor:
        """Return a vector a caption, (B, H).

        :param embedding: word vectors, those of the decoder
        """
        distinct, place = words.inputs.unique(return_inverse=True)
        gates = self.gates(embedding(distinct)).index_select(0, place)
        return self.cell.run(gates, words.batch_sizes, self.recurrent_gates)[words.ends()]
