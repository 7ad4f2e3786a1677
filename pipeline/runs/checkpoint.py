"""Checkpoints on disk: safetensors and JSON, whole or not at all, never pickle.

A checkpoint is a folder. It is written under a temporary name and then renamed; the checkpoint
before it becomes ``NAME.previous`` and stays until the next one, so that one whole checkpoint
can be read at any moment. ``state.json`` holds the digest of each file and its own.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from multispace.data.documents import (
    DocumentFormat,
    Integer,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Object,
    Text,
)
from multispace.data.files import read_file, sync_folder, write_synced
from multispace.errors import CheckpointError, DataError, brief

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimiser.safetensors"
AVERAGE = "average.safetensors"
STATE = "state.json"

MAX_TENSOR_BYTES = 8 << 30  # of a file; it is read into memory
ATTEMPTS, PAUSE = 20, 0.05  # seconds between attempts to read what is being replaced
# What safetensors raises for content that is not its own, or of types that torch has not.
_NO_TENSORS = (SafetensorError, ValueError, KeyError, TypeError)

_COUNT = Integer(min=0)
_DIGEST = Text(pattern="[0-9a-f]{64}")
STATE_FORMAT = DocumentFormat(
    Object(
        {},
        {
            "step": _COUNT,
            "epoch": _COUNT,
            "batch": _COUNT,
            "best": Nullable(Number()),
            "best_step": _COUNT,
            "epochs_without_better": _COUNT,
            "scaler": MapOf(Number(), max_items=20),
            "meter": Object(
                {
                    "terms": ListOf(Number(), min_items=5, max_items=5),
                    **dict.fromkeys(("steps", "captions", "tokens", "skipped"), _COUNT),
                    "seconds": Number(min=0),
                }
            ),
            "metrics_lines": Nullable(_COUNT),
            "files": MapOf(_DIGEST, max_items=20),
            "digest": _DIGEST,
        },
    ),
    error=CheckpointError,
    hint="the file is damaged",
    max_bytes=1 << 20,
    max_depth=4,
)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    :param optimizer: the optimizer's state (:func:`pack_optimizer`); None in a checkpoint that
        is for use only
    :param state: all else that a resume needs, as plain values
    :param average: the moving average of ``weights``, if there is one; it is what is used
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor] | None
    state: dict[str, Any]
    average: dict[str, Tensor] | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` as ``folder``; a crash leaves the old one or the new one.

    :raises CheckpointError: a file cannot be written; names the file. The old one is kept.
    """
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(partial, checkpoint)
    except CheckpointError:
        shutil.rmtree(partial, ignore_errors=True)  # leave the space to others
        raise
    previous = _previous(folder)
    with _names_file(folder):
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            os.rename(folder, previous)
        os.rename(partial, folder)
        sync_folder(folder.parent)


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    with _names_file(folder):
        folder.mkdir(parents=True)
    parts = {
        WEIGHTS: checkpoint.weights,
        OPTIMIZER: checkpoint.optimizer,
        AVERAGE: checkpoint.average,
    }
    digests = {}
    for name, tensors in parts.items():
        if tensors is not None:
            content = tensor_bytes(tensors)
            digests[name] = hashlib.sha256(content).hexdigest()
            with _names_file(folder / name):
                write_synced(folder / name, content)
    state = {**checkpoint.state, "files": digests}
    text = json.dumps({**state, "digest": _state_digest(state)}, indent=1, allow_nan=False)
    with _names_file(folder / STATE):
        write_synced(folder / STATE, f"{text}\n".encode())
    with _names_file(folder):
        sync_folder(folder)


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint ``folder`` and the one before it, and no other files.

    Nothing is removed through a symbolic link.
    """
    for place in (folder, _previous(folder), _partial(folder)):
        if place.is_symlink() or not place.is_dir():
            continue
        for name in (STATE, WEIGHTS, OPTIMIZER, AVERAGE):
            (place / name).unlink(missing_ok=True)
        with suppress(OSError):  # it holds other files
            place.rmdir()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint ``folder``, each file checked against its digest.

    The tensors are those that were written; whether they fit a model is for
    :mod:`multispace.pipeline.runs.tensor_checks` to say.

    Training may replace the checkpoint in the meantime: it is then read again, so that all files
    are of one checkpoint.

    :raises CheckpointError: it is missing or damaged; names the file.
    """
    for _ in range(ATTEMPTS):
        before = _identity(folder)
        try:
            return _read(folder)
        except CheckpointError:
            unchanged = _identity(folder) == before
            if unchanged and (before is not None or not _previous(folder).exists()):
                raise
            time.sleep(PAUSE)
    return _read(folder)


