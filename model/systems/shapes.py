"""The tensors of a system by name and shape, without their memory."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from multispace.model.options import SystemOptions
from multispace.model.systems import build


class _Uninitialised(TorchFunctionMode):
    """Leaves out the initial values of weights.

    On the meta device a random draw does nothing but make torch import its compiler, for 2 s.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]
        if function is Tensor.normal_:  # of nn.init.orthogonal_, which torch calls as it is
            return args[0]
        return function(*args, **kwargs)


def tensor_shapes(options: SystemOptions) -> dict[str, Tensor]:
    """Return the state dict of a system of these options on torch's meta device.

    :raises RuntimeError: the sizes multiply beyond 64 bits.
    """
    with torch.device("meta"), _Uninitialised():
        return build(options).state_dict()
