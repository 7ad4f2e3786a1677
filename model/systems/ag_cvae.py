"""AG-CVAE: a prior that is a sum over the nouns of an image."""

import torch
from torch import Tensor

from multispace.model.encoder import Words
from multispace.model.latent.distributions import DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems.captioner import read_features
from multispace.model.systems.cvae import CVAE


class AGCVAE(CVAE):
    """A CVAE whose prior adds up, Wang 2017: N(sum_k c_k(v) m_k, sigma^2 I).

    A cluster k is a noun with a place m_k of its own, at length 1 in a random direction, and c(v)
    says which nouns captions of the image name. Wang takes c from an object detector; here it
    is a softmax over the features, learnt beside the captions from the nouns that they name, and
    the captions' own loss does not move it. The posterior is told as its distance to the prior,
    in units of sigma.
    """

    cluster: Tensor
    places: Tensor

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options)
        self.nouns = read_features(options, options.clusters)
        directions = torch.randn(options.clusters, options.z_size)
        self.register_buffer("places", directions / directions.norm(dim=-1, keepdim=True))
        self.register_buffer("cluster", torch.full((options.words,), -1))

    def set_clusters(self, cluster: Tensor) -> None:
        """Set which cluster each word of the vocabulary names: int64 (V,), -1 for none."""
        self.cluster.copy_(cluster)

    def _placed(self, z: DiagonalGaussian, standard: Tensor) -> Posterior:
        nouns = self.nouns(standard).float().softmax(-1)
        return Posterior(
            z=z,
            centre=nouns.detach() @ self.places,
            std=self.options.prior_deviation,
            image=self.embed(standard),
        )

    def _aside(self, features: Tensor, words: Words) -> Tensor:
        """Return -log c_k, averaged over the nouns k of a caption and over captions."""
        named = self.cluster[words.inputs]
        said = torch.zeros(len(features), len(self.places), device=features.device)
        said[words.captions()[named >= 0], named[named >= 0]] = 1.0
        said = said / said.sum(-1, keepdim=True).clamp(min=1)
        found = self.nouns(self.standardise(features)).float().log_softmax(-1)
        return -(said * found).sum(-1).mean()
