"""Caption image files with a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from multispace.data.images import DECODING
from multispace.errors import PipelineError
from multispace.model.device import choose_device, cores
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.extraction.backbone_spec import MIRRORED, backbone_of, spec_of
from multispace.pipeline.extraction.workers import Extracted, extracted_batches
from multispace.pipeline.inference.decoding import caption_features
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
        """0; 3 where files were skipped, 1 where all of them were."""
        if not self.failures:
            return 0
        return 3 if self.captions else 1


def caption(
    run_folder: Path,
    images: Sequence[Path],
    *,
    weights: str | None = None,
    beam: int = CaptionOptions.beam,
    checkpoint: str = CaptionOptions.checkpoint,
    device: str = CaptionOptions.device,
) -> Captioned:
    """Caption image files with the backbone that extracted the features of the run.

    :param weights: where the backbone's weights are, if no longer where the cache says
    :raises PipelineError: the weights or the transform are not those of the run's features.
    """
    where = choose_device(device)
    run = load_run(run_folder, where, checkpoint)
    spec = run.spec
    if spec.transform is None:
        raise PipelineError(
            f"trained on vectors that were {spec.origin}; they cannot be made of other images",
            where=run_folder,
            hint="train on a cache that `multispace preprocess` extracted",
        )
    if spec.decode.removesuffix(MIRRORED) != DECODING:
        raise PipelineError(
            f"its images were decoded as {spec.decode!r}, this version decodes as {DECODING!r}",
            where=run_folder,
            hint="extract the features again and train on them",
        )
    backbone = backbone_of(spec, weights=weights, device=device)
    run.check_spec(spec_of(backbone, spec.dtype), f"--weights {backbone.weights}")
    parts = [[(str(path), path) for path in dict.fromkeys(images)]]
    rows = Extracted()
    with extracted_batches(parts, backbone, min(len(images), cores())) as made:
        for batch in made:
            rows.add(batch)
    failures = {file: f"{file}: {reason}" for file, reason in rows.failures.items()}
    if not rows.keys:
        return Captioned({}, failures)
    features = torch.from_numpy(np.concatenate(rows.features))
    features = features.to(getattr(torch, spec.dtype))  # rounded as in the cache
    texts = caption_features(run.system, features, run.vocabulary, width=beam)
    return Captioned(dict(zip(rows.keys, texts, strict=True)), failures)
