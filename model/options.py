"""What a system is made of, checked before anything is built. No torch: options are cheap."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from model.errors import ModelError

SYSTEMS = ("base", "latent", "multispace")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class SystemOptions:
    """What a system is made of. Sizes in units, capacities in nats, times in optimiser steps."""

    system: str
    words: int
    feature_size: int
    embedding: int = 512
    hidden: int = 512
    dropout: float = 0.0
    z_size: int = 128
    categories: tuple[int, ...] = (128,)
    temperature: float = 0.67
    annealing_midpoint: float = 2500
    annealing_slope: float = 0.0025
    gamma_z: float = 0.05
    gamma_c: float = 0.05
    capacity_z_min: float = 30.0
    capacity_z_max: float = 30.0
    capacity_c_min: float = 0.0
    capacity_c_max: float = 4.5
    capacity_steps: int = 2500

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise ModelError(f"system {self.system!r}: use one of {', '.join(SYSTEMS)}")
        for name, value in self.to_json().items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ModelError(f"{name} is {value}: it must be a finite number")
        for name in ("words", "feature_size", "embedding", "hidden", "z_size"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not self.categories or min(self.categories) < 2:
            raise ModelError(f"categories is {self.categories}: each variable needs 2 or more")
        if not self.temperature > 0:
            raise ModelError(f"temperature is {self.temperature}: it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout is {self.dropout}: it must be in [0, 1)")
        for name in ("gamma_z", "gamma_c", "capacity_steps"):
            if getattr(self, name) < 0:
                raise ModelError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        for channel in ("z", "c"):
            low, high = (getattr(self, f"capacity_{channel}_{end}") for end in ("min", "max"))
            if not 0 <= low <= high:
                raise ModelError(
                    f"capacity_{channel}_min {low} and capacity_{channel}_max {high}: "
                    "they must be 0 or more and not fall"
                )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SystemOptions":
        """Read what ``dataclasses.asdict`` gave after a trip through JSON."""
        known = {f.name for f in fields(cls)}
        if odd := sorted(set(value) ^ known):
            raise ModelError(f"system options: missing or unknown {odd[0]!r}")
        return cls(**{**value, "categories": tuple(value["categories"])})

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
