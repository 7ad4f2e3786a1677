"""Caption images with a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from multispace.data.image_inputs import image_source
from multispace.exit_status import FAILED, SKIPPED
from multispace.model.device import choose_device
from multispace.model.options import check_single_caption
from multispace.pipeline.command_options import shared_options
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.inference.image_features import image_features, load_run_backbone
from multispace.pipeline.inference.samples import Sampling, caption_samples, check_sampling
from multispace.pipeline.inference.single_captions import single_captions
from multispace.pipeline.inference.training_captions import training_captions
from multispace.pipeline.runs.run_folder import load_run


@dataclass(frozen=True)
class Captioned:
    """Result of `caption`: captions by file, and why some files could not be read.

    With samples ``captions`` is empty, and ``samples`` holds those of each file.
    """

    captions: dict[str, str]
    failures: dict[str, str]
    samples: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> Mapping[str, str | list[str]]:
        """Return the caption of each file, or its samples."""
        return self.samples or self.captions

    def render(self) -> str:
        """Return a line per caption: the file, a tab, the caption."""
        each = self.samples or {file: [text] for file, text in self.captions.items()}
        return "\n".join(f"{file}\t{text}" for file, texts in each.items() for text in texts)

    def messages(self) -> tuple[str, ...]:
        """Return a line for each file that could not be read."""
        return tuple(f"skipped: {reason}" for reason in self.failures.values())

    @property
    def exit_status(self) -> int:
        """3 if some files could not be read, 1 if none could."""
        if not self.failures:
            return 0
        return SKIPPED if self.captions or self.samples else FAILED


def caption(options: CaptionOptions) -> Captioned:
    """Caption images with the backbone that extracted the features of the run.

    :raises OptionError: the system cannot make captions as the options ask.
    :raises PipelineError: the weights or the transform are not those of the run's features, or a
        consensus is asked for and the training captions are not there.
    """
    run = load_run(options.run, choose_device(options.device), options.checkpoint)
    way = options.single_caption or run.system.options.single_caption
    check_single_caption(run.system.options, way)
    shared_options.check_words(options, way)
    if options.samples or way == "consensus":
        check_sampling(run.system, options.temperature)
    backbone = load_run_backbone(run, weights=options.weights, device=options.device)
    sources = {str(image): image_source(image, str(image)) for image in options.images}
    made = image_features(run, backbone, sources)
    failures = {file: f"{file}: {reason}" for file, reason in made.failures.items()}
    if not made.keys:
        return Captioned({}, failures)
    sampling = Sampling(
        count=options.samples,
        seed=options.seed,
        width=options.beam,
        temperature=options.temperature,
        top_p=options.top_p,
        latent_temperature=options.latent_temperature,
    )
    if options.samples:
        drawn = caption_samples(run.system, made.features, run.vocabulary, sampling)
        return Captioned({}, failures, dict(zip(made.keys, drawn, strict=True)))
    texts = single_captions(
        run.system,
        made.features,
        run.vocabulary,
        way,
        sampling,
        lambda: training_captions(run, options.cache),
    )
    return Captioned(dict(zip(made.keys, texts, strict=True)), failures)
