"""The image network: a torchvision ResNet without its classifier.

:func:`load_backbone` loads weights, refuses any that do not fit, and folds the batch norms into
the convolutions. Folding computes the same function at nearly twice the speed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from multispace.errors import WeightsError
from multispace.model.backbone.layouts import ImageNetwork
from multispace.model.backbone.torchvision_compat import functional, models
from multispace.model.backbone.weights import (
    IMAGENET,
    downloaded,
    fit,
    locate,
    random_state,
    read_network,
    state_sha256,
)
from multispace.model.options import ARCHITECTURES, POOLS

POOLING = "global average"
STRIDE = 32  # input pixels per cell of a ResNet's last feature map


@dataclass(frozen=True)
class Preparation:
    """The steps from an RGB image to the network's input.

    The result equals that of torchvision's presets bit for bit.
    """

    resize: int
    crop: int
    interpolation: str
    antialias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def cut(self, image: Image.Image) -> np.ndarray:
        """Return the center crop of the resized image, uint8 (crop, crop, 3)."""
        resized = functional.resize(
            image,
            self.resize,
            interpolation=functional.InterpolationMode(self.interpolation),
            antialias=self.antialias,
        )
        return np.array(functional.center_crop(resized, self.crop))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert crops to the network's input.

        :param pixels: crops as :meth:`cut` returns them, uint8 (..., crop, crop, 3)
        :returns: float32 (..., 3, crop, crop), in channels-last memory format
        """
        mean, std = (torch.tensor(v, device=pixels.device) for v in (self.mean, self.std))
        return pixels.float().div_(255).sub_(mean).div_(std).movedim(-1, -3)

    def __call__(self, image: Image.Image) -> Tensor:
        """Convert one image to the network's input, float32 (3, crop, crop)."""
        return self.normalise(torch.from_numpy(self.cut(image)))


