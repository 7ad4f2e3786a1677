"""Where checkpoints hold their image network, recognized by the names of their tensors.

Self-supervised training saves the image network beside others: a momentum copy, a teacher, a
projection head, a queue. Only the image network is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class ImageNetwork:
    """The tensors of the image network in a file.

    :param state: tensors by name; a prefix that all of them share may remain
    :param kind: what the file is, for example "a MoCo checkpoint"; empty for a plain state dict
    :param part: which part of it this is
    """

    state: State
    kind: str = ""
    part: str = ""

    @property
    def is_transformer(self) -> bool:
        """Whether it is a vision transformer."""
        return any(name.endswith(_TRANSFORMER) for name in self.state)


@dataclass(frozen=True)
class _Layout:
    """A kind of checkpoint, and the prefix of its image network."""

    kind: str
    part: str
    prefix: str


_LAYOUTS = (
    _Layout("a MoCo checkpoint", "its query encoder", "encoder_q."),
    _Layout("a MoCo v3 checkpoint", "its base encoder", "base_encoder."),
    _Layout("a checkpoint of several networks", "its backbone", "backbone."),
)
_DINO = "a DINO checkpoint"
_BRANCHES = ("teacher", "student")  # of DINO, which evaluates the teacher
_CONTAINERS = ("state_dict", "model")
_PARALLEL = "module."  # what DataParallel and DistributedDataParallel put before each name
_TRANSFORMER = ("cls_token", "class_token", "attn.qkv.weight")


def find_image_network(content: object) -> ImageNetwork | None:
    """Return the image network of a checkpoint; None if the content holds no state dict.

    :param content: what the file holds, as :func:`torch.load` returns it
    """
    if not isinstance(content, dict):
        return None
    for branch in _BRANCHES:
        if selected := _under("backbone.", _state(content.get(branch)) or {}):
            return ImageNetwork(selected, _DINO, f"the backbone of its {branch}")
    inner = (content[name] for name in _CONTAINERS if isinstance(content.get(name), dict))
    if (state := _state(next(inner, content))) is None:
        return None
    for layout in _LAYOUTS:
        if selected := _under(layout.prefix, state):
            return ImageNetwork(selected, layout.kind, layout.part)
    return ImageNetwork(state)


def _state(value: object) -> State | None:
    """Return ``value`` if it is a state dict, without the prefix of parallel training."""
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    ):
        return None
    if value and all(name.startswith(_PARALLEL) for name in value):
        return {name.removeprefix(_PARALLEL): tensor for name, tensor in value.items()}
    return value


def _under(prefix: str, state: State) -> State:
    """Return the tensors whose names start with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
