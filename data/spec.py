"""The feature spec: how the vectors of a cache were made."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from data.errors import CacheError

DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Transform:
    """From the decoded picture to the network's input.

    The shorter side is resized to ``resize`` pixels, the middle ``crop`` x ``crop`` pixels are
    cut out, and each channel of [0, 1] has ``mean`` subtracted and is divided by ``std``.
    """

    resize: int
    crop: int
    interpolation: str
    antialias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class FeatureSpec:
    """What made a vector, and what else is worth knowing about it.

    The first fields change the meaning of a vector and make up the fingerprint. ``dtype``,
    ``precision`` and ``versions`` are numeric detail: recorded, reported, free to differ.
    ``weights`` names where the weights came from; only their digest is part of the meaning.
    """

    architecture: str
    weights_sha256: str
    transform: Transform
    decode: str
    pooling: str
    dimension: int
    weights: str
    dtype: str = "float16"
    precision: str = "float32"
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CacheError(f"feature spec: dtype is {self.dtype!r}; use one of {DTYPES}")
        if self.dimension < 1:
            raise CacheError(f"feature spec: dimension is {self.dimension}; it must be at least 1")

    @property
    def meaning(self) -> dict[str, Any]:
        """The fields that two caches must share before their vectors may be mixed."""
        whole = asdict(self)
        for detail in ("weights", "dtype", "precision", "versions"):
            del whole[detail]
        return whole

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of the canonical JSON of :attr:`meaning`."""
        text = json.dumps(self.meaning, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain values; :meth:`from_json` is the way back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object, source: str) -> "FeatureSpec":
        """Read what :meth:`to_json` made.

        :raises CacheError: a field is missing, unknown or of the wrong type; names ``source``.
        """
        outer = _checked(cls, value, f"{source}: feature spec")
        inner = _checked(Transform, outer.pop("transform"), f"{source}: feature spec.transform")
        for name in ("mean", "std"):
            inner[name] = tuple(inner[name])
        return cls(transform=Transform(**inner), **outer)

    def differences(self, other: "FeatureSpec") -> list[str]:
        """Say field by field where the meanings of two specs differ."""
        mine, theirs = self.meaning, other.meaning
        return [f"{k}: {mine[k]!r} and {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]


_PLAIN_TYPES: dict[str, tuple[type, ...]] = {
    "architecture": (str,),
    "weights_sha256": (str,),
    "transform": (dict,),
    "decode": (str,),
    "pooling": (str,),
    "dimension": (int,),
    "weights": (str,),
    "dtype": (str,),
    "precision": (str,),
    "versions": (dict,),
    "resize": (int,),
    "crop": (int,),
    "interpolation": (str,),
    "antialias": (bool,),
    "mean": (list, tuple),
    "std": (list, tuple),
}


def _checked(kind: type, value: object, where: str) -> dict[str, Any]:
    """Return ``value`` as a dictionary with exactly the fields of ``kind``."""
    if not isinstance(value, dict):
        raise CacheError(f"{where} is {type(value).__name__}, expected an object")
    names = [f.name for f in fields(kind)]
    if odd := sorted(set(names) ^ set(value)):
        raise CacheError(f"{where}: missing or unknown field {odd[0]!r}; is it of a newer version?")
    for name in names:
        entry: Any = value[name]
        expected = _PLAIN_TYPES[name]
        if not isinstance(entry, expected) or (isinstance(entry, bool) and bool not in expected):
            raise CacheError(f"{where}.{name} is {entry!r}, expected {expected[0].__name__}")
        if name in ("mean", "std") and not all(isinstance(x, int | float) for x in entry):
            raise CacheError(f"{where}.{name} is {entry!r}, expected numbers")
        if name == "versions" and not all(isinstance(x, str) for x in entry.values()):
            raise CacheError(f"{where}.{name} is {entry!r}, expected texts")
    return dict(value)
