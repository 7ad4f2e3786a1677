"""Weights of a torchvision ResNet: found, read as plain tensors, and refused if they do not fit."""

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


def downloaded(chosen: Any) -> Mapping[str, Tensor]:
    """Return the state of one of torchvision's own weights, fetched once.

    :raises WeightsError: it cannot be fetched.
    """
    try:
        return chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (HTTPException, *_UNREADABLE) as error:
        raise WeightsError(
            f"{chosen}: cannot be downloaded from {chosen.url} ({_reason(error)}); "
            "fetch the file elsewhere and give --weights FILE"
        ) from error


def random_state(architecture: str, weights: str) -> Mapping[str, Tensor]:
    """Draw weights from the seed, and leave the caller's generator as it was."""
    seed = weights.removeprefix("random").removeprefix(":") or "0"
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise WeightsError(
            f"--weights {weights}: the seed must be a whole number below 2 ** 63, as in random:0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        return models.get_model(architecture, weights=None).state_dict()


def locate(weights: str, known: Mapping[str, object]) -> Path:
    """Return the file that ``weights`` names.

    :param known: names that mean no file, for the refusal.
    :raises WeightsError: there is no such file or package.
    """
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


def read_state(path: Path) -> Mapping[str, Tensor]:
    """Return the state dict that a file holds, itself or under ``state_dict``.

    :raises WeightsError: it is not readable without pickle, or holds something else.
    """
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


def fit(
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


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, OSError):
        return f"{name}: {error}"
    # Of the others only the name: torch's text advises to switch off what protects from pickle.
    return name
