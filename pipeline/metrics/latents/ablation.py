"""What captions lose when the latent is not their image's: whether the decoder uses it."""

import numpy as np
import torch
from torch import Tensor

from multispace.data.batches import Pairs
from multispace.model.latent.posterior import Posterior
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.inference.split_posterior import posterior_of
from multispace.pipeline.metrics.latents.likelihood import mean_nll


@torch.no_grad()
def ablation(
    system: Captioner, pairs: Pairs, captions: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Return the nats a caption lost when latents are shuffled between images, by channel.

    ``z``, ``c`` and ``both``, as far as the system has them; nothing for `base`. A loss near 0
    says that the decoder ignores the channel. Cheap enough for every epoch of a training: up to
    four passes over at most ``captions`` captions, no decoding, no draw from torch's generator.
    The system is left in evaluation mode.
    """
    system.eval()
    pairs, posterior = posterior_of(system, pairs)
    conditions = shuffled(posterior, seed)
    if not conditions:
        return {}
    nats = mean_nll(system, pairs, {"own": posterior.mode(), **conditions}, captions)
    return {name: nats[name] - nats["own"] for name in conditions}


def shuffled(posterior: Posterior, seed: int) -> dict[str, Tensor]:
    """Return conditions (P, C) with z, c or both of another image; none keeps its own.

    Both come from the same other image. With one image there is no other.
    """
    if posterior.z is None and posterior.c is None:
        return {}
    own = posterior.latents()
    ring = torch.from_numpy(np.random.default_rng(seed).permutation(len(own))).to(own.device)
    other = torch.empty_like(own)
    other[ring] = own[ring.roll(1)]
    return _replace(posterior, other)


def from_prior(posterior: Posterior) -> dict[str, Tensor]:
    """Return conditions (P, C) with z, c or both drawn from the prior: N(0, I), uniform one-hot."""
    return _replace(posterior, posterior.prior_sample())


def _replace(posterior: Posterior, other: Tensor) -> dict[str, Tensor]:
    """Return the mode with each channel of the latents, and with both, taken from ``other``."""
    replaced = {"z": other} if posterior.c is None else {"c": other}
    if posterior.z is not None and posterior.c is not None:
        own, size = posterior.latents(), posterior.z.mean.shape[-1]
        replaced = {
            "z": torch.cat((other[:, :size], own[:, size:]), -1),
            "c": torch.cat((own[:, :size], other[:, size:]), -1),
            "both": other,
        }
    return {name: posterior.condition(latents) for name, latents in replaced.items()}
