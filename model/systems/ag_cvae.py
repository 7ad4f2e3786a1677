"""The AG-CVAE: a prior that is a sum over the nouns of an image."""

import torch
from torch import Tensor

from multispace.model.encoder import Words
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.cvae import CVAE
from multispace.model.systems.layers import feature_layer


class AGCVAE(CVAE):
    """A CVAE with an additive Gaussian prior N(sum_k c_k(v) m_k, std^2 I), Wang 2017.

    Each cluster k is a noun. Its m_k has length 1 and a random direction. The weights c(v) say
    which nouns the captions of an image contain. Wang takes them from an object detector. Here
    they are a softmax over the features that is trained, with a loss of its own, on the nouns of
    the captions; the reconstruction does not change it. The posterior stores z relative to the
    prior, in units of its std.
    """

    cluster: Tensor
    places: Tensor  # the m_k

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options)
        self.nouns = feature_layer(options, options.clusters)
        directions = torch.randn(options.clusters, options.z_size)
        self.register_buffer("places", directions / directions.norm(dim=-1, keepdim=True))
        self.register_buffer("cluster", torch.full((options.words,), -1))

    def set_clusters(self, cluster: Tensor) -> None:
        """Set the cluster of each word of the vocabulary.

        :param cluster: int64 (V,); -1 for words that belong to no cluster
        """
        self.cluster.copy_(cluster)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v, w); without captions, the prior."""
        standard = self.standardise(features)
        nouns = self.nouns(standard).float().softmax(-1)  # (B, clusters)
        return Posterior(
            z=self.gaussian(standard, words),
            center=nouns.detach() @ self.places,
            std=self.options.prior_deviation,
            image=self.embed(standard),
        )

    def auxiliary_loss(self, features: Tensor, words: Words, posterior: Posterior) -> Tensor:
        """Return -log c_k, averaged over the nouns k of a caption and over captions. ()"""
        cluster = self.cluster[words.inputs]  # (N,)
        # Words without a cluster, -1, go to a last column, which is then cut off: to select the
        # others would make the processor wait for a GPU.
        named = torch.zeros(len(features), len(self.places) + 1, device=features.device)
        named.index_put_((words.captions(), cluster), named.new_ones(()))
        named = named[:, :-1]  # (B, clusters)
        named = named / named.sum(-1, keepdim=True).clamp(min=1)
        log_c = self.nouns(self.standardise(features)).float().log_softmax(-1)
        return -(named * log_c).sum(-1).mean()
