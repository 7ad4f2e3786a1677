"""What can go wrong with what is on disk.

Every message is one line that names the file, the value and the mend, because the
commands print it as it stands.
"""

import re


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
