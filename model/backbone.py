"""The picture network: a torchvision ResNet without its classifier.

:func:`load_backbone` finds the weights, refuses any that do not fit, and folds the batch norms
into the convolutions, which leaves the function as it was and nearly doubles the speed.
"""

import hashlib
import importlib.util
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.errors import WeightsError
from model.vision import models

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
POOLING = "global average"

_LANDMARK = "layer1.0.conv1.weight"  # in every ResNet, once: it shows the prefix of the keys

# What safetensors and torch.load raise, by the place where a file is cut or altered.
_UNREADABLE = (
    OSError,
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    AssertionError,
)


@dataclass(frozen=True)
class Preparation:
    """From an RGB picture to the network's input, as torchvision's presets do it."""

    resize: int
    crop: int
    interpolation: str
    antialias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    function: Callable[[Image.Image], Tensor]  # -> float32 (3, crop, crop)

    def __call__(self, picture: Image.Image) -> Tensor:
        """Return the input for one picture, float32 (3, crop, crop)."""
        return self.function(picture)


@dataclass(frozen=True)
class Backbone:
    """A frozen network with all that its features depend on."""

    architecture: str
    weights: str
    weights_sha256: str
    prepare: Preparation
    dimension: int
    network: nn.Module
    device: torch.device
    precision: torch.dtype

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Return pooled features of prepared pictures.

        :param pictures: float32 (B, 3, crop, crop)
        :return: float32 (B, dimension), on the CPU
        """
        batch = pictures.to(self.device, self.precision, memory_format=torch.channels_last)
        return self.network(batch).float().cpu()


def load_backbone(
    architecture: str,
    weights: str,
    *,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    resize: int | None = None,
    crop: int | None = None,
) -> Backbone:
    """Make a backbone ready to run.

    :param weights: ``imagenet`` (IMAGENET1K_V1), another name that torchvision knows, a local
        ``.pth``, ``.pt`` or ``.safetensors`` file, ``package:NAME/FILE`` (a file inside an
        installed package), ``random`` or ``random:SEED``.
    :param resize: shorter side in pixels, in place of the weights' own.
    :param crop: side of the middle square in pixels, in place of the weights' own.
    :raises WeightsError: the architecture or weights are unknown, unreadable, or do not fit.
    """
    if architecture not in ARCHITECTURES:
        raise WeightsError(f"--backbone {architecture}: use one of {', '.join(ARCHITECTURES)}")
    kinds = models.get_model_weights(architecture)
    chosen = kinds["IMAGENET1K_V1"]
    if weights == "imagenet" or weights in kinds.__members__:
        chosen = chosen if weights == "imagenet" else kinds[weights]
        weights = chosen.name
        state = _downloaded(chosen)
    elif weights.split(":")[0] == "random":
        state = _random_state(architecture, weights)
    else:
        state = _read_state(_locate(weights, kinds.__members__))
    with torch.device("meta"):  # shapes only: the state brings the numbers
        network = models.get_model(architecture, weights=None)
    dimension = network.fc.in_features
    network.fc = nn.Identity()
    state = _fit(state, network.state_dict(), weights)
    network.load_state_dict(state, assign=True)
    _fold_batch_norms(network.eval())
    network.requires_grad_(False).to(device, precision, memory_format=torch.channels_last)
    return Backbone(
        architecture=architecture,
        weights=weights,
        weights_sha256=state_sha256(state),
        prepare=_preparation(chosen.transforms, resize, crop),
        dimension=dimension,
        network=network,
        device=device,
        precision=precision,
    )


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and values, in name order.

    It is the same whatever file the tensors came from. ``num_batches_tracked`` is left out: it
    counts training steps, older files lack it, and no feature depends on it.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith("num_batches_tracked"):
            tensor = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _downloaded(chosen: Any) -> Mapping[str, Tensor]:
    try:
        return chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (HTTPException, *_UNREADABLE) as error:
        raise WeightsError(
            f"{chosen}: cannot be downloaded from {chosen.url} ({_reason(error)}); "
            "fetch the file elsewhere and give --weights FILE"
        ) from error


def _random_state(architecture: str, weights: str) -> Mapping[str, Tensor]:
    """Draw weights from the seed, and leave the caller's generator as it was."""
    seed = weights.removeprefix("random").removeprefix(":") or "0"
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise WeightsError(
            f"--weights {weights}: the seed must be a whole number below 2 ** 63, as in random:0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        return models.get_model(architecture, weights=None).state_dict()


def _locate(weights: str, known: Mapping[str, object]) -> Path:
    if weights.startswith("package:"):
        name, _, inner = weights.removeprefix("package:").partition("/")
        package = importlib.util.find_spec(name) if name.isidentifier() else None
        if package is None or not package.submodule_search_locations:
            raise WeightsError(
                f"--weights {weights}: package {name!r} is not installed; pip install it"
            )
        path = Path(package.submodule_search_locations[0], inner)
    else:
        path = Path(weights)
    if not path.is_file():
        raise WeightsError(
            f"--weights {weights}: no such file, and not a name that torchvision knows; "
            f"use imagenet, {', '.join(known)}, random, package:NAME/FILE or a file"
        )
    return path


def _read_state(path: Path) -> Mapping[str, Tensor]:
    try:
        state: object
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(
            f"{path}: not readable as plain weights ({_reason(error)}); "
            "fetch it anew, or save `model.state_dict()` alone"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise WeightsError(f"{path}: not a plain state dict; save `model.state_dict()` alone")
    return state


def _fit(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], weights: str
) -> dict[str, Tensor]:
    """Return exactly the tensors of ``wanted``, in its types, prefix and classifier removed.

    :raises WeightsError: one is missing, unexpected, of another shape, or not finite.
    """
    marks = [name for name in state if f".{name}".endswith(f".{_LANDMARK}")]
    prefix = min(marks, key=len).removesuffix(_LANDMARK) if marks else ""
    bare = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    fitted = {}
    for name, like in wanted.items():
        if name not in bare and name.endswith("num_batches_tracked"):
            fitted[name] = torch.zeros_like(like, device="cpu")
            continue
        tensor = bare.pop(name, None)
        if tensor is None:
            raise WeightsError(f"{weights}: {name} is missing; is it another architecture?")
        if tensor.shape != like.shape:
            raise WeightsError(
                f"{weights}: {name} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(like.shape)}; is it another architecture?"
            )
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{weights}: {name} is not finite; the file is damaged")
        fitted[name] = tensor.to(like.dtype)
    if odd := sorted(name for name in bare if not name.startswith("fc.")):
        raise WeightsError(f"{weights}: {odd[0]} is unexpected; is it another architecture?")
    return fitted


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, all through ``module``."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous and isinstance(previous[1], nn.Conv2d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            _fold_batch_norms(child)
        previous = (name, child)


def _preparation(preset: Callable[..., Any], resize: int | None, crop: int | None) -> Preparation:
    own = preset()
    resize = own.resize_size[0] if resize is None else resize
    crop = min(own.crop_size[0], resize) if crop is None else crop
    if not 1 <= crop <= resize:
        raise WeightsError(
            f"--crop {crop} and --resize {resize}: the crop must be from 1 to the resize"
        )
    function = preset(resize_size=resize, crop_size=crop)
    return Preparation(
        resize=resize,
        crop=crop,
        interpolation=function.interpolation.value,
        antialias=bool(function.antialias),
        mean=tuple(function.mean),
        std=tuple(function.std),
        function=function,
    )


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, OSError):
        return f"{name}: {error}"
    # Of the others only the name: torch's text advises to switch off what protects from pickle.
    return name
