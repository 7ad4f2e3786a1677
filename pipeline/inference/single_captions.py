"""The single caption of an image, made from the latents in one of several ways."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from multispace.data.captions.vocabulary import Vocabulary
from multispace.model.options import ModelOptions, check_single_caption
from multispace.model.systems.captioner import Captioner, Latents
from multispace.pipeline.command_options.shared_options import check_words
from multispace.pipeline.console.progress import DELAY, Progress
from multispace.pipeline.inference.decoding import (
    caption_conditions,
    caption_features,
    hypotheses,
    parts_of,
)
from multispace.pipeline.inference.samples import Sampling, caption_samples, check_sampling
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.samples.consensus import consensus, reranked

CANDIDATES = 20  # samples of a consensus, where no number is given
# Of the way `reranked`. On Flickr8k, half as many hypotheses, or 20 samples, choose worse captions.
HYPOTHESES = 4  # for each one of the beam's width
EVIDENCE = 50  # samples that the hypotheses are compared with
EVIDENCE_TEMPERATURE = 0.6  # of their words, where there are no latents to draw

TrainingCaptions = Callable[[], Sequence[Sequence[str]]]  # of each training image


def resolve_way(
    system: Captioner, asked: str | None, options: Any, curve: Sequence[float] = ()
) -> str:
    """Return how single captions are made, after a check that the system can draw as asked.

    :param asked: one of SINGLE_CAPTIONS; None means as the run was trained for
    :param options: of `caption` or `evaluate`
    :param curve: further temperatures of the words at which samples are drawn
    :raises OptionError: the system cannot, or an option of samples has no effect.
    """
    way = asked or system.options.single_caption
    check_single_caption(system.options, way)
    check_words(options, way, curve)
    if options.samples or way == "consensus":
        check_sampling(system, options.temperature, options.latent_temperature, options.guidance)
    return way


def single_captions(
    system: Captioner,
    features: Tensor,
    vocabulary: Vocabulary,
    way: str,
    sampling: Sampling,
    training: TrainingCaptions,
    samples: Sequence[Sequence[str]] = (),
) -> list[str]:
    """Return one caption for each image.

    :param features: (N, D)
    :param way: one of SINGLE_CAPTIONS
    :param sampling: of the candidates of a consensus, and the search for all captions
    :param training: returns the captions of the training images, which a consensus needs
    :param samples: of each image, if there are any already; the consensus is chosen from them
    :raises OptionError: the system has no such way.
    """
    check_single_caption(system.options, way)
    search: dict[str, Any] = {"width": sampling.width, "length_penalty": sampling.length_penalty}
    if way in ("mode", "left-out") or (way == "reranked" and sampling.width == 1):
        # Greedy search has one hypothesis, which leaves nothing to rerank.
        latents = decoded_latents(system.options, way)
        return caption_features(system, features, vocabulary, latents=latents, **search)
    if way == "reranked":
        return _reranked(system, features, vocabulary, sampling)
    if way == "categories":
        candidates, probabilities = caption_categories(system, features, vocabulary, **search)
        return _chosen(candidates, training(), probabilities)
    if not samples:
        sampling = replace(sampling, count=sampling.count or CANDIDATES)
        samples = caption_samples(system, features, vocabulary, sampling)
    return _chosen(samples, training())


def decoded_latents(options: ModelOptions, way: str) -> Latents:
    """Return what the captions of a way are decoded from.

    Reranked ones leave the latents out where the system was trained for it, as ``left-out`` does.
    All others come from the mode.
    """
    left_out = way == "left-out" or (way == "reranked" and options.may_leave_out)
    return "left-out" if left_out else "mode"


def _reranked(
    system: Captioner, features: Tensor, vocabulary: Vocabulary, sampling: Sampling
) -> list[str]:
    """Return the hypothesis of a wide beam that is most like samples.

    The samples are others than those that a command is asked for, and do not depend on their
    options.
    """
    found = hypotheses(
        system,
        features,
        vocabulary,
        width=HYPOTHESES * sampling.width,
        length_penalty=sampling.length_penalty,
        latents=decoded_latents(system.options, "reranked"),
    )
    temperature = EVIDENCE_TEMPERATURE if system.options.system == "base" else 0.0
    evidence = Sampling(EVIDENCE, sampling.seed, temperature=temperature)
    drawn = caption_samples(system, features, vocabulary, evidence)
    places = reranked(found, drawn)
    return [texts[place] for texts, place in zip(found, places, strict=True)]


@torch.inference_mode()
def caption_categories(
    system: Captioner,
    features: Tensor,
    vocabulary: Vocabulary,
    *,
    width: int = 1,
    length_penalty: float = 0.0,
) -> tuple[list[list[str]], list[Floats]]:
    """Return the caption of each category of c for each image, with z at its mean.

    :returns: the captions, and the probabilities of the categories for a new image
    """
    device = system.feature_mean.device
    (size,) = system.options.categories
    one_hot = torch.eye(size, device=device)  # (K, K)
    captions, probabilities = [], []
    with Progress(len(features), "images", "categories", delay=DELAY) as progress:
        for part in parts_of(features, size, device):
            posterior = system.posterior(part.to(device))
            every = posterior.select(torch.arange(len(part), device=device).repeat_interleave(size))
            latents = every.latents()  # (B * K, z + K)
            latents[:, -size:] = one_hot.repeat(len(part), 1)
            texts = caption_conditions(
                system,
                every.condition(latents),
                vocabulary,
                width=width,
                length_penalty=length_penalty,
            )
            captions += [texts[start : start + size] for start in range(0, len(texts), size)]
            assert posterior.c is not None
            probabilities += [*posterior.c.log_probabilities[0].double().exp().cpu().numpy()]
            progress.advance(len(part))
    return captions, probabilities


def _chosen(
    candidates: Sequence[Sequence[str]],
    training: Sequence[Sequence[str]],
    probabilities: Sequence[Floats] | None = None,
) -> list[str]:
    chosen = consensus(candidates, training, probabilities)
    return [texts[place] for texts, place in zip(candidates, chosen, strict=True)]
