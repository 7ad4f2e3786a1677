"""Checks of a checkpoint's tensors against the model that they are meant for.

torch copies what it is given: optimizer moments of a wrong shape crash the process in the fused
step, and weights that are not numbers give captions without an error. So everything is checked
before anything is loaded.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from multispace.errors import CheckpointError, shown

HINT = "the checkpoint is damaged or belongs to another run; restore it"
MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, in the shape of the parameter


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> None:
    """Check tensors by name, shape, type and value.

    :param tensors: what was read from ``path``
    :param expected: tensors of the right names, shapes and types, of any device, also ``meta``
    :raises CheckpointError: one is missing, unknown, of another shape or type, or not finite.
    """
    if different := sorted(tensors.keys() ^ expected.keys()):
        fault = "lacks the tensor" if different[0] in expected else "has the unknown tensor"
        raise CheckpointError(f"{fault} {shown(different[0])}", where=path, hint=HINT)
    for name, tensor in tensors.items():
        other = expected[name]
        if (tensor.shape, tensor.dtype) != (other.shape, other.dtype):
            raise CheckpointError(
                f"{name} is {_described(tensor)}, the model has {_described(other)}",
                where=path,
                hint=HINT,
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{name} holds numbers that are not finite", where=path, hint=HINT
            )


def check_moments(tensors: Mapping[str, Tensor], model: nn.Module, step: int, path: Path) -> None:
    """Check the packed state of Adam against the parameters of ``model``.

    :param step: optimizer steps that are done; before the first one there is no state
    :raises CheckpointError: as :func:`check_tensors`, or a second moment is negative.
    """
    expected: dict[str, Tensor] = {}
    for number, parameter in enumerate(model.parameters()):
        expected[f"{number}.step"] = torch.zeros(())
        expected |= {f"{number}.{moment}": parameter for moment in MOMENTS}
    if not tensors and not step:
        return
    check_tensors(tensors, expected, path)
    for name, tensor in tensors.items():
        if not name.endswith(f".{MOMENTS[0]}") and (tensor < 0).any():
            raise CheckpointError(f"{name} holds negative numbers", where=path, hint=HINT)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