def _read(folder: Path) -> Checkpoint:
    state = _read_state(folder / STATE)
    digests = state.pop("files", None)
    if digests is None or WEIGHTS not in digests:
        raise CheckpointError(
            "lists no weights", where=folder / STATE, hint="the checkpoint is damaged"
        )
    tensors = {
        name: _read_tensors(folder / name, digests[name])
        for name in (WEIGHTS, OPTIMIZER, AVERAGE)
        if name in digests
    }
    return Checkpoint(tensors[WEIGHTS], tensors.get(OPTIMIZER), state, tensors.get(AVERAGE))


def load_latest(folder: Path) -> tuple[Checkpoint, str | None]:
    """Read ``folder``, or the checkpoint before it if ``folder`` is missing or damaged.

    :returns: the checkpoint, and a line that says why the older one was used (or None)
    :raises CheckpointError: neither can be read.
    """
    try:
        return load_checkpoint(folder), None
    except CheckpointError as error:
        previous = _previous(folder)
        if not previous.exists():
            raise
        return load_checkpoint(previous), f"{error}; continuing from {previous}"


def has_checkpoint(folder: Path) -> bool:
    """Return whether ``folder`` or the checkpoint before it exists."""
    return folder.exists() or _previous(folder).exists()


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as tensors named ``PARAMETER_NUMBER.QUANTITY``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, values in state.items()
        for name, value in values.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what :func:`pack_optimizer` returned into an optimizer of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, quantity = name.split(".", 1)
        state.setdefault(int(number), {})[quantity] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return the device and inode of a folder; None where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _partial(folder: Path) -> Path:
    return folder.with_name(f".partial-{folder.name}")


def _previous(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.previous")


def _read_state(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError("not found", where=path, hint="is this a run folder?")
    state = STATE_FORMAT.read_json(path)
    digest = state.pop("digest", None)  # earlier versions wrote none
    if digest is not None and digest != _state_digest(state):
        raise CheckpointError("does not match its digest", where=path, hint="the file is damaged")
    return state


def _state_digest(state: dict[str, Any]) -> str:
    canonical = json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    """Read a file once: the bytes that are checked are the bytes that are used."""
    try:
        content = read_file(path, MAX_TENSOR_BYTES)
        if hashlib.sha256(content).hexdigest() != digest:
            raise CheckpointError(
                "does not match its digest", where=path, hint="the file is damaged"
            )
        return parse_tensors(content, path)
    except FileNotFoundError:
        raise CheckpointError("not found", where=path, hint="the checkpoint is damaged") from None
    except OSError as error:
        raise CheckpointError(
            f"not readable ({error.strerror})", where=path, hint="check its permissions"
        ) from error
    except CheckpointError:
        raise
    except DataError as error:
        raise CheckpointError(error.what, where=path, hint="the checkpoint is damaged") from error


def parse_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    :param content: what was read from ``path``
    :raises CheckpointError: it holds something else.
    """
    try:
        return load(content)
    except _NO_TENSORS as error:
        raise CheckpointError(
            f"not readable ({brief(error, 200)})", where=path, hint="the file is damaged"
        ) from error


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the content of a safetensors file."""
    return save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})


@contextmanager
def _names_file(path: Path) -> Iterator[None]:
    """Raise an error that names ``path`` where it cannot be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"not written ({reason}); the checkpoint before it is kept",
            where=path,
            hint="make room and run the same command with --resume",
        ) from error
