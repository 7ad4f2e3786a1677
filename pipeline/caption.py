"""Captions for new picture files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data.errors import PictureError
from data.pictures import DECODING, decode, read_bytes
from model.backbone import load_backbone
from model.device import choose_device, choose_precision
from pipeline.captioning import caption_features
from pipeline.errors import PipelineError
from pipeline.extract import BATCH, describe
from pipeline.run import load_run


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
    """Caption picture files through the backbone that the run's features came from.

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
    if spec.decode != DECODING:
        raise PipelineError(
            f"{run_folder}: its pictures were decoded as {spec.decode!r}, this software does "
            f"{DECODING!r}; extract the features anew"
        )
    backbone = load_backbone(
        spec.architecture,
        weights or spec.weights,
        device=where,
        precision=choose_precision("auto", where),
        resize=spec.transform.resize,
        crop=spec.transform.crop,
    )
    run.check_spec(describe(backbone, spec.dtype), f"--weights {backbone.weights}")
    prepared, failures = {}, {}
    for path in images:
        try:
            prepared[str(path)] = backbone.prepare(decode(read_bytes(path), path))
        except PictureError as error:
            failures[str(path)] = str(error)
    if not prepared:
        return Captioned({}, failures)
    pixels = torch.stack(list(prepared.values()))
    features = torch.cat([backbone(part) for part in pixels.split(BATCH)])
    features = features.to(getattr(torch, spec.dtype))  # as the cache would have rounded them
    said = caption_features(run.system, features, run.vocabulary, width=beam)
    return Captioned(dict(zip(prepared, said, strict=True)), failures)
