"""Checkpoints on disk: safetensors and JSON, whole or not at all, never pickle.

A checkpoint is a folder. It is written beside its place and then moved there; what was there
before becomes ``NAME.previous`` and stays until the next one, so that at any moment one whole
checkpoint can be read.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from multispace.errors import CheckpointError

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimiser.safetensors"
AVERAGE = "average.safetensors"
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds; ``optimizer`` is None where it was saved for use only.

    ``average`` is the moving average of ``weights`` where there is one: the one to use.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor] | None
    state: dict[str, Any]
    average: dict[str, Tensor] | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` as ``folder``; a crash leaves the old one or the new one.

    :raises CheckpointError: there is no room for it; names the file.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    parts = {
        WEIGHTS: checkpoint.weights,
        OPTIMIZER: checkpoint.optimizer,
        AVERAGE: checkpoint.average,
    }
    files = {name: tensors for name, tensors in parts.items() if tensors is not None}
    digests = {}
    for name, tensors in files.items():
        _write_tensors(partial / name, tensors)
        digests[name] = _sha256(partial / name)
    text = json.dumps({**checkpoint.state, "files": digests}, indent=1, allow_nan=False)
    (partial / STATE).write_text(text + "\n")
    for name in (*files, STATE):
        _sync(partial / name)
    _sync(partial)
    previous = _previous(folder)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.rename(folder, previous)
    os.rename(partial, folder)
    _sync(folder.parent)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint ``folder``, each file checked against its digest.

    :raises CheckpointError: it is missing or damaged; names the file.
    """
    state = _read_state(folder / STATE)
    digests = state.pop("files", None)
    if not isinstance(digests, dict) or WEIGHTS not in digests:
        raise CheckpointError(f"{folder / STATE}: lists no weights; the checkpoint is damaged")
    tensors = {name: _read_tensors(folder / name, digests[name]) for name in _known(digests)}
    return Checkpoint(tensors[WEIGHTS], tensors.get(OPTIMIZER), state, tensors.get(AVERAGE))


def load_latest(folder: Path) -> tuple[Checkpoint, str | None]:
    """Read ``folder``, or the one before it where it is missing or damaged.

    :return: the checkpoint, and a line that says why the older one was taken (or None).
    :raises CheckpointError: neither can be read.
    """
    try:
        return load_checkpoint(folder), None
    except CheckpointError as error:
        previous = _previous(folder)
        if not previous.exists():
            raise
        return load_checkpoint(previous), f"{error}; going on from {previous}"


def _previous(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.previous")


def _known(digests: dict[str, str]) -> list[str]:
    return [name for name in (WEIGHTS, OPTIMIZER, AVERAGE) if name in digests]


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; is this a run folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable ({error}); the file is damaged") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: expected an object; the file is damaged")
    return state


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not written ({error}); make room and resume") from error


def _read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    try:
        if _sha256(path) != digest:
            raise CheckpointError(f"{path}: does not match its digest; the file is damaged")
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; the checkpoint is damaged") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not readable ({error}); the file is damaged") from error


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as named tensors: ``parameter number.quantity``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, values in state.items()
        for name, value in values.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put what :func:`pack_optimiser` gave back into an optimizer of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, quantity = name.split(".", 1)
        state.setdefault(int(number), {})[quantity] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
