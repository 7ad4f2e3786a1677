"""Features of new images, extracted as the features that a run was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multispace.data.image_inputs import ImageSource
from multispace.data.images import DECODING
from multispace.errors import PipelineError
from multispace.model.backbone.resnet import Backbone
from multispace.model.device import cores
from multispace.pipeline.console.progress import Count, uncounted
from multispace.pipeline.extraction.backbone_spec import MIRRORED, backbone_of, spec_of
from multispace.pipeline.extraction.workers import Extracted, Look, extracted_batches
from multispace.pipeline.runs.run_folder import Run


@dataclass(frozen=True)
class ImageFeatures:
    """The features of the images that could be read, and the reasons for the others."""

    keys: tuple[str, ...]
    features: Tensor  # (len(keys), D), in the storage type of the run's cache
    failures: dict[str, str]  # key -> reason


def load_run_backbone(run: Run, *, weights: str | None = None, device: str = "auto") -> Backbone:
    """Load the backbone that extracted the features of a run.

    :param weights: where the backbone's weights are, if no longer where the cache says
    :raises PipelineError: the run's features were imported, or the weights, the transform or the
        decoding of images differ from those of the features.
    """
    spec = run.spec
    if spec.transform is None:
        raise PipelineError(
            f"trained on vectors that were {spec.origin}; they cannot be made of other images",
            where=run.folder,
            hint="train on a cache that `multispace preprocess` extracted",
        )
    if spec.decode.removesuffix(MIRRORED) != DECODING:
        raise PipelineError(
            f"its images were decoded as {spec.decode!r}, this version decodes as {DECODING!r}",
            where=run.folder,
            hint="extract the features again and train on them",
        )
    backbone = backbone_of(spec, weights=weights, device=device)
    run.check_spec(spec_of(backbone, spec.dtype), f"--weights {backbone.weights}")
    return backbone


def image_features(
    run: Run,
    backbone: Backbone,
    images: Mapping[str, ImageSource],
    *,
    look: Look | None = None,
    count: Count = uncounted,
) -> ImageFeatures:
    """Extract features of ``images``, by key and in their order.

    Features are rounded to the storage type of the cache that the run was trained on.

    :param backbone: the one that :func:`load_run_backbone` returns
    :param look: called by several threads with each image that could be read
    :param count: called with each number of images that are done
    """
    extracted = Extracted()
    workers = max(1, min(len(images), cores()))
    with extracted_batches([list(images.items())], backbone, workers, look) as batches:
        for batch in batches:
            extracted.add(batch)
            count(len(batch.keys) + len(batch.failures))
    parts = extracted.features or [np.empty((0, backbone.dimension), np.float32)]
    features = torch.from_numpy(np.concatenate(parts)).to(getattr(torch, run.spec.dtype))
    return ImageFeatures(tuple(extracted.keys), features, extracted.failures)
