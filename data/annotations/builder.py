"""Assembly of a collection from the entries of an annotation file, in any format."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multispace.data.annotations.collection import (
    CAPTION_NOT_TEXT,
    DUPLICATE_CAPTION,
    EMPTY_CAPTION,
    IMAGE_IN_TWO_SPLITS,
    IMAGE_WITHOUT_CAPTIONS,
    UNSAFE_IMAGE_NAME,
    WRONG_ENCODING,
    CaptionedImage,
    Collection,
    Problem,
)
from multispace.data.cache.format.keys import is_unicode, safe_key
from multispace.errors import shown

ImageId = int | str


MANY = 32  # captions of an image, from which on those seen are held in a set


@dataclass(slots=True)
class ImageDraft:
    """An image whose captions are being collected."""

    key: str
    image_id: ImageId
    place: str
    split: str | None
    factors: Any
    captions: list[str] = field(default_factory=list)
    caption_ids: list[ImageId | None] = field(default_factory=list)  # None for captions without
    other_ids: tuple[ImageId, ...] = ()
    seen: set[tuple[str, str]] | None = None  # ids and texts of captions, if there are many

    def has(self, caption_id: ImageId, text: str) -> bool:
        """Whether a caption with this id and this text is there."""
        if len(self.captions) < MANY:  # the common case; a set for each image takes much memory
            if text not in self.captions:
                return False
            pairs = zip(self.captions, self.caption_ids, strict=True)
            return any(text == other and _same(caption_id, i) for other, i in pairs)
        if self.seen is None:
            pairs = zip(self.captions, self.caption_ids, strict=True)
            self.seen = {(str(i), other) for other, i in pairs if i is not None}
        return (str(caption_id), text) in self.seen

    def add(self, caption_id: ImageId | None, text: str) -> None:
        """Add a caption."""
        self.captions.append(text)
        self.caption_ids.append(caption_id)
        if self.seen is not None and caption_id is not None:
            self.seen.add((str(caption_id), text))


class CollectionBuilder:
    """Collects images and captions, and records entries that must be skipped.

    A file name identifies an image: entries with the same name are merged. A caption is a
    duplicate only if image, caption id and text are all equal.
    """

    def __init__(self, format: str, source: Path, notes: Iterable[str] = ()) -> None:
        self.problems: list[Problem] = []
        self.notes = list(notes)
        self._format, self._source = format, source
        self._drafts: dict[str, ImageDraft | None] = {}  # by the name in the file
        self._images: dict[str, ImageDraft] = {}  # by key
        self._merged = 0

    def skip(self, kind: str, subject: object, detail: str) -> None:
        """Record an entry that is skipped."""
        self.problems.append(Problem(kind, str(subject), detail))

    def row(
        self,
        name: str,
        caption: Any,
        place: str,
        split: str | None = None,
        caption_id: ImageId | None = None,
    ) -> None:
        """Add a line of a file in which each caption repeats the name of its image."""
        if (image := self._named(name, None, place, split)) is not None:
            self._join_split(image, split, place)
            self.caption(image, caption, place, caption_id)

    def image(
        self,
        name: str,
        image_id: ImageId | None,
        place: str,
        *,
        split: str | None = None,
        factors: Any = None,
    ) -> ImageDraft | None:
        """Add an image, or return the earlier one of the same name.

        :param image_id: None if the key serves as id
        :param place: where the entry is in the file
        :returns: None if the name cannot be a key
        """
        known = len(self._images)
        image = self._named(name, image_id, place, split)
        if image is None:
            return None
        if len(self._images) > known:
            image.factors = factors
            return image
        self._merged += 1
        if image_id is not None and image_id not in (image.image_id, *image.other_ids):
            image.other_ids += (image_id,)
        self._join_split(image, split, place)
        return image

    def caption(
        self, image: ImageDraft, text: Any, place: str, caption_id: ImageId | None = None
    ) -> None:
        """Add a caption to an image; skip one that is empty, not text, or a duplicate."""
        if not isinstance(text, str):
            self.skip(CAPTION_NOT_TEXT, place, f"{shown(text)}, of image {image.key}")
            return
        if not is_unicode(text):
            self.skip(WRONG_ENCODING, place, "the caption has a lone surrogate")
            return
        if not (tidied := tidy(text)):
            self.skip(EMPTY_CAPTION, place, f"of image {image.key}")
            return
        if caption_id is not None and image.has(caption_id, tidied):
            self.skip(DUPLICATE_CAPTION, place, f"of image {image.key}, same id and text")
            return
        image.add(caption_id, tidied)

    def build(self, held_out: tuple[str, ...] = ()) -> Collection:
        """Return the collection, without its digest.

        :raises AnnotationError: no image has a caption.
        """
        images = []
        for draft in self._images.values():
            if draft.captions:
                images.append(draft)
            else:
                self.skip(IMAGE_WITHOUT_CAPTIONS, draft.key, draft.place)
        if self._merged:
            self.notes.append(f"{self._merged} entries repeat a file name; merged by file name")
        as_text = len({type(draft.image_id) for draft in images}) > 1
        return Collection(
            self._format,
            self._source,
            "",
            tuple(
                CaptionedImage(
                    draft.key,
                    str(draft.image_id) if as_text else draft.image_id,
                    tuple(draft.captions),
                    draft.split,
                    draft.factors,
                    draft.other_ids,
                )
                for draft in images
            ),
            tuple(self.problems),
            tuple(self.notes),
            held_out,
        )

    def _named(
        self, name: str, image_id: ImageId | None, place: str, split: str | None
    ) -> ImageDraft | None:
        if name in self._drafts:
            return self._drafts[name]
        try:
            key = safe_key(name)
        except ValueError as error:
            self.skip(UNSAFE_IMAGE_NAME, shown(name), f"{place} {error}")
            self._drafts[name] = None
            return None
        image = self._images.get(key)
        if image is None:
            own = key if image_id is None else image_id
            image = self._images[key] = ImageDraft(key, own, place, split, None)
        self._drafts[name] = image
        return image

    def _join_split(self, image: ImageDraft, split: str | None, place: str) -> None:
        if image.split is None:
            image.split = split
        elif split not in (None, image.split):
            detail = f"{place} says {split}; it stays in {image.split}"
            self.skip(IMAGE_IN_TWO_SPLITS, image.key, detail)


def _same(first: ImageId, second: ImageId | None) -> bool:
    return second is not None and str(first) == str(second)


def tidy(caption: str) -> str:
    """Return a caption on one line, without outer white space."""
    tidied = " ".join(part for line in caption.splitlines() if (part := line.strip()))
    return caption if caption == tidied else tidied  # not a second copy of the same text
