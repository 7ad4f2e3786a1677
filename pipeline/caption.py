"""Caption images with a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multispace.data.image_inputs import image_source
from multispace.exit_status import FAILED, SKIPPED
from multispace.model.device import choose_device
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.inference.decoding import caption_features
from multispace.pipeline.inference.image_features import image_features, load_run_backbone
from multispace.pipeline.runs.run_folder import load_run


@dataclass(frozen=True)
class Captioned:
    """Result of `caption`: captions by file, and why some files could not be read."""

    captions: dict[str, str]
    failures: dict[str, str]

    def to_json(self) -> dict[str, str]:
        """Return the captions by file."""
        return self.captions

    def render(self) -> str:
        """Return a line per image: the file, a tab, the caption."""
        return "\n".join(f"{file}\t{text}" for file, text in self.captions.items())

    def messages(self) -> tuple[str, ...]:
        """Return a line for each file that could not be read."""
        return tuple(f"skipped: {reason}" for reason in self.failures.values())

    @property
    def exit_status(self) -> int:
        """3 if some files could not be read, 1 if none could."""
        if not self.failures:
            return 0
        return SKIPPED if self.captions else FAILED


def caption(
    run_folder: Path,
    images: Sequence[Path | str],
    *,
    weights: str | None = None,
    beam: int = CaptionOptions.beam,
    checkpoint: str = CaptionOptions.checkpoint,
    device: str = CaptionOptions.device,
) -> Captioned:
    """Caption images with the backbone that extracted the features of the run.

    :param images: paths, or http(s) URLs
    :param weights: the backbone's weights, if they are no longer where the cache recorded them
    :raises PipelineError: the weights or the transform are not those of the run's features.
    """
    run = load_run(run_folder, choose_device(device), checkpoint)
    backbone = load_run_backbone(run, weights=weights, device=device)
    sources = {str(image): image_source(image, str(image)) for image in images}
    made = image_features(run, backbone, sources)
    failures = {file: f"{file}: {reason}" for file, reason in made.failures.items()}
    if not made.keys:
        return Captioned({}, failures)
    texts = caption_features(run.system, made.features, run.vocabulary, width=beam)
    return Captioned(dict(zip(made.keys, texts, strict=True)), failures)
