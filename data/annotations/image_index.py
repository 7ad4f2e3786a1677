"""Images of a collection by the names and ids that other files use for them."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from multispace.data.annotations.collection import CaptionedImage
from multispace.data.images import has_image_suffix

# COCO's file names end in the id of the image, with leading zeros.
_COCO_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})")


class ImageIndex:
    """Finds an image by its key, file name or id.

    Ids are compared as text, and numbers without leading zeros: 42, "42" and "000042" are equal.
    A name that several images have finds none of them.
    """

    def __init__(self, images: Iterable[CaptionedImage]) -> None:
        self._by_id: dict[str, CaptionedImage | None] = {}
        self._by_name: dict[str, CaptionedImage | None] = {}
        for image in images:
            for image_id in (image.image_id, *image.other_ids):
                _enter(self._by_id, _plain(str(image_id)), image)
            for name in _names(image.key):
                _enter(self._by_name, name, image)

    def by_name(self, name: str) -> CaptionedImage | None:
        """Return the image of a file name, with or without its folder and suffix."""
        for known in _names(name):
            image = self._by_name.get(known)
            # Files of the same name in two folders are two images.
            if image is not None and (known == name or not ("/" in name and "/" in image.key)):
                return image
        return None

    def by_id(self, image_id: int | str) -> CaptionedImage | None:
        """Return the image with an id, which may also be the name of its file."""
        text = str(image_id)
        if (image := self._by_id.get(_plain(text))) is not None:
            return image
        if isinstance(image_id, str) and (image := self.by_name(text)) is not None:
            return image
        number = coco_id(text)
        return None if number is None else self._by_id.get(str(number))


def coco_id(file: str) -> int | None:
    """Return the image id in the name of a file of COCO; None for a file of another name."""
    found = _COCO_NAME.fullmatch(_stem(PurePosixPath(file).name))
    return int(found[1]) if found else None


def _enter(table: dict[str, CaptionedImage | None], name: str, image: CaptionedImage) -> None:
    other = table.setdefault(name, image)
    if other is not None and other.key != image.key:
        table[name] = None


def _names(key: str) -> dict[str, None]:
    """Return a key, without its folder, and both without suffix; the longest first."""
    name = PurePosixPath(key).name
    return dict.fromkeys((key, name, _stem(key), _stem(name)))


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if has_image_suffix(name) else name


def _plain(image_id: str) -> str:
    return image_id.lstrip("0") or "0" if image_id.isdecimal() else image_id
