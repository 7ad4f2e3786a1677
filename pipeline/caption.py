"""Caption images with a run."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from multispace.data.annotations.image_index import coco_id
from multispace.data.caption_results import ImageId, results_format
from multispace.data.files import atomic_write, write_json
from multispace.data.image_inputs import ImageSource
from multispace.data.image_selection import select_images
from multispace.exit_status import FAILED, SKIPPED
from multispace.model.backbone.resnet import Backbone
from multispace.model.device import choose_device
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.inference.image_features import image_features, load_run_backbone
from multispace.pipeline.inference.samples import Sampling, caption_samples
from multispace.pipeline.inference.single_captions import (
    TrainingCaptions,
    resolve_way,
    single_captions,
)
from multispace.pipeline.inference.training_captions import training_captions
from multispace.pipeline.model_transfer import local_model
from multispace.pipeline.reporting.caption_page import SIDE, CaptionPage
from multispace.pipeline.reporting.thumbnail import thumbnail
from multispace.pipeline.runs.run_folder import Run, load_run
from multispace.version import SOFTWARE, package_version

PART = 1024  # images that are in memory together


@dataclass(frozen=True)
class Captioned:
    """Result of `caption`: captions by image, and why some images could not be read.

    With samples ``captions`` is empty, and ``samples`` holds those of each image.

    :param written: files that hold the captions
    """

    captions: dict[str, str]
    failures: dict[str, str]
    samples: dict[str, list[str]] = field(default_factory=dict)
    written: tuple[Path, ...] = ()

    def to_json(self) -> Mapping[str, str | list[str]]:
        """Return the caption of each image, or its samples."""
        return self.samples or self.captions

    def render(self) -> str:
        """Return a line per caption: the image, a tab, the caption; or where they are written."""
        each = self.samples or {file: [text] for file, text in self.captions.items()}
        if self.written:
            return "\n".join(f"{len(each)} images: {path}" for path in self.written)
        return "\n".join(f"{file}\t{text}" for file, texts in each.items() for text in texts)

    def messages(self) -> tuple[str, ...]:
        """Return a line for each image that could not be read."""
        return tuple(f"skipped: {reason}" for reason in self.failures.values())

    @property
    def exit_status(self) -> int:
        """3 if some images could not be read, 1 if none could."""
        if not self.failures:
            return 0
        return SKIPPED if self.captions or self.samples else FAILED


def caption(options: CaptionOptions) -> Captioned:
    """Caption images with the backbone that extracted the features of the run.

    Images that cannot be read are listed, and the others captioned. Where none can be read, no
    file is written.

    :raises OptionError: the system cannot make captions as the options ask.
    :raises PipelineError: the weights or the transform are not those of the run's features, or a
        consensus is asked for and the training captions are not there.
    """
    captioner = _Captioner.load(options)
    selected = select_images(options.images)
    failures = {name: f"{name}: {reason}" for name, reason in selected.failures.items()}
    captions: dict[str, list[str]] = {}
    with ExitStack() as stack:
        page = None
        found = captioner.captions_of(selected.sources, failures, options.html is not None)
        for name, texts, image in stack.enter_context(closing(found)):
            captions[name] = texts
            if options.html is not None:
                if page is None:
                    file = stack.enter_context(atomic_write(options.html))
                    page = CaptionPage(file, *captioner.heading())
                page.add(name, texts, image)
        if page is not None:
            page.finish(failures.values())
    if not captions:
        return Captioned({}, failures)
    written = tuple(path for path in (options.out, options.html) if path is not None)
    if captioner.draws_samples:
        return Captioned({}, failures, captions, written)
    single = {name: text for name, (text,) in captions.items()}
    if options.out is not None:
        write_json(options.out, _results(single))
    return Captioned(single, failures, written=written)


@dataclass(frozen=True)
class _Captioner:
    """A run, the backbone of its features, and how captions are made."""

    run: Run
    backbone: Backbone
    way: str
    sampling: Sampling
    draws_samples: bool  # rather than one caption per image
    training: TrainingCaptions

    @classmethod
    def load(cls, options: CaptionOptions) -> "_Captioner":
        run = load_run(local_model(options.run), choose_device(options.device), options.checkpoint)
        way = resolve_way(run.system, options.way, options)
        return cls(
            run=run,
            backbone=load_run_backbone(run, weights=options.weights, device=options.device),
            way=way,
            sampling=Sampling.of(options),
            draws_samples=bool(options.samples) and not options.consensus,
            training=cache(lambda: training_captions(run, options.cache)),
        )

    def captions_of(
        self, sources: Mapping[str, ImageSource], failures: dict[str, str], thumbnails: bool
    ) -> Generator[tuple[str, list[str], str], None, None]:
        """Yield the name, the captions, and the thumbnail or "" of each image that can be read.

        :param failures: takes a line for each of the others, by name
        """
        with Progress(len(sources), "images", "caption") as progress:
            for part in _parts(sources):
                look = _Thumbnails() if thumbnails else None
                made = image_features(
                    self.run, self.backbone, part, look=look, count=progress.advance
                )
                failures |= {name: f"{name}: {reason}" for name, reason in made.failures.items()}
                for name, texts in zip(made.keys, self.captions(made.features), strict=True):
                    yield name, texts, look[name] if look else ""

    def captions(self, features: Tensor) -> list[list[str]]:
        """Return the captions of each of N images. (N, D)"""
        if not len(features):
            return []
        system, vocabulary = self.run.system, self.run.vocabulary
        if self.draws_samples:
            return caption_samples(system, features, vocabulary, self.sampling)
        texts = single_captions(
            system, features, vocabulary, self.way, self.sampling, self.training
        )
        return [[text] for text in texts]

    def heading(self) -> tuple[str, str]:
        """Return title and subtitle of a page of captions."""
        how = f"{self.sampling.count} samples" if self.draws_samples else f"captions: {self.way}"
        system = self.run.system.options.system
        return f"Captions by {self.run.folder}", (
            f"{system}, {self.run.checkpoint} checkpoint, step {self.run.step}; {how}, "
            f"beam {self.sampling.width}; {SOFTWARE} {package_version()}"
        )


class _Thumbnails(dict[str, str]):
    """Thumbnails by the name of the image, which worker threads add."""

    def __call__(self, name: str, image: Image.Image) -> None:
        self[name] = thumbnail(image, SIDE)


def _parts(sources: Mapping[str, ImageSource]) -> Iterator[dict[str, ImageSource]]:
    names = iter(sources)
    while part := list(islice(names, PART)):
        yield {name: sources[name] for name in part}


def _results(captions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return captions in COCO results format.

    The ids are those in the names of COCO's files, if all images have such names, all different;
    else the names of the images.
    """
    names: dict[ImageId, str] = {
        number: name for name in captions if (number := coco_id(name)) is not None
    }
    if len(names) < len(captions):
        names = {name: name for name in captions}
    return results_format({i: captions[name] for i, name in names.items()}, names)
