"""Declarations of options that say how vectors are stored."""

from typing import Any

from multispace.fields import option

STORAGE_TYPES = ("float16", "float32")


def shard_size(**declared: Any) -> Any:
    """Declare how many images a shard holds."""
    return option("Images per shard.", 4096, min=1, **declared)


def storage_type(default: str, **declared: Any) -> Any:
    """Declare the type of stored vectors."""
    return option("Type of the stored vectors.", default, choices=STORAGE_TYPES, **declared)
