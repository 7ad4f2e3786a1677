"""The backbone that a cache is filled with."""

from multispace.data.cache.format.spec import FeatureSpec
from multispace.errors import OptionError
from multispace.model.backbone.resnet import POOLING, Backbone, load_backbone
from multispace.model.device import choose_device, choose_precision
from multispace.pipeline.command_options.preprocess_options import (
    BACKBONE,
    POOL,
    WEIGHTS,
    PreprocessOptions,
)
from multispace.pipeline.extraction.backbone_spec import MIRRORED


def chosen_backbone(
    options: PreprocessOptions, spec: FeatureSpec | None, architecture: str | None
) -> Backbone:
    """Load the backbone that the options ask for, else the one that the cache was made with.

    :param spec: of the features in the cache
    :param architecture: the one that the options name for this cache
    :raises OptionError: features cannot be added to those of the cache.
    """
    transform = spec.transform if spec else None
    if spec is not None and transform is None:
        raise OptionError(
            f"its vectors were {spec.origin}; no others can be added to them",
            where=options.cache,
            hint="give --captions-only, or use another --cache",
        )
    device = choose_device(options.device)
    pool = "grid" if spec and spec.pooling != POOLING else POOL
    flip = spec is not None and spec.decode.endswith(MIRRORED)
    return load_backbone(
        architecture or (spec.architecture if spec else BACKBONE),
        options.weights or (spec.weights if spec else WEIGHTS),
        device=device,
        precision=choose_precision(options.precision, device),
        resize=options.resize or (transform.resize if transform else None),
        crop=options.crop or (transform.crop if transform else None),
        pool=options.pool or pool,
        flip=flip if options.flip is None else options.flip,
    )
