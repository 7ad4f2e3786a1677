"""The joint space with a posterior of c that reads the caption."""

import torch
from torch import Tensor, nn

from multispace.model.encoder import Words
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.capacities import CapacityControlled
from multispace.model.systems.layers import feature_layer, gaussian_layer


class CaptionCategories(nn.Module):
    """The posterior q(c | w) and the prior p(c | v) of the categorical variables.

    The logits of q(c | w) are sums over the caption's words, BOS and EOS not included, of a
    learnt table. The table starts with entries from N(0, 1): captions are random, sharply
    separated cells at first, so that c carries information from the first step on. The logits of
    p(c | v) are linear in the features; with ``--prior-c uniform`` the prior ignores the image.

    The capacity term trains the posterior alone: below its capacity, it would make the prior a
    worse predictor. :meth:`Categoricals.prior_loss` trains the prior, at all times.
    """

    def __init__(self, options: SystemOptions) -> None:
        super().__init__()
        self.sizes = options.categories
        self.table = nn.Embedding(options.words, sum(self.sizes))
        learned = options.prior_c == "learned"
        self.prior = feature_layer(options, sum(self.sizes)) if learned else None

    def forward(self, standard: Tensor, words: Words | None = None) -> Categoricals:
        """Return q(c | w) with the prior p(c | v); without captions, p(c | v) for both.

        :param standard: standardised features, (B, D)
        """
        prior = None if self.prior is None else self.prior(standard).float()  # (B, sum of sizes)
        if words is None:
            zeros = standard.new_zeros(standard.shape[0], sum(self.sizes), dtype=torch.float32)
            logits = zeros if prior is None else prior
        else:
            logits = self.caption_logits(words)
        return Categoricals.from_parameters(logits, self.sizes, prior)

    def caption_logits(self, words: Words) -> Tensor:
        """Return the logits of q(c | w). (B, sum of sizes)"""
        captions = words.batch_sizes[0]
        of_words = self.table(words.inputs[captions:]).float()  # without BOS, (N - B, sizes)
        zeros = of_words.new_zeros(captions, sum(self.sizes))
        return zeros.index_add(0, words.captions()[captions:], of_words)


class Joint(CapacityControlled):
    """`multispace` in which c describes the caption: q(z | v) q(c | w), with a prior p(c | v).

    As in `multispace`, the decoder sees the image only through [z ; c]. z carries what the image
    determines. c carries which of the possible captions is meant, because its posterior reads
    the caption. For a new image c comes from p(c | v). Latent dropout sets c to zero for a
    fraction of the training captions, so that the decoder also works without c.
    """

    reads_captions = True
    dropped_channels = ("c",)

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size + sum(options.categories))
        self.z_parameters = gaussian_layer(options)
        self.categories = CaptionCategories(options)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v) q(c | w); without captions, q(z | v) p(c | v)."""
        standard = self.standardise(features)
        return Posterior(
            z=DiagonalGaussian.from_parameters(self.z_parameters(standard)),
            c=self.categories(standard, words),
            scale_c=self.options.scale_c,
        )

    def auxiliary_loss(self, features: Tensor, words: Words, posterior: Posterior) -> Tensor:
        """Return the loss that trains p(c | v), in nats. ()"""
        return posterior.prior_loss_c()
