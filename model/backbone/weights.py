"""Weights of a torchvision ResNet: find them, read them without pickle, check that they fit."""

import hashlib
import importlib.util
import pickle
import struct
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from multispace.errors import WeightsError
from multispace.model.backbone.torchvision_compat import models

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


def downloaded(chosen: Any) -> Mapping[str, Tensor]:
    """Return the state dict of one of torchvision's own weights, downloaded once.

    :param chosen: a member of torchvision's weights enum
    :raises WeightsError: the download fails
    """
    try:
        return chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (HTTPException, *_UNREADABLE) as error:
        raise WeightsError(
            f"cannot be downloaded from {chosen.url} ({_reason(error)})",
            where=chosen,
            hint="download the file elsewhere and pass --weights FILE",
        ) from error


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


def read_state(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict from a file; it may also stand under the key ``state_dict``.

    :raises WeightsError: the file needs pickle, is unreadable, or holds something else
    """
    try:
        state: object
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(
            f"not readable as plain weights ({_reason(error)})",
            where=path,
            hint="download it again, or save only `model.state_dict()`",
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise WeightsError(
            "not a plain state dict", where=path, hint="save only `model.state_dict()`"
        )
    return state


def fit(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], weights: str
) -> dict[str, Tensor]:
    """Return exactly the tensors that ``wanted`` names, converted to its types.

    A common prefix of the keys and the classifier are removed.

    :param wanted: the state dict of the network that the tensors are for
    :param weights: name of the weights, for error messages
    :raises WeightsError: a tensor is missing, unexpected, of another shape, or not finite
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
            raise WeightsError(
                f"{name} is missing", where=weights, hint="is it another architecture?"
            )
        if tensor.shape != like.shape:
            raise WeightsError(
                f"{name} has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}",
                where=weights,
                hint="is it another architecture?",
            )
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{name} is not finite: the file is damaged",
                where=weights,
                hint="download it again",
            )
        fitted[name] = tensor.to(like.dtype)
    if unexpected := sorted(name for name in bare if not name.startswith("fc.")):
        raise WeightsError(
            f"{unexpected[0]} is unexpected", where=weights, hint="is it another architecture?"
        )
    return fitted


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, OSError):
        return f"{name}: {error}"
    # Only the name of other errors: torch's text recommends to turn off the protection
    # against pickle.
    return name
