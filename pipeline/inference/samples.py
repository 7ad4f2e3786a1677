"""Several captions of an image, reproducible from a seed."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from multispace.data.captions.vocabulary import Vocabulary
from multispace.errors import OptionError, PipelineError
from multispace.model.beam_search import MAX_WORDS
from multispace.model.sampling import sample
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.inference.decoding import (
    MARKS,
    ROWS,
    caption_conditions,
    check_finite,
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
    """

    count: int
    seed: int = 0
    width: int = 1
    length_penalty: float = 0.0
    temperature: float = 0.0
    top_p: float = 1.0


@torch.inference_mode()
def caption_samples(
    system: Captioner, features: Tensor, vocabulary: Vocabulary, sampling: Sampling
) -> list[list[str]]:
    """Return several captions for each image, each from its own draw of the latents.

    With a temperature the words are drawn too. All draws of an image depend on the seed, the
    number of the sample and the image's features, but not on the other images.

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
        check_sampling(system, temperature)
    if not (len(features) and len(temperatures)):
        yield from ([] for _ in temperatures)
        return
    streams = [_streams(row, sampling) for row in features.float().cpu().numpy()]
    conditions = _draw_conditions(system, features, streams)  # (count * N, C)
    for temperature in temperatures:
        if temperature:
            asked = replace(sampling, temperature=temperature)
            texts = _sample_words(system, conditions, vocabulary, asked, streams)
        else:
            texts = caption_conditions(
                system,
                conditions,
                vocabulary,
                width=sampling.width,
                length_penalty=sampling.length_penalty,
            )
        yield [texts[image :: len(features)] for image in range(len(features))]


def check_sampling(system: Captioner, temperature: float) -> None:
    """Check that the samples of an image may differ.

    :raises OptionError: the system has no latents, and words are not drawn either.
    """
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


@dataclass(frozen=True)
class _Stream:
    """The seeds of one sample of one image: of its latents, and of its words."""

    latents: int
    words: int


def _streams(features: np.ndarray, sampling: Sampling) -> list[_Stream]:
    """Return the seeds of the samples of an image with ``features``, float32 (D,)."""
    streams = []
    for number in range(sampling.count):
        start = f"{sampling.seed} {number} ".encode()
        digest = hashlib.sha256(start + features.tobytes()).digest()
        streams.append(
            _Stream(int.from_bytes(digest[:7], "big"), int.from_bytes(digest[16:], "big"))
        )
    return streams


def _draw_conditions(system: Captioner, features: Tensor, streams: list[list[_Stream]]) -> Tensor:
    """Draw the conditions of the samples, the first of all images before the second. (S * N, C)"""
    device = system.feature_mean.device
    parts = [part.to(device) for part in features.split(ROWS)]
    numbers = range(len(streams[0]))
    if system.options.system == "base":
        condition = torch.cat([system.condition(part) for part in parts])
        return condition.repeat(len(numbers), 1)
    # Draws on the CPU do not depend on the device, and cost no transfer for each image.
    posteriors = [system.posterior(part).to("cpu") for part in parts]
    rows = [
        posterior.select(torch.tensor([row]))
        for posterior, part in zip(posteriors, parts, strict=True)
        for row in range(len(part))
    ]
    drawn = []
    with seeded(system, 0):
        for number in numbers:
            for row, stream in zip(rows, streams, strict=True):
                torch.manual_seed(stream[number].latents)
                drawn.append(row.sample())
    return torch.cat(drawn).to(device)


def _sample_words(
    system: Captioner,
    conditions: Tensor,
    vocabulary: Vocabulary,
    sampling: Sampling,
    streams: list[list[_Stream]],
) -> list[str]:
    """Return a caption for each condition, its words drawn from the decoder."""
    check_finite(conditions)
    seeds = [stream[number].words for number in range(sampling.count) for stream in streams]
    texts = []
    for start in range(0, len(seeds), ROWS):
        part = seeds[start : start + ROWS]
        # Philox takes any key of 128 bits, and is seeded in no time.
        numbers = np.stack(
            [np.random.Generator(np.random.Philox(key=key)).random(MAX_WORDS) for key in part]
        )
        words = sample(
            system.decoder,
            conditions[start : start + ROWS],
            torch.from_numpy(numbers).to(conditions.device),
            marks=MARKS,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        )
        texts += [vocabulary.decode(row) for row in words.tolist()]
    return texts
