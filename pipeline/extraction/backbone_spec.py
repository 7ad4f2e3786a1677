"""The feature spec of a backbone, and the backbone of a feature spec."""

from importlib import metadata

from multispace.data.cache.format.spec import FeatureSpec, Transform
from multispace.data.images import DECODING
from multispace.model.backbone.resnet import POOLING, Backbone, load_backbone
from multispace.model.device import choose_device, choose_precision
from multispace.model.options import PRECISIONS

MIRRORED = ", mean with the mirror image"
LIBRARIES = ("torch", "torchvision", "pillow", "numpy")


def spec_of(backbone: Backbone, dtype: str) -> FeatureSpec:
    """Return the spec of the features that ``backbone`` extracts.

    :param dtype: storage type of the features
    """
    prepare = backbone.prepare
    return FeatureSpec(
        architecture=backbone.architecture,
        weights_sha256=backbone.weights_sha256,
        transform=Transform(
            resize=prepare.resize,
            crop=prepare.crop,
            interpolation=prepare.interpolation,
            antialias=prepare.antialias,
            mean=prepare.mean,
            std=prepare.std,
        ),
        decode=DECODING + MIRRORED * backbone.flip,
        pooling=backbone.pooling,
        dimension=backbone.dimension,
        weights=backbone.weights,
        dtype=dtype,
        precision=str(backbone.precision).removeprefix("torch."),
        versions={library: metadata.version(library) for library in LIBRARIES},
    )


def backbone_of(spec: FeatureSpec, *, weights: str | None = None, device: str) -> Backbone:
    """Load the backbone that a spec describes; the caller compares fingerprints.

    :param spec: of extracted features; imported ones have no backbone
    :param weights: current location of the weights, if it is not the one in the spec
    """
    assert spec.transform is not None, "imported vectors have no backbone"
    place = choose_device(device)
    precision = spec.precision if spec.precision in PRECISIONS else "auto"
    return load_backbone(
        spec.architecture,
        weights or spec.weights,
        device=place,
        precision=choose_precision(precision, place),
        resize=spec.transform.resize,
        crop=spec.transform.crop,
        pool="average" if spec.pooling == POOLING else "grid",
        flip=spec.decode.endswith(MIRRORED),
    )
