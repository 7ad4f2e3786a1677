"""A run that captions the image of a page, with its latents as they were set by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from multispace.errors import OptionError, shown
from multispace.model.latent.posterior import Posterior
from multispace.pipeline.console.exit_on_error import describe, is_expected
from multispace.pipeline.inference.decoding import condition_hypotheses
from multispace.pipeline.inference.samples import Sampling, caption_samples, check_sampling
from multispace.pipeline.inference.single_captions import TrainingCaptions, single_captions
from multispace.pipeline.metrics.samples.consensus import consensus
from multispace.pipeline.playground.latent_controls import LatentControls
from multispace.pipeline.runs.run_folder import Run

MAX_BEAM = 10
MAX_SAMPLES = 20


@dataclass(frozen=True)
class Drawn:
    """Samples of an image, and which of them is their consensus.

    :param consensus: None where the training captions are not there; ``reason`` says why
    """

    samples: list[str]
    consensus: str | None
    reason: str = ""


@dataclass(frozen=True)
class Player:
    """A run, and the controls of its latents.

    :param name: the run's name in the page
    :param training: returns the captions of the training images, which a consensus needs
    :param note: what the page says about the controls
    """

    name: str
    run: Run
    controls: LatentControls
    training: TrainingCaptions
    note: str = ""
    _single: dict[tuple[bytes, int], str] = field(default_factory=dict, init=False, repr=False)

    @property
    def way(self) -> str:
        """How the run makes the single caption of an image."""
        return self.run.system.options.single_caption

    @torch.inference_mode()
    def own(self, features: Tensor) -> list[float | str]:
        """Return the values of the controls that an image itself has.

        :param features: of the image, (1, D)
        """
        if not self.controls.each:
            return []
        return self.controls.own(self._posterior(features).latents().cpu())

    @torch.inference_mode()
    def captions(self, features: Tensor, values: Sequence[object], beam: int) -> list[str]:
        """Return the captions of the beam, best first, with the latents set to ``values``.

        :raises OptionError: a value is not allowed.
        :raises PipelineError: the weights are damaged.
        """
        check_range("beam", beam, MAX_BEAM)
        if self.controls.each:
            posterior = self._posterior(features)
            latents = posterior.latents()
            conditions = posterior.condition(self.controls.apply(latents, values))
        else:
            conditions = self.run.system.condition(self._placed(features))
        (found,) = condition_hypotheses(
            self.run.system, conditions, self.run.vocabulary, width=beam
        )
        return list(dict.fromkeys(found))

    def single(self, features: Tensor, beam: int) -> str:
        """Return the caption that ``caption`` prints for an image.

        :raises PipelineError: it is a consensus, and the training captions are not there.
        """
        check_range("beam", beam, MAX_BEAM)
        asked = features.cpu().numpy().tobytes(), beam
        text = self._single.get(asked)
        if text is None:  # each move of a slider asks for the same one
            (text,) = single_captions(
                self.run.system, features, self.run.vocabulary, self.way, Sampling(0, width=beam),
                self.training,
            )  # fmt: skip
            self._single.clear()
            self._single[asked] = text
        return text

    def draw(self, features: Tensor, sampling: Sampling) -> Drawn:
        """Return samples of an image and their consensus.

        :raises OptionError: a number is not allowed, or the system cannot draw as asked.
        """
        check_range("samples", sampling.count, MAX_SAMPLES)
        check_range("beam", sampling.width, MAX_BEAM)
        check_sampling(self.run.system, sampling.temperature, sampling.latent_temperature)
        (texts,) = caption_samples(self.run.system, features, self.run.vocabulary, sampling)
        try:
            training = self.training()
        except Exception as error:
            if not is_expected(error):
                raise
            return Drawn(texts, None, describe(error))
        (place,) = consensus([texts], training)
        return Drawn(texts, texts[place])

    def _posterior(self, features: Tensor) -> Posterior:
        return self.run.system.posterior(self._placed(features))

    def _placed(self, features: Tensor) -> Tensor:
        return features.to(self.run.system.feature_mean.device)


def check_range(name: str, value: object, largest: int) -> None:
    """Check a number that a page sends.

    :raises OptionError: it is not a whole number from 1 to ``largest``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise OptionError(f"{shown(value)} is not a whole number from 1 to {largest}", where=name)
