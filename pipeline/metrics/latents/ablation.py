"""Ablation of latents: what captions lose when the latents are those of another image."""

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
    """Return the nats per caption that are lost when latents are shuffled between images.

    The result has ``z``, ``c`` and ``both``, as far as the system has them, and is empty for
    `base`. A loss near 0 means that the decoder ignores the channel. It costs up to four passes
    over the captions, without decoding and without a draw from torch's generator, which is cheap
    enough for every epoch of a training. The system is left in evaluation mode.

    :param captions: maximum number of captions
    """
    system.eval()
    pairs, posterior = posterior_of(system, pairs)
    conditions = shuffled(posterior, seed)
    if not conditions:
        return {}
    nats = mean_nll(system, pairs, {"own": posterior.mode(), **conditions}, captions)
    return {name: nats[name] - nats["own"] for name in conditions}


def shuffled(posterior: Posterior, seed: int) -> dict[str, Tensor]:
    """Return conditions (P, C) with z, c or both taken from another image.

    Both come from the same other image, and no image keeps its own (unless there is only one).
    """
    if posterior.z is None and posterior.c is None:
        return {}
    own = posterior.latents()
    ring = torch.from_numpy(np.random.default_rng(seed).permutation(len(own))).to(own.device)
    other = torch.empty_like(own)
    other[ring] = own[ring.roll(1)]
    return _replace(posterior, other)


def from_prior(posterior: Posterior) -> dict[str, Tensor]:
    """Return conditions (P, C) with z, c or both drawn from their priors, c one-hot."""
    return _replace(posterior, posterior.prior_sample())


def _replace(posterior: Posterior, other: Tensor) -> dict[str, Tensor]:
    """Return the mode with z, c or both taken from ``other``."""
    replaced = {"z": other} if posterior.c is None else {"c": other}
    if posterior.z is not None and posterior.c is not None:
        own, size = posterior.latents(), posterior.z.mean.shape[-1]
        replaced = {
            "z": torch.cat((other[:, :size], own[:, size:]), -1),
            "c": torch.cat((own[:, :size], other[:, size:]), -1),
            "both": other,
        }
    return {name: posterior.condition(latents) for name, latents in replaced.items()}
