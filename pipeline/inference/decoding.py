"""Decode feature vectors to captions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from multispace.data.captions.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from multispace.errors import PipelineError
from multispace.model.beam_search import Marks, beam
from multispace.model.decoder import Decoder
from multispace.model.device import is_gpu
from multispace.model.guided_decoder import GuidedDecoder
from multispace.model.systems.captioner import Captioner, Latents
from multispace.pipeline.console.progress import DELAY, Progress

MARKS = Marks(pad=PAD, bos=BOS, eos=EOS, unk=UNK)
ROWS = 1280  # hypotheses decoded at once: images x beam
GPU_ROWS = 8192  # the same on a GPU: enough to keep it busy, with about 1 GB of log probabilities


def parts_of(images: Tensor, width: int, device: torch.device) -> Sequence[Tensor]:
    """Split images into parts that are decoded at once.

    :param images: features or conditions, (N, D)
    :param width: hypotheses of an image
    :param device: that decodes
    """
    return images.split(max(1, (GPU_ROWS if is_gpu(device) else ROWS) // width))


@torch.inference_mode()
def caption_features(
    system: Captioner,
    features: Tensor,
    vocabulary: Vocabulary,
    *,
    width: int = 1,
    length_penalty: float = 0.0,
    latents: Latents = "mode",
) -> list[str]:
    """Return one caption per row.

    :param features: (N, D)
    :param width: of the beam; 1 is greedy search
    :param length_penalty: log probabilities are divided by length to this power
    :param latents: the mode of the latents, a sample, or none at all (``left-out``); samples
        come from torch's generator
    """
    device = system.feature_mean.device
    captions = []
    with Progress(len(features), "images", "captions", delay=DELAY) as progress:
        for part in parts_of(features, width, device):
            condition = system.condition(part.to(device), latents)
            captions += caption_conditions(
                system, condition, vocabulary, width=width, length_penalty=length_penalty
            )
            progress.advance(len(part))
    return captions


@torch.inference_mode()
def caption_conditions(
    system: Captioner,
    conditions: Tensor,
    vocabulary: Vocabulary,
    *,
    width: int = 1,
    length_penalty: float = 0.0,
    guidance: float = 1.0,
) -> list[str]:
    """Return one caption for each of the decoder's conditions, (N, C).

    :param guidance: if not 1, that of a :class:`GuidedDecoder`, which reads (N, 2 C)
    :raises PipelineError: a condition is not finite.
    """
    check_finite(conditions)
    captions = []
    search: dict[str, Any] = {"width": width, "length_penalty": length_penalty}
    with Progress(len(conditions), "captions", "captions", delay=DELAY) as progress:
        for part in parts_of(conditions, width, conditions.device):
            words = beam(decoder_of(system, guidance), part, marks=MARKS, **search)
            captions += [vocabulary.decode(row) for row in words.tolist()]
            progress.advance(len(part))
    return captions


def decoder_of(system: Captioner, guidance: float) -> Decoder | GuidedDecoder:
    """Return the decoder of a system, guided unless ``guidance`` is 1."""
    return system.decoder if guidance == 1 else GuidedDecoder(system.decoder, guidance)


@torch.inference_mode()
def hypotheses(
    system: Captioner,
    features: Tensor,
    vocabulary: Vocabulary,
    *,
    width: int,
    length_penalty: float = 0.0,
    latents: Latents = "mode",
) -> list[list[str]]:
    """Return all ``width`` captions of the beam for each row of ``features`` (N, D), best first.

    :param latents: as of :func:`caption_features`
    :raises PipelineError: a condition is not finite.
    """
    device = system.feature_mean.device
    captions = []
    search: dict[str, Any] = {"width": width, "length_penalty": length_penalty}
    with Progress(len(features), "images", "beams", delay=DELAY) as progress:
        for part in parts_of(features, width, device):
            captions += condition_hypotheses(
                system, system.condition(part.to(device), latents), vocabulary, **search
            )
            progress.advance(len(part))
    return captions


@torch.inference_mode()
def condition_hypotheses(
    system: Captioner,
    conditions: Tensor,
    vocabulary: Vocabulary,
    *,
    width: int,
    length_penalty: float = 0.0,
) -> list[list[str]]:
    """Return all ``width`` captions of the beam for each of a few conditions (N, C), best first.

    :raises PipelineError: a condition is not finite.
    """
    check_finite(conditions)
    words = beam(
        system.decoder, conditions, width=width, length_penalty=length_penalty, marks=MARKS,
        every=True,
    )  # fmt: skip
    return [[vocabulary.decode(row) for row in beams] for beams in words.tolist()]


def check_finite(conditions: Tensor) -> None:
    """Refuse to decode from NaN or infinity, which gives a caption that means nothing."""
    if not conditions.isfinite().all():
        raise PipelineError(
            "what the decoder reads of an image is not a finite number",
            hint="the weights are damaged or the training diverged; use another checkpoint",
        )
