"""Captions for new image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from multispace.data.images import DECODING
from multispace.errors import PipelineError
from multispace.model.device import choose_device, cores
from multispace.pipeline.extraction.backbone_spec import MIRRORED, backbone_of, spec_of
from multispace.pipeline.extraction.workers import Extracted, extracted_batches
from multispace.pipeline.inference.decoding import caption_features
from multispace.pipeline.runs.run_folder import load_run


@dataclass(frozen=True)
class Captioned:
    """Captions by file, in the order given, and the files that could not be read."""

    captions: dict[str, str]
    failures: dict[str, str]


def caption(
    run_folder: Path,
    images: Sequence[Path],
    *,
    weights: str | None = None,
    beam: int = 5,
    checkpoint: str = "best",
    device: str = "auto",
) -> Captioned:
    """Caption image files through the backbone that the run's features came from.

    :param weights: where the backbone's weights are, if no longer where the cache says.
    :raises PipelineError: the weights or the transform are not those of the run's features.
    """
    where = choose_device(device)
    run = load_run(run_folder, where, checkpoint)
    spec = run.spec
    if spec.transform is None:
        raise PipelineError(
            f"{run_folder}: trained on vectors that were {spec.origin}; none can be made of other "
            "pictures; train on a cache that `preprocess` extracted"
        )
    if spec.decode.removesuffix(MIRRORED) != DECODING:
        raise PipelineError(
            f"{run_folder}: its images were decoded as {spec.decode!r}, this software does "
            f"{DECODING!r}; extract the features anew"
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
    features = features.to(getattr(torch, spec.dtype))  # as the cache would have rounded them
    said = caption_features(run.system, features, run.vocabulary, width=beam)
    return Captioned(dict(zip(rows.keys, said, strict=True)), failures)
