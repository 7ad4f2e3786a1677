"""Captioned images, independent of the format of their annotations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multispace.data.annotations.split_names import canonical_split
from multispace.data.cache.format.keys import check_key
from multispace.errors import AnnotationError

DUPLICATE_IMAGE_ID = "duplicate image id"
DUPLICATE_CAPTION = "duplicate caption"
EMPTY_CAPTION = "empty caption"
CAPTION_NOT_TEXT = "caption that is not text"
CAPTION_WITHOUT_IMAGE = "caption without image"
IMAGE_WITHOUT_CAPTIONS = "image without captions"
IMAGE_IN_TWO_SPLITS = "image in two splits"
WRONG_ENCODING = "wrong encoding"
UNSAFE_IMAGE_NAME = "unsafe image name"
MALFORMED_LINE = "malformed line"


@dataclass(frozen=True)
class Problem:
    """An entry that was skipped: ``kind`` is one of this module's constants."""

    kind: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.detail}"


@dataclass(frozen=True, slots=True)  # there may be millions
class CaptionedImage:
    """An image and its captions.

    :param key: file name relative to the image folder, in POSIX form (see ``safe_key``)
    :param factors: the true factors of a generated image, as parsed JSON
    :param other_ids: further ids that the annotations give the same file
    :raises ValueError: ``key`` is not one that ``safe_key`` returns.
    """

    key: str
    image_id: int | str
    captions: tuple[str, ...]
    split: str | None
    factors: Any = None
    other_ids: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        check_key(self.key)


@dataclass(frozen=True)
class Collection:
    """The images of an annotation file, and the problems that were found in it.

    :param digest: SHA-256, in hexadecimal, of the bytes of the files that were read
    :param problems: entries that were skipped
    :param held_out: pairs ("red circle") that a generated collection was made without
    :raises AnnotationError: there is no image.
    :raises ValueError: two images have the same key or id.
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
                f"no image with captions{first}",
                where=self.source,
                hint="check that the file is complete",
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
        wanted = canonical_split(name)
        return tuple(image for image in self.images if image.split == wanted)
