"""A trained run in Python: captions, samples and latents of images."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from multispace.api.arguments import path_or_url
from multispace.api.image_arguments import named_sources
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.image_inputs import ImageInput
from multispace.errors import ImageError, OptionError, PipelineError, shown
from multispace.model.backbone.resnet import Backbone
from multispace.model.device import choose_device
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.command_options import shared_options
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.inference.image_features import image_features, load_run_backbone
from multispace.pipeline.inference.samples import (
    Sampling,
    caption_prior_samples,
    caption_samples,
)
from multispace.pipeline.inference.single_captions import resolve_way, single_captions
from multispace.pipeline.inference.training_captions import training_captions
from multispace.pipeline.metrics.latents.category_report import LABEL_WORDS
from multispace.pipeline.model_transfer import local_model
from multispace.pipeline.runs import run_folder
from multispace.pipeline.runs.evaluated_labels import evaluated_labels

CHECKPOINTS = (shared_options.BEST, shared_options.LAST)


@dataclass(frozen=True)
class Encoding:
    """The posterior of N images as arrays. A part that the system lacks has no columns.

    :param mean: of z, float32 (N, Z)
    :param std: of z, float32 (N, Z)
    :param probabilities: one float32 array (N, K) for each categorical variable
    """

    mean: np.ndarray
    std: np.ndarray
    probabilities: tuple[np.ndarray, ...]


class TrainedRun:
    """A trained captioner, ready to use. ``multispace.load_run`` returns it.

    Methods take ``images`` or, in their place, ``features``. Images are a list of paths,
    ``http(s)://`` URLs, Pillow images, and uint8 arrays (H, W, 3) in RGB; they pass through the
    network that made the run's features, which is loaded when it is first needed. Features are
    an array (N, D) of that network, for example from ``cache.features(keys)``.
    """

    def __init__(self, run: run_folder.Run, weights: str | None, device: str) -> None:
        self._run = run
        self._weights, self._device = weights, device

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._run.folder

    @property
    def system(self) -> str:
        """The name of the system: ``base``, ``latent``, ``multispace`` ..."""
        return self._run.system.options.system

    @property
    def step(self) -> int:
        """The optimizer step of the checkpoint."""
        return self._run.step

    @property
    def config(self) -> dict[str, Any]:
        """The run's ``config.json``: options, versions, feature spec."""
        return self._run.config

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that the captioner knows."""
        return self._run.vocabulary

    @property
    def model(self) -> Captioner:
        """The captioner itself, a ``torch.nn.Module``."""
        return self._run.system

    def __repr__(self) -> str:
        return f"<TrainedRun {self.folder}: {self.system}, step {self.step}>"

    @overload
    def caption(
        self,
        images: Iterable[ImageInput] | None = None,
        *,
        features: np.ndarray | None = None,
        samples: None = None,
        beam: int = CaptionOptions.beam,
        length_penalty: float = 0.0,
        seed: int = 0,
        single_caption: str | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        latent_temperature: float = 1.0,
        guidance: float = 1.0,
        cache: str | os.PathLike[str] | None = None,
    ) -> list[str]: ...

    @overload
    def caption(
        self,
        images: Iterable[ImageInput] | None = None,
        *,
        features: np.ndarray | None = None,
        samples: int,
        beam: int = CaptionOptions.beam,
        length_penalty: float = 0.0,
        seed: int = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        latent_temperature: float = 1.0,
        guidance: float = 1.0,
    ) -> list[list[str]]: ...

    def caption(
        self,
        images: Iterable[ImageInput] | None = None,
        *,
        features: np.ndarray | None = None,
        samples: int | None = None,
        beam: int = CaptionOptions.beam,
        length_penalty: float = 0.0,
        seed: int = 0,
        single_caption: str | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        latent_temperature: float = 1.0,
        guidance: float = 1.0,
        cache: str | os.PathLike[str] | None = None,
    ) -> list[str] | list[list[str]]:
        """Caption images.

        :param samples: draw this many latents for each image, and caption each of them; if not
            given, each image has one caption
        :param beam: width of the beam search; 1 is greedy
        :param length_penalty: divide log probabilities by length to this power
        :param seed: of the draws
        :param single_caption: how one caption is made: from the ``mode`` of the latents, with
            the latents ``left-out``, ``reranked`` (the caption of a wide beam that is most like
            50 samples), as the ``consensus`` of 20 samples, or as the consensus of all
            ``categories``; by default as the run was trained for
        :param temperature: draw the words of samples from the decoder; 0 searches with the beam
        :param top_p: draw words from the most probable ones that have this probability together
        :param latent_temperature: multiplies the standard deviation of z, and raises the
            probabilities of c to its inverse
        :param guidance: how closely words follow the latents: 1 as in training, below 1 less; for
            systems with latent dropout
        :param cache: the cache of the training, if a consensus needs its captions and it is no
            longer where it was
        :returns: a caption for each image, or with ``samples`` a list of captions for each
        :raises OptionError: the system has no such way to make captions.
        :raises ImageError: an image cannot be read; none is captioned then.
        :raises PipelineError: the run's features cannot be made of other images, or the system
            has no latent space to sample from.
        """
        _check_counts(beam=beam, samples=1 if samples is None else samples)
        # The options of the command check the values.
        options = CaptionOptions(
            self.folder,
            (),
            single_caption=single_caption,
            samples=samples or 0,
            temperature=temperature,
            top_p=top_p,
            latent_temperature=latent_temperature,
            guidance=guidance,
        )
        if samples is not None and not temperature:
            self._check_latents("sampled")
        way = resolve_way(self.model, options.way, options)
        vectors = self._vectors(images, features)
        if not len(vectors):
            return []
        sampling = replace(Sampling.of(options, length_penalty), seed=seed, width=beam)
        if samples is not None:
            return caption_samples(self.model, vectors, self.vocabulary, sampling)
        where = None if cache is None else path_or_url(cache)
        return single_captions(
            self.model,
            vectors,
            self.vocabulary,
            way,
            sampling,
            lambda: training_captions(self._run, where),
        )

    def sample(
        self,
        count: int = 1,
        *,
        beam: int = CaptionOptions.beam,
        length_penalty: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Return captions of latents that are drawn from the prior, without any image.

        They show what the system has learnt to say. For several captions of one image, use
        :meth:`caption` with ``samples``.

        :param count: how many captions
        :raises PipelineError: the system has no latents, or needs an image.
        """
        _check_counts(count=count, beam=beam)
        self._check_latents("sampled")
        return caption_prior_samples(
            self._run.system,
            self.vocabulary,
            count=count,
            seed=seed,
            width=beam,
            length_penalty=length_penalty,
        )

    @torch.inference_mode()
    def encode(
        self, images: Iterable[ImageInput] | None = None, *, features: np.ndarray | None = None
    ) -> Encoding:
        """Return the posterior of images: mean and std of z, and category probabilities.

        Where a posterior reads captions in training (``cvae``, ``ag-cvae``, ``joint``,
        ``joint-cvae``), an image alone has a prior in its place, and this is returned.

        :raises ImageError: an image cannot be read.
        :raises PipelineError: the system has no latent space.
        """
        self._check_latents("encoded")
        vectors = self._vectors(images, features)
        posterior = self._run.system.posterior(vectors.to(self._run.system.feature_mean.device))
        empty = torch.empty(len(vectors), 0)
        z, c = posterior.z, posterior.c
        return Encoding(
            mean=(z.mean if z else empty).cpu().numpy(),
            std=((0.5 * z.log_variance).exp() if z else empty).cpu().numpy(),
            probabilities=tuple(p.exp().cpu().numpy() for p in c.log_probabilities) if c else (),
        )

    def category_labels(self, split: str = "test", words: int = LABEL_WORDS) -> list[list[str]]:
        """Return a label for each category of each variable of c, for example for a menu.

        ``run.category_labels()[3][5]`` is ``"category 3.5: dog, running, grass"``, that of
        category 5 of variable 3. The words are those that distinguish the captions of the
        category in an evaluation of the run.

        :param split: the split that was evaluated
        :param words: maximum number of words in a label
        :returns: a list for each variable; none for a system without c
        :raises PipelineError: the run has no evaluation of the split, or an earlier version
            wrote it.
        """
        _check_counts(words=words)
        return evaluated_labels(self.folder, split, self._run.checkpoint, words)

    def features(self, images: Iterable[ImageInput]) -> np.ndarray:
        """Return the feature vectors of images, as the run's cache would hold them.

        :returns: float32 (N, D)
        :raises ImageError: an image cannot be read.
        """
        return self._vectors(images, None).float().numpy()

    @cached_property
    def _backbone(self) -> Backbone:
        return load_run_backbone(self._run, weights=self._weights, device=self._device)

    def _vectors(self, images: Iterable[ImageInput] | None, features: np.ndarray | None) -> Tensor:
        """Return the vectors (N, D) of the images, or the features that were given."""
        if (images is None) == (features is None):
            raise OptionError("give either images or features")
        if images is None:
            return self._checked(features)
        sources, names = named_sources(images)
        made = image_features(self._run, self._backbone, sources)
        if made.failures:
            name, reason = next(iter(made.failures.items()))
            others = len(made.failures) - 1
            hint = "leave it out" + (f", and {others} others that cannot be read" if others else "")
            raise ImageError(reason, where=name, hint=hint)
        rows = {key: row for row, key in enumerate(made.keys)}
        return made.features[[rows[name] for name in names]]

    def _checked(self, features: Any) -> Tensor:
        size = self._run.system.options.feature_size
        array = np.asarray(features)
        if array.ndim != 2 or array.shape[1] != size or array.dtype.kind != "f":
            raise OptionError(
                f"features are {array.dtype} {array.shape}",
                hint=f"give a float array (N, {size}), one row for each image",
            )
        if not np.isfinite(array).all():
            raise OptionError("features are not finite", hint="give finite numbers")
        return torch.from_numpy(array.astype(np.float32, copy=False))

    def _check_latents(self, wanted: str) -> None:
        if self.system == "base":
            raise PipelineError(
                f"system base has no latent space, so nothing can be {wanted}",
                where=self.folder,
                hint="use a run of another system",
            )


def load_run(
    folder: str | os.PathLike[str],
    *,
    checkpoint: str = CaptionOptions.checkpoint,
    device: str = CaptionOptions.device,
    weights: str | None = None,
) -> TrainedRun:
    """Open a run or an exported model to caption, sample and encode images with it.

    :param folder: a run folder, or the folder or URL (``https://``, ``s3://``, ``hf://`` ...) of
        an exported model. A remote model is copied to ``~/.cache/multispace`` first.
    :param checkpoint: ``best`` or ``last``
    :param device: ``auto``, ``cpu``, ``cuda`` ...
    :param weights: where the weights of the image network are, if no longer where they were
    :raises PipelineError: this is not a run folder, or its files do not belong together.
    :raises CheckpointError: the checkpoint is missing or damaged.
    """
    if checkpoint not in CHECKPOINTS:
        raise OptionError(f"checkpoint {shown(checkpoint)}", hint="use best or last")
    place = local_model(path_or_url(folder))
    run = run_folder.load_run(place, choose_device(device), checkpoint)
    return TrainedRun(run, weights, device)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise OptionError(f"{name} is {shown(value)}", hint="give a whole number from 1 up")
