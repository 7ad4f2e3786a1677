"""Weights of a torchvision ResNet: find them, read them without pickle, check that they fit."""

import hashlib
import importlib.util
import pickle
import struct
from argparse import Namespace
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from multispace.errors import WeightsError
from multispace.model.backbone.layouts import ImageNetwork, find_image_network
from multispace.model.backbone.torchvision_compat import models

IMAGENET = "IMAGENET1K_V1"  # torchvision's name of the weights that `imagenet` stands for
_LANDMARK = "layer1.0.conv1.weight"  # occurs once in every ResNet and so reveals the key prefix

# What safetensors and torch.load raise for truncated or altered files.
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


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and values, in name order.

    The digest does not depend on the file format. ``num_batches_tracked`` is not included: it
    counts training steps, older files lack it, and no feature depends on it.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith("num_batches_tracked"):
            tensor = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def downloaded(chosen: Any) -> ImageNetwork:
    """Return one of torchvision's own weights, downloaded once.

    :param chosen: a member of torchvision's weights enum
    :raises WeightsError: the download fails
    """
    try:
        state = chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (HTTPException, *_UNREADABLE) as error:
        raise WeightsError(
            f"cannot be downloaded from {chosen.url} ({_reason(error)})",
            where=chosen,
            hint="download the file elsewhere and pass --weights FILE",
        ) from error
    return ImageNetwork(state)


def hub_file(chosen: Any) -> Path:
    """Return the file that :func:`downloaded` keeps, or will keep, in the folder of torch's hub.

    :param chosen: a member of torchvision's weights enum
    """
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(chosen.url).path).name)


def random_state(architecture: str, weights: str) -> Mapping[str, Tensor]:
    """Return random weights.

    The caller's random generator is not affected.

    :param weights: ``random`` or ``random:SEED``
    :raises WeightsError: the seed is not a whole number below 2 ** 63
    """
    seed = weights.removeprefix("random").removeprefix(":") or "0"
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise WeightsError(
            "the seed must be a whole number below 2 ** 63, as in random:0",
            where=f"--weights {weights}",
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        return models.get_model(architecture, weights=None).state_dict()


def locate(weights: str, known: Mapping[str, object]) -> Path:
    """Return the path of the file that ``weights`` names.

    :param known: other names that the user could have given, for the error message
    :raises WeightsError: there is no such file or package
    """
    if weights.startswith("package:"):
        name, _, inner = weights.removeprefix("package:").partition("/")
        package = importlib.util.find_spec(name) if name.isidentifier() else None
        if package is None or not package.submodule_search_locations:
            raise WeightsError(
                f"package {name!r} is not installed",
                where=f"--weights {weights}",
                hint=f"run `pip install {name}`",
            )
        path = Path(package.submodule_search_locations[0], inner)
    else:
        path = Path(weights)
    if not path.is_file():
        raise WeightsError(
            "no such file, and not a name that torchvision knows",
            where=f"--weights {weights}",
            hint=f"use imagenet, {', '.join(known)}, random, package:NAME/FILE or a file",
        )
    return path


def read_network(path: Path) -> ImageNetwork:
    """Read the image network from a file: a state dict, or a checkpoint that holds one.

    Nothing is unpickled but tensors, plain values, and the options (:class:`argparse.Namespace`)
    that DINO's checkpoints hold; they run no code.

    :raises WeightsError: the file needs pickle, is unreadable, or holds something else
    """
    try:
        content: object
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with safe_globals([Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(
            f"not readable as plain weights ({_reason(error)})",
            where=path,
            hint="download it again, or save only `model.state_dict()`",
        ) from error
    network = find_image_network(content)
    if network is None:
        raise WeightsError(
            "not a plain state dict", where=path, hint="save only `model.state_dict()`"
        )
    if network.is_transformer:
        raise WeightsError(
            f"{network.kind or 'a checkpoint'} of a vision transformer, not of a ResNet",
            where=path,
            hint="give the weights of a ResNet, or extract features with the transformer's own "
            "code and run `multispace cache import`",
        )
    return network


def fit(network: ImageNetwork, wanted: Mapping[str, Tensor], weights: str) -> dict[str, Tensor]:
    """Return exactly the tensors that ``wanted`` names, converted to its types.

    A common prefix of the keys and the classifier are removed.

    :param wanted: the state dict of the network that the tensors are for
    :param weights: name of the weights, for error messages
    :raises WeightsError: a tensor is missing, unexpected, of another shape, or not finite
    """
    state = network.state
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
            raise _misfit(network, f"{name} is missing", weights)
        if tensor.shape != like.shape:
            found, expected = tuple(tensor.shape), tuple(like.shape)
            raise _misfit(network, f"{name} has shape {found}, expected {expected}", weights)
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{name} is not finite: the file is damaged",
                where=weights,
                hint="download it again",
            )
        fitted[name] = tensor.to(like.dtype)
    if unexpected := sorted(name for name in bare if not name.startswith("fc.")):
        raise _misfit(network, f"{unexpected[0]} is unexpected", weights)
    return fitted


def _misfit(network: ImageNetwork, what: str, weights: str) -> WeightsError:
    """Return the error for a network of another architecture."""
    if not network.kind:
        return WeightsError(what, where=weights, hint="is it another architecture?")
    return WeightsError(
        f"{network.kind}; {network.part} does not fit: {what}",
        where=weights,
        hint="give the --backbone that it was trained for; only torchvision's ResNet layout fits",
    )


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, OSError):
        return f"{name}: {error}"
    # Only the name of other errors: torch's text recommends to turn off the protection
    # against pickle.
    return name