class Grid(nn.Module):
    """A replacement for the pooling layer that keeps every cell of the last feature map."""

    def forward(self, maps: Tensor) -> Tensor:
        """Move the channels last, so that flattening gives one vector per cell, row by row.

        :param maps: (B, D, H, W)
        :returns: (B, H, W, D)
        """
        return maps.permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Backbone:
    """A frozen network, with everything that its features depend on.

    :param pooling: the pooling in the words of the feature spec
    :param flip: whether a vector is the mean over the image and its mirror image
    :param note: which part of a checkpoint of several networks it is; else empty
    """

    architecture: str
    weights: str
    weights_sha256: str
    prepare: Preparation
    dimension: int
    network: nn.Module
    device: torch.device
    precision: torch.dtype
    pooling: str = POOLING
    flip: bool = False
    note: str = ""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of prepared images.

        :param images: float32 (B, 3, crop, crop)
        :returns: float32 (B, dimension), on the CPU
        """
        batch = images.to(self.device, self.precision, memory_format=torch.channels_last)
        features = self.network(batch).float()
        if self.flip:
            mirrored = batch.flip(3).contiguous(memory_format=torch.channels_last)
            features = (features + self.network(mirrored).float()) / 2
        return features.cpu()

    @torch.inference_mode()
    def of_pixels(self, pixels: Tensor) -> Tensor:
        """Return the features of crops as :meth:`Preparation.cut` returns them.

        The conversion to float happens on the device: a byte is a quarter of the transfer.

        :param pixels: uint8 (B, crop, crop, 3)
        :returns: float32 (B, dimension), on the CPU
        """
        return self(self.prepare.normalise(pixels.to(self.device, non_blocking=True)))


@dataclass(frozen=True)
class Together:
    """Several backbones that read the same pixels, so that each image is decoded only once.

    :raises WeightsError: the backbones need different preparations.
    """

    backbones: tuple[Backbone, ...]

    def __post_init__(self) -> None:
        first, *others = self.backbones
        for other in others:
            if other.prepare != first.prepare:
                raise WeightsError(
                    "these weights need their images prepared differently",
                    where=f"--backbone {first.architecture},{other.architecture}",
                    hint="extract one after the other",
                )

    @property
    def prepare(self) -> Preparation:
        """The preparation that all backbones share."""
        return self.backbones[0].prepare

    @property
    def device(self) -> torch.device:
        """The device that all backbones are on."""
        return self.backbones[0].device

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """Return the features of all backbones side by side, float32 (B, sum of dimensions)."""
        return torch.cat([backbone.of_pixels(pixels) for backbone in self.backbones], 1)


def load_backbone(
    architecture: str,
    weights: str,
    *,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    resize: int | None = None,
    crop: int | None = None,
    pool: str = "average",
    flip: bool = False,
) -> Backbone:
    """Load a backbone that is ready to run.

    :param architecture: one of ``ARCHITECTURES``
    :param weights: ``imagenet`` (IMAGENET1K_V1), another name that torchvision knows, a local
        ``.pth``, ``.pt`` or ``.safetensors`` file, ``package:NAME/FILE`` (a file inside an
        installed package), ``random`` or ``random:SEED``. A file may also be a checkpoint of
        MoCo or DINO, whose image network is loaded
    :param precision: type of the network's weights and arithmetic
    :param resize: length of the shorter side in pixels; by default that of the weights
    :param crop: side of the center crop in pixels; by default that of the weights
    :param pool: ``average``, or ``grid`` for the vectors of all cells of the last feature map,
        row by row
    :param flip: average the vectors of an image and its mirror image
    :raises WeightsError: the architecture or weights are unknown, unreadable, or do not fit
    """
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"use one of {', '.join(ARCHITECTURES)}", where=f"--backbone {architecture}"
        )
    if pool not in POOLS:
        raise WeightsError(f"use one of {', '.join(POOLS)}", where=f"--pool {pool}")
    kinds = models.get_model_weights(architecture)
    chosen = kinds[IMAGENET]
    if weights == "imagenet" or weights in kinds.__members__:
        chosen = chosen if weights == "imagenet" else kinds[weights]
        weights = chosen.name
        found = downloaded(chosen)
    elif weights.split(":")[0] == "random":
        found = ImageNetwork(random_state(architecture, weights))
    else:
        found = read_network(locate(weights, kinds.__members__))
    with torch.device("meta"):  # shapes only; load_state_dict assigns the tensors
        network = models.get_model(architecture, weights=None)
    dimension = network.fc.in_features
    network.fc = nn.Identity()
    prepare, pooling = _preparation(chosen.transforms, resize, crop), POOLING
    if pool == "grid":
        network.avgpool = Grid()
        side = -(-prepare.crop // STRIDE)
        pooling = f"grid {side} x {side}, row by row"
        dimension *= side * side
    state = fit(found, network.state_dict(), weights)
    network.load_state_dict(state, assign=True)
    _fold_batch_norms(network.eval())
    network.requires_grad_(False).to(device, precision, memory_format=torch.channels_last)
    return Backbone(
        architecture=architecture,
        weights=weights,
        weights_sha256=state_sha256(state),
        prepare=prepare,
        dimension=dimension,
        network=network,
        device=device,
        precision=precision,
        pooling=pooling,
        flip=flip,
        note=f"{weights} is {found.kind}; {found.part} was loaded" if found.kind else "",
    )


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, recursively."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            _fold_batch_norms(child)
        previous = (name, child)


def _preparation(preset: Callable[[], Any], resize: int | None, crop: int | None) -> Preparation:
    own = preset()
    resize = own.resize_size[0] if resize is None else resize
    crop = min(own.crop_size[0], resize) if crop is None else crop
    if not 1 <= crop <= resize:
        raise WeightsError(
            "the crop must be at least 1 and at most the resize",
            where=f"--crop {crop} and --resize {resize}",
        )
    return Preparation(
        resize=resize,
        crop=crop,
        interpolation=own.interpolation.value,
        antialias=bool(own.antialias),
        mean=tuple(own.mean),
        std=tuple(own.std),
    )
