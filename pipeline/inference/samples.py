"""Several captions of an image, reproducible from a seed."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multispace.data.captions.vocabulary import Vocabulary
from multispace.errors import OptionError, PipelineError
from multispace.model.beam_search import MAX_WORDS
from multispace.model.sampling import sample
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.console.progress import DELAY, Progress
from multispace.pipeline.inference.decoding import (
    MARKS,
    caption_conditions,
    check_finite,
    decoder_of,
    parts_of,
)


@dataclass(frozen=True)
class Sampling:
    """How samples are made.

    :param count: captions per image
    :param seed: of all draws
    :param width: of the beam; 1 is greedy search
    :param length_penalty: the beam divides log probabilities by length to this power
    :param temperature: draw words from the decoder at this temperature; 0 searches with the beam
    :param top_p: probability of the words that are drawn from
    :param latent_temperature: factor on the std of z, and exponent 1 / it of probabilities of c
    :param guidance: how closely words follow the latents; see :class:`GuidedDecoder`
    """

    count: int
    seed: int = 0
    width: int = 1
    length_penalty: float = 0.0
    temperature: float = 0.0
    top_p: float = 1.0
    latent_temperature: float = 1.0
    guidance: float = 1.0

    @classmethod
    def of(cls, options: Any, length_penalty: float = 0.0) -> "Sampling":
        """Return the sampling that the options of `caption` or `evaluate` ask for."""
        return cls(
            count=options.samples,
            seed=options.seed,
            width=options.beam,
            length_penalty=length_penalty,
            temperature=options.temperature,
            top_p=options.top_p,
            latent_temperature=options.latent_temperature,
            guidance=options.guidance,
        )


@torch.inference_mode()
def caption_samples(
    system: Captioner, features: Tensor, vocabulary: Vocabulary, sampling: Sampling
) -> list[list[str]]:
    """Return several captions for each image, each from its own draw of the latents.

    The draws of the latents are spread; see :meth:`Posterior.spread_samples`. With a temperature
    the words are drawn too, independently. All draws of an image depend on the seed, the number
    of samples and the image's features, but not on the other images.

    :param features: (N, D)
    :raises OptionError: neither latents nor words are to be drawn.
    :raises PipelineError: a condition is not finite.
    """
    (captions,) = captions_by_temperature(
        system, features, vocabulary, sampling, [sampling.temperature]
    )
    return captions


@torch.inference_mode()
def captions_by_temperature(
    system: Captioner,
    features: Tensor,
    vocabulary: Vocabulary,
    sampling: Sampling,
    temperatures: Sequence[float],
) -> Iterator[list[list[str]]]:
    """Yield the captions of :func:`caption_samples` at each temperature.

    The latents are drawn once, for all temperatures.

    :param sampling: its temperature is not used
    """
    for temperature in temperatures:
        check_sampling(system, temperature, guidance=sampling.guidance)
    if not (len(features) and len(temperatures)):
        yield from ([] for _ in temperatures)
        return
    conditions = _draw_conditions(system, features, sampling)  # (count * N, C)
    seeds = [
        _seeds(features, sampling.seed, f"words {number}")
        for number in range(sampling.count if any(temperatures) else 0)
    ]
    for temperature in temperatures:
        if temperature:
            asked = replace(sampling, temperature=temperature)
            texts = _sample_words(system, conditions, vocabulary, asked, seeds)
        else:
            texts = caption_conditions(
                system,
                conditions,
                vocabulary,
                width=sampling.width,
                length_penalty=sampling.length_penalty,
                guidance=sampling.guidance,
            )
        yield [texts[image :: len(features)] for image in range(len(features))]


def check_sampling(
    system: Captioner, temperature: float, latent_temperature: float = 1.0, guidance: float = 1.0
) -> None:
    """Check that the samples of an image may differ, and that the options have an effect.

    :raises OptionError: the system has no latents, and words are not drawn either, or the latents
        have a temperature; or it cannot be guided.
    """
    if guidance != 1 and not system.options.may_leave_out:
        raise OptionError(
            f"{system.options.system} is trained without latent dropout",
            where=f"--guidance {guidance:g}",
            hint="leave it out",
        )
    if system.options.system == "base" and latent_temperature != 1:
        raise OptionError(
            "base has no latent space", where=f"--latent-temperature {latent_temperature:g}"
        )
    if system.options.system == "base" and not temperature:
        raise OptionError(
            "base has no latent space to sample from",
            hint="sample its words with a temperature above 0, such as 0.5",
        )


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


def _seeds(features: Tensor, seed: int, purpose: str) -> list[int]:
    """Return a seed of 128 bits for each image with ``features``, (N, D)."""
    start = f"{seed} {purpose} ".encode()
    rows = features.float().cpu().numpy()
    digests = (hashlib.sha256(start + row.tobytes()).digest() for row in rows)
    return [int.from_bytes(digest[:16], "big") for digest in digests]


def _draw_conditions(system: Captioner, features: Tensor, sampling: Sampling) -> Tensor:
    """Draw the conditions of the samples, the first of all images before the second.

    :returns: (S * N, C); (S * N, 2 C) for a guided decoder
    """
    device, count = system.feature_mean.device, sampling.count
    parts = parts_of(features, 1, device)
    if system.options.system == "base":
        condition = torch.cat([system.condition(part.to(device)) for part in parts])
        return condition.repeat(count, 1)
    drawn = []
    for part in parts:
        # Draws on the CPU do not depend on the device.
        posterior = system.posterior(part.to(device)).to("cpu")
        if sampling.latent_temperature != 1:
            posterior = posterior.tempered(sampling.latent_temperature)
        of_images = posterior.spread_samples(count, _seeds(part, sampling.seed, "latents"))
        if sampling.guidance != 1:
            without = system.condition(part.to(device), "left-out").to("cpu")
            of_images = torch.cat((of_images, without.repeat_interleave(count, 0)), dim=1)
        drawn.append(of_images.unflatten(0, (len(part), count)))
    return torch.cat(drawn).transpose(0, 1).flatten(0, 1).to(device)


def _sample_words(
    system: Captioner,
    conditions: Tensor,
    vocabulary: Vocabulary,
    sampling: Sampling,
    seeds: Sequence[Sequence[int]],
) -> list[str]:
    """Return a caption for each condition, its words drawn from the decoder.

    :param seeds: of each sample of each image
    """
    check_finite(conditions)
    keys = [key for of_images in seeds for key in of_images]
    texts: list[str] = []
    with Progress(len(keys), "captions", "samples", delay=DELAY) as progress:
        for part in parts_of(conditions, 1, conditions.device):
            # Philox takes any key of 128 bits, and is seeded in no time.
            numbers = np.stack(
                [
                    np.random.Generator(np.random.Philox(key=key)).random(MAX_WORDS)
                    for key in keys[len(texts) : len(texts) + len(part)]
                ]
            )
            words = sample(
                decoder_of(system, sampling.guidance),
                part,
                torch.from_numpy(numbers).to(conditions.device),
                marks=MARKS,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
            )
            texts += [vocabulary.decode(row) for row in words.tolist()]
            progress.advance(len(words))
    return texts
