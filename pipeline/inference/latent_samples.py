"""Captions of draws of the latent space, reproducible from a seed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from multispace.data.cache.vocabulary import Vocabulary
from multispace.errors import PipelineError
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.inference.decoding import caption_conditions, caption_features


def caption_posterior_samples(
    system: Captioner,
    features: Tensor,
    vocabulary: Vocabulary,
    *,
    count: int,
    seed: int = 0,
    width: int = 1,
    length_penalty: float = 0.0,
) -> list[list[str]]:
    """Return ``count`` captions for each image, each from its own draw of the posterior.

    :param features: (N, D)
    :param width: of the beam; 1 is greedy
    """
    with seeded(system, seed):
        draws = [
            caption_features(
                system,
                features,
                vocabulary,
                width=width,
                length_penalty=length_penalty,
                latents="sample",
            )
            for _ in range(count)
        ]
    return [list(captions) for captions in zip(*draws, strict=True)]


@torch.inference_mode()
def caption_prior_samples(
    system: Captioner,
    vocabulary: Vocabulary,
    *,
    count: int,
    seed: int = 0,
    width: int = 1,
    length_penalty: float = 0.0,
) -> list[str]:
    """Return captions of ``count`` draws of the prior, without an image.

    :raises PipelineError: the decoder or the prior of the system reads the image.
    """
    posterior = system.posterior(system.feature_mean.expand(count, -1))
    learned_prior = posterior.c is not None and posterior.c.log_prior is not None
    if posterior.image is not None or posterior.center is not None or learned_prior:
        raise PipelineError(
            f"system {system.options.system} needs an image: its decoder or its prior reads it",
            hint="sample captions of images: caption(images, samples=5)",
        )
    with seeded(system, seed):
        conditions = posterior.condition(posterior.prior_sample())
    return caption_conditions(
        system, conditions, vocabulary, width=width, length_penalty=length_penalty
    )


@contextmanager
def seeded(system: Captioner, seed: int) -> Iterator[None]:
    """Seed PyTorch's generators, and restore their state afterwards."""
    device = system.feature_mean.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
