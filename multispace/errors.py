"""Errors that the commands turn into one line and an exit status."""

import re
from typing import Any


def brief(reason: object, longest: int = 1000) -> str:
    """Return a reason as one short printable line: it may quote a file from anywhere."""
    text = str(reason)
    plain = "".join(sign if sign.isprintable() else " " for sign in text[:longest])
    return " ".join(plain.split()) + ("..." if len(text) > longest else "")


def without_password(url: str) -> str:
    """Return ``url`` as it may be shown and written down."""
    return re.sub(r"//[^/@]*@", "//", url)


class DataError(Exception):
    """A fault in the data that the user can mend."""


class AnnotationError(DataError):
    """An annotation file that cannot be read as any known format."""


class VocabularyError(DataError):
    """A vocabulary that is missing, damaged, or contradicts what was asked for."""


class CaptionsError(DataError):
    """Encoded captions that are missing, damaged, or belong to another vocabulary."""


class PictureError(DataError):
    """A picture file that cannot be turned into pixels."""


class CacheError(DataError):
    """A feature cache that is missing, damaged, in use, or not what was expected."""


class DamagedFileError(CacheError):
    """A listed file that is missing or not the bytes that the manifest lists."""


class ShardError(CacheError):
    """A shard that holds what the format does not allow."""


class MissingFeatureError(CacheError):
    """A picture that has captions but no row in the cache."""


def shown(value: Any) -> str:
    """Return a value as it is quoted in an error: on one line, and short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class ModelError(Exception):
    """A fault in weights, options or numbers that the user can mend; one line."""


class WeightsError(ModelError):
    """Weights that cannot be found, read, or fitted to the architecture."""


class CheckpointError(ModelError):
    """A checkpoint that is missing, damaged, or of another system."""


class PipelineError(Exception):
    """A stage that cannot do what was asked; one line with the mend."""


class OptionError(PipelineError):
    """Options that contradict each other or what is already on disk (exit status 2)."""


FAILURES = (DataError, ModelError, PipelineError)
