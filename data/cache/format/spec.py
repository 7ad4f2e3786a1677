"""The feature spec: how the vectors of a cache were made."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

from multispace.data.cache.format.canonical_json import canonical_digest
from multispace.errors import CacheError, brief

DTYPES = ("float16", "float32")

EXTRACTED = "extracted"
IMPORTED = "imported, provenance as stated by the user"
IMPORTED_UNSEEN = f"{IMPORTED}, images not seen: image_sha256 is zero"
ORIGINS = (EXTRACTED, IMPORTED, IMPORTED_UNSEEN)

_MAX_COUNT = (1 << 31) - 1  # pixels, or numbers in a vector

_DETAIL = ("weights", "dtype", "precision", "versions")


@dataclass(frozen=True)
class Transform:
    """The transform from the decoded image to the network's input.

    The shorter side is resized to ``resize`` pixels, the central ``crop`` x ``crop`` pixels are
    cut out, and each channel, in [0, 1], is normalized by ``mean`` and ``std``.

    :raises CacheError: a value has the wrong type.
    """

    resize: int
    crop: int
    interpolation: str
    antialias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(self, "feature spec.transform")


@dataclass(frozen=True)
class FeatureSpec:
    """How the vectors of a cache were made.

    The first fields change the meaning of a vector and make up the fingerprint. ``dtype``,
    ``precision`` and ``versions`` are numeric detail: they are recorded and may differ.
    ``weights`` names where the weights came from; only their digest is part of the fingerprint.

    ``origin`` says who states all this: this software, which extracted the vectors, or the
    user who imported them. It is part of the fingerprint, so that the two are never mixed. The
    transform of imported vectors is not known; that of extracted vectors always is.

    :raises CacheError: a value has the wrong type.
    """

    architecture: str
    weights_sha256: str
    transform: Transform | None
    decode: str
    pooling: str
    dimension: int
    weights: str
    dtype: str = "float16"
    precision: str = "float32"
    versions: Mapping[str, str] = field(default_factory=dict)
    origin: str = EXTRACTED

    def __post_init__(self) -> None:
        _check(self, "feature spec")
        if (self.transform is not None) != (self.origin == EXTRACTED):
            raise CacheError(
                f"feature spec.transform is {self.transform!r} and its origin {self.origin!r}",
                hint=f"it is known for {EXTRACTED!r} and for no other",
            )

    @property
    def meaning(self) -> dict[str, Any]:
        """The fields that must be equal in two caches whose vectors are mixed."""
        return {name: value for name, value in self.to_json().items() if name not in _DETAIL}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of the canonical JSON of :attr:`meaning`."""
        return canonical_digest(self.meaning)

    @cached_property
    def fingerprint_1(self) -> str:
        """The fingerprint as version 1 of the format has it.

        It differs only where a text is not ASCII, or where a number is not spelled as RFC 8785
        spells it: 0.0, for example.
        """
        text = json.dumps(self.meaning, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def has_fingerprint(self, fingerprint: object) -> bool:
        """Whether ``fingerprint`` is that of this spec, in this version or in version 1."""
        return fingerprint in (self.fingerprint, self.fingerprint_1)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, which :meth:`from_json` reads.

        ``origin`` is left out for vectors that were extracted.
        """
        whole = asdict(self)
        if self.origin == EXTRACTED:
            del whole["origin"]
        return whole

    @classmethod
    def from_json(cls, value: object, source: str) -> "FeatureSpec":
        """Read what :meth:`to_json` returned.

        :param source: where the value is from; for messages
        :raises CacheError: a field is missing, unknown or of the wrong type.
        """
        try:
            if isinstance(value, dict):
                value = {"origin": EXTRACTED, **value}
            outer = _named(cls, value, "feature spec")
            if outer["transform"] is not None or outer["origin"] == EXTRACTED:
                outer["transform"] = _transform(outer["transform"])
            return cls(**outer)
        except CacheError as error:
            raise CacheError(error.what, where=source, hint=error.hint) from None

    def with_doubles(self) -> "FeatureSpec":
        """Return the spec with its numbers as doubles; canonical JSON has 0 for 0.0."""
        if self.transform is None:
            return self
        mean, std = (tuple(map(float, part)) for part in (self.transform.mean, self.transform.std))
        return replace(self, transform=replace(self.transform, mean=mean, std=std))

    def without_folder(self) -> "FeatureSpec":
        """Return the spec with the name of the weights in place of an absolute path.

        The digest identifies the weights, so that the fingerprint stays.
        """
        path = PurePath(self.weights)
        return replace(self, weights=path.name) if path.is_absolute() else self

    def differences(self, other: "FeatureSpec") -> list[str]:
        """Return a line for each field of the fingerprint in which two specs differ."""
        mine, theirs = ({**spec.meaning, "origin": spec.origin} for spec in (self, other))
        return [
            f"{name}: {brief(repr(mine[name]), 200)} and {brief(repr(theirs[name]), 200)}"
            for name in mine
            if mine[name] != theirs[name]
        ]


def _transform(value: object) -> Transform:
    inner = _named(Transform, value, "feature spec.transform")
    for name in ("mean", "std"):
        if isinstance(inner[name], list):
            inner[name] = tuple(inner[name])
    return Transform(**inner)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= _MAX_COUNT


def _are_numbers(value: object) -> bool:
    return isinstance(value, tuple) and all(
        type(number) in (int, float) and abs(number) <= sys.float_info.max for number in value
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, (*value, *value.values())))


# Text is one printable line because errors quote it; numbers are finite as all JSON numbers are.
_KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "architecture": ("text", _is_text),
    "weights_sha256": ("text", _is_text),
    "transform": ("a transform", lambda value: value is None or isinstance(value, Transform)),
    "decode": ("text", _is_text),
    "pooling": ("text", _is_text),
    "dimension": (f"a whole number from 1 to {_MAX_COUNT}", _is_count),
    "weights": ("text", _is_text),
    "dtype": (f"one of {', '.join(DTYPES)}", lambda value: value in DTYPES),
    "precision": ("text", _is_text),
    "versions": ("an object of texts", _are_texts),
    "origin": (f"one of {', '.join(map(repr, ORIGINS))}", lambda value: value in ORIGINS),
    "resize": (f"a whole number from 1 to {_MAX_COUNT}", _is_count),
    "crop": (f"a whole number from 1 to {_MAX_COUNT}", _is_count),
    "interpolation": ("text", _is_text),
    "antialias": ("true or false", lambda value: isinstance(value, bool)),
    "mean": ("finite numbers", _are_numbers),
    "std": ("finite numbers", _are_numbers),
}


def _check(record: FeatureSpec | Transform, where: str) -> None:
    for place in fields(record):
        value = getattr(record, place.name)
        expected, fits = _KINDS[place.name]
        if not fits(value):
            raise CacheError(f"{where}.{place.name} is {value!r}, expected {expected}")


def _named(kind: type, value: object, where: str) -> dict[str, Any]:
    """Return ``value`` as a dictionary if it has exactly the fields of ``kind``."""
    if not isinstance(value, dict):
        raise CacheError(f"{where} is {type(value).__name__}, expected an object")
    if different := {f.name for f in fields(kind)} ^ set(value):
        raise CacheError(
            f"{where}: missing or unknown field {min(different)!r}",
            hint="it may be of another version",
        )
    return dict(value)
