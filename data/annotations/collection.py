"""Captioned images, whatever format they were written in."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multispace.data.cache.keys import check_key
from multispace.errors import AnnotationError, shown

DUPLICATE_IMAGE_ID = "duplicate image id"
DUPLICATE_IMAGE_NAME = "duplicate image name"
DUPLICATE_CAPTION_ID = "duplicate caption id"
EMPTY_CAPTION = "empty caption"
CAPTION_WITHOUT_IMAGE = "caption without image"
IMAGE_WITHOUT_CAPTIONS = "image without captions"
IMAGE_IN_TWO_SPLITS = "image in two splits"
WRONG_ENCODING = "wrong encoding"
UNSAFE_IMAGE_NAME = "unsafe image name"

SPLITS = ("train", "val", "test")
SYNONYMS = {"dev": "val", "validation": "val"}

_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


@dataclass(frozen=True)
class Problem:
    """An entry that was skipped: ``kind`` is one of this module's constants."""

    kind: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.detail}"


@dataclass(frozen=True)
class CaptionedImage:
    """An image and its captions.

    ``key`` is the file name relative to the image folder, in POSIX form (see ``safe_key``);
    ``factors`` what a generated collection says was drawn, as parsed JSON. Raises ValueError.
    """

    key: str
    image_id: int | str
    captions: tuple[str, ...]
    split: str | None
    factors: Any = None

    def __post_init__(self) -> None:
        check_key(self.key)


@dataclass(frozen=True)
class Collection:
    """The images of one annotation file, and what was wrong with it.

    ``digest`` is the SHA-256, in hexadecimal, of the bytes of the files read; ``held_out`` the
    pairs ("red circle") that a generated collection was made without. Raises
    AnnotationError where there is no image at all, ValueError where two share a key.
    """

    format: str
    source: Path
    digest: str
    images: tuple[CaptionedImage, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            first = f" ({self.problems[0]})" if self.problems else ""
            raise AnnotationError(
                f"{self.source}: no image with captions{first}; check that the file is whole"
            )
        for what in ("key", "image_id"):
            if len({getattr(image, what) for image in self.images}) < len(self.images):
                raise ValueError(f"{self.source}: two images share a {what}")

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in order of first appearance."""
        names = dict.fromkeys(image.split for image in self.images)
        return tuple(name for name in names if name is not None)

    def split(self, name: str) -> tuple[CaptionedImage, ...]:
        """Return the images of one split; none if there is no such split."""
        wanted = SYNONYMS.get(name, name)
        return tuple(image for image in self.images if image.split == wanted)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file; raises AnnotationError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise AnnotationError(f"{path}: is a folder; name the annotation file in it") from None
    except OSError as error:
        raise AnnotationError(
            f"{path}: cannot be read ({error.strerror}); check its rights"
        ) from error


def tidy(caption: str) -> str:
    """Strip outer white space and make one line of several; nothing else changes."""
    return " ".join(part for line in caption.splitlines() if (part := line.strip()))


def split_name(source: Path, name: str) -> str:
    """Return the name that a split goes by here ("dev" is "val"); raises AnnotationError.

    The name becomes a file name, so that only letters, digits, ".", "_" and "-" may be in it.
    """
    if not _SPLIT_NAME.fullmatch(name):
        raise AnnotationError(
            f"{source}: split name {shown(name)} cannot be a file name; "
            "use letters, digits, '.', '_' and '-'"
        )
    return SYNONYMS.get(name, name)


def split_in_name(path: Path) -> str | None:
    """Return the split that a file's name tells: "captions_train2014.json" is "train".

    None where it has none of train, val (dev, validation) and test as a word, or several.
    """
    words = {word.lower() for word in _WORD.findall(path.stem)}
    found = {SYNONYMS.get(word, word) for word in words}.intersection(SPLITS)
    return found.pop() if len(found) == 1 else None


def field(source: Path, place: str, entry: Any, name: str, kind: type, expected: str) -> Any:
    """Return ``entry[name]``; raises AnnotationError that names the place."""
    if not isinstance(entry, dict):
        raise fault(source, place, entry, "an object")
    if name not in entry:
        raise AnnotationError(f"{source}: {place} has no {name}; add it or take the entry out")
    value = entry[name]
    if not isinstance(value, kind):
        raise fault(source, f"{place}.{name}", value, expected)
    return value


def text_field(source: Path, place: str, entry: Any, name: str) -> str:
    """Return the text ``entry[name]``; raises AnnotationError."""
    value: str = field(source, place, entry, name, str, "text")
    return value


def id_field(source: Path, place: str, entry: Any, name: str) -> int | str:
    """Return the identifier ``entry[name]``: a whole number or text; raises AnnotationError."""
    value = field(source, place, entry, name, object, "")
    if type(value) is int or (isinstance(value, str) and value and value.isprintable()):
        return value
    raise fault(source, f"{place}.{name}", value, "a whole number or printable text")


def fault(source: Path, place: str, value: Any, expected: str) -> AnnotationError:
    """Return the error for a value of the wrong kind."""
    return AnnotationError(
        f"{source}: {place} is {shown(value)}, expected {expected}; "
        "correct the entry or take it out"
    )
