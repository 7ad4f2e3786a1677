"""What an evaluation reads: a run, and the images of a split with their captions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from multispace.data.batches import Pairs, load_pairs
from multispace.model.device import choose_device
from multispace.pipeline.command_options.evaluate_options import WORDS, EvaluateOptions
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.inference.samples import (
    Sampling,
    caption_samples,
    captions_by_temperature,
    check_sampling,
)
from multispace.pipeline.inference.single_captions import resolve_way, single_captions
from multispace.pipeline.metrics.captions.metric import ImageId
from multispace.pipeline.model_transfer import local_model
from multispace.pipeline.runs.run_cache import open_run_cache
from multispace.pipeline.runs.run_folder import Run, load_run


@dataclass(frozen=True)
class EvaluationInputs:
    """A run, and the images of a split that have a vector."""

    run: Run
    pairs: Pairs
    ids: list[ImageId]  # of the images
    references: dict[ImageId, Sequence[str]]
    training: list[list[str]]  # captions of each training image
    fingerprint: str  # of the features
    single_caption: str  # how single captions are made
    sampling: Sampling

    @classmethod
    def load(cls, options: EvaluateOptions) -> "EvaluationInputs":
        """Open the run and the cache, and check that they belong together.

        :raises OptionError: the system cannot make captions as the options ask.
        :raises PipelineError: the run and the cache do not belong together.
        """
        run = load_run(local_model(options.run), choose_device(options.device), options.checkpoint)
        way = resolve_way(run.system, options.single_caption, options, options.curve_of_words)
        for temperature in options.curve if options.curve_of == WORDS else (0.0,):
            check_sampling(run.system, temperature)
        cache = open_run_cache(run, options.cache)
        pairs = load_pairs(cache, options.split)
        ids = [pairs.captions.image_ids[image] for image in pairs.images]
        references = pairs.captions.references()
        trained = cache.captions(run.config["options"]["train_split"]).references()
        return cls(
            run=run,
            pairs=pairs,
            ids=ids,
            references={image_id: references[image_id] for image_id in ids},
            training=[*trained.values()],
            fingerprint=cache.spec.fingerprint,
            single_caption=way,
            sampling=Sampling.of(options, options.length_penalty),
        )

    @cached_property
    def samples(self) -> dict[ImageId, list[str]]:
        """The samples of each image; nothing where none are asked for."""
        if not self.sampling.count:
            return {}
        run, features = self.run, self.pairs.features
        samples = caption_samples(run.system, features, run.vocabulary, self.sampling)
        return dict(zip(self.ids, samples, strict=True))

    def samples_by_temperature(
        self, temperatures: Sequence[float], of: str
    ) -> dict[float, dict[ImageId, list[str]]]:
        """Return the samples of each image at each temperature.

        :param of: what has these temperatures, WORDS or LATENTS
        """
        system, vocabulary = self.run.system, self.run.vocabulary
        draws: Iterable[list[list[str]]]
        if of == WORDS:
            draws = captions_by_temperature(
                system, self.pairs.features, vocabulary, self.sampling, temperatures
            )
        else:
            draws = (
                caption_samples(
                    system,
                    self.pairs.features,
                    vocabulary,
                    replace(self.sampling, latent_temperature=temperature),
                )
                for temperature in temperatures
            )
        found = {}
        with Progress(len(temperatures), "temperatures", "sampling captions") as progress:
            for temperature, samples in zip(temperatures, draws, strict=True):
                found[temperature] = dict(zip(self.ids, samples, strict=True))
                progress.advance()
        return found

    def captions(self) -> dict[ImageId, str]:
        """Return the single caption of each image; a consensus is chosen from the samples."""
        samples = self.samples if self.single_caption == "consensus" else {}
        texts = single_captions(
            self.run.system,
            self.pairs.features,
            self.run.vocabulary,
            self.single_caption,
            self.sampling,
            lambda: self.training,
            samples=[*samples.values()],
        )
        return dict(zip(self.ids, texts, strict=True))
