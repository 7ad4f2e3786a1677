"""Errors that a user can act on. Each is one line: where, what, and a hint.

Every error of this package is an :class:`Error`. The command line prints ``str(error)``; code
that needs a part of it reads the fields.
"""

import re
from typing import Any


class Error(Exception):
    """A failure that a user can act on.

    :param what: what is wrong, with the value
    :param where: the file, URL or option concerned
    :param hint: what to do about it, for example a command that can be pasted
    """

    def __init__(
        self, what: object, *, where: object | None = None, hint: str | None = None
    ) -> None:
        super().__init__(str(what))
        self.what = str(what)
        self.where = None if where is None else str(where)
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return " ".join(f"{where}{self.what}{hint}".split())


class DataError(Error):
    """A fault in data on disk."""


class AnnotationError(DataError):
    """An annotation file that cannot be read as any known format."""


class VocabularyError(DataError):
    """A vocabulary that is missing, damaged, or contradicts what was asked for."""


class CaptionsError(DataError):
    """Encoded captions that are missing, damaged, or belong to another vocabulary."""


class ImageError(DataError):
    """An image file that cannot be decoded."""


class CacheError(DataError):
    """A feature cache that is missing, damaged, in use, or not what was expected."""


class DamagedFileError(CacheError):
    """A listed file that is missing or whose bytes are not those that the manifest lists."""


class ShardError(CacheError):
    """A shard that holds what the format does not allow."""


class MissingFeatureError(CacheError):
    """An image that has captions but no vector in the cache."""


class ModelError(Error):
    """A fault in weights, options or numbers."""


class WeightsError(ModelError):
    """Weights that cannot be found, read, or fitted to the architecture."""


class CheckpointError(ModelError):
    """A checkpoint that is missing, damaged, or of another system."""


class PipelineError(Error):
    """A command that cannot do what was asked."""


class NotFiniteError(PipelineError):
    """A training whose loss or validation metric is infinite or not a number."""


class OptionError(PipelineError):
    """Options that contradict each other or what is already on disk (exit status 2)."""


def brief(reason: object, longest: int = 1000) -> str:
    """Return a reason as one short printable line: it may quote a file from anywhere."""
    text = str(reason)
    plain = "".join(sign if sign.isprintable() else " " for sign in text[:longest])
    return " ".join(plain.split()) + ("..." if len(text) > longest else "")


def shown(value: Any) -> str:
    """Return a value as it is quoted in an error: on one line, and short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def without_password(url: str) -> str:
    """Return ``url`` without user and password, as it may be shown and written down."""
    return re.sub(r"//[^/]*@", "//", url)
