"""Plain PyTorch versions of the systems: padded captions and nn.LSTM, as in public tutorials."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from workload import FEATURES, WORDS

from multispace.data.captions.vocabulary import PAD

SIZE, Z, C = 512, 128, 128  # units of word vectors and LSTM; sizes of z and c


class PlainCaptioner(nn.Module):
    """A plain version of `base`, `multispace` or `joint`, with the same sizes."""

    def __init__(self, system: str) -> None:
        super().__init__()
        self.latent = system != "base"
        self.image = nn.Linear(FEATURES, 2 * Z + C if self.latent else SIZE)
        # In `joint`, q(c) reads the words of the caption, and the image gives its prior.
        self.table = (
            nn.EmbeddingBag(WORDS, C, mode="sum", padding_idx=PAD) if (system == "joint") else None
        )
        self.embedding = nn.Embedding(WORDS, SIZE, padding_idx=PAD)
        self.lstm = nn.LSTM(SIZE + (Z + C if self.latent else SIZE), SIZE, batch_first=True)
        self.output = nn.Linear(SIZE, WORDS)

    def forward(self, features: Tensor, captions: Tensor) -> Tensor:
        """Return the loss.

        :param features: (B, D)
        :param captions: padded, between BOS and EOS, int64 (B, T + 1)
        """
        condition = self.image(features)
        penalty = condition.new_zeros(())
        if self.latent:
            condition, penalty = self._latents(condition.float(), captions)
        words = self.embedding(captions[:, :-1])
        repeated = condition.unsqueeze(1).expand(-1, words.shape[1], -1)
        hidden, _ = self.lstm(torch.cat((repeated, words), dim=2))
        logits = self.output(hidden)
        nats = F.cross_entropy(
            logits.reshape(-1, WORDS), captions[:, 1:].reshape(-1), ignore_index=PAD
        )
        return nats + penalty

    def _latents(self, parameters: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
        """Return a draw of [z ; c] and the cost of its KLs."""
        mean, log_variance, scores = parameters.split((Z, Z, C), dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        kl_z = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1).mean()
        log_prior = torch.zeros_like(scores)
        if self.table is not None:
            log_prior, scores = scores.log_softmax(1), self.table(captions).float()
        condition = torch.cat((z, F.gumbel_softmax(scores, tau=0.67)), dim=1)
        log_p = scores.log_softmax(1)
        kl_c = (log_p.exp() * (log_p - log_prior)).sum(1).mean()
        return condition, 0.05 * (kl_z - 30).abs() + 0.05 * kl_c.abs()
