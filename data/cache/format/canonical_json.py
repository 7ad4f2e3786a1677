"""Canonical JSON (RFC 8785), which gives equal values equal bytes in every language."""

import hashlib
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON of a value, UTF-8.

    Integers beyond 2^53 are written as the nearest double, as RFC 8785 has it.

    :raises ValueError: JSON has no such value.
    """
    import rfc8785  # imported late, so that models train and decode without it

    try:
        return rfc8785.dumps(value)
    except rfc8785.IntegerDomainError:
        return rfc8785.dumps(_with_doubles(value))


def canonical_digest(value: Any) -> str:
    """Return the SHA-256 (hexadecimal) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _with_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_doubles(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_doubles(inner) for inner in value]
    return float(value) if type(value) is int else value
