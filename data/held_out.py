"""Images held out of training because they show a pair of concepts that must stay unseen.

This is the protocol of Nikolaus et al. (2019). An image of which any caption names a pair moves
from the training images to a split for evaluation. Validation images, which select checkpoints,
move likewise. Test images stay in their split.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multispace.data.annotations.annotation_file import read_bytes
from multispace.data.annotations.collection import CaptionedImage, Collection
from multispace.data.documents import (
    DocumentFormat,
    Either,
    Integer,
    Kind,
    ListOf,
    Nullable,
    Object,
    Text,
)
from multispace.data.language.pairs import Pair
from multispace.data.shapes.scene import things_of
from multispace.errors import AnnotationError, DataError

# Split -> split of its images that show a held-out pair.
HELD_OUT_SPLITS = {"train": "held-out", "val": "held-out-val"}
_LISTS = ("val_images_split", "test_images_split")
_PAIRS = ListOf(Text(max_length=200), max_items=10_000)
_IDS = ListOf(Either((Integer(), Text(max_length=4096))))
RECORD = DocumentFormat(
    Object({"pairs": _PAIRS, "split_file": Nullable(Text(pattern="[0-9a-f]{64}"))})
)
PUBLISHED_SPLIT = DocumentFormat(
    Object({"heldout_pairs": _PAIRS, **dict.fromkeys(_LISTS, _IDS)}, others=Kind()),
    error=AnnotationError,
    hint="give one of the published dataset_splits_N.json",
    max_bytes=1 << 30,
)


@dataclass(frozen=True)
class HeldOut:
    """The record of what a cache holds out.

    :param pairs: the held-out pairs, such as "black dog"
    :param split_file: SHA-256 of the file that lists the images, if a file lists them
    :raises DataError: there is no pair, or a pair is not two words.
    """

    pairs: tuple[str, ...]
    split_file: str | None = None

    def __post_init__(self) -> None:
        if not self.pairs:
            raise DataError("no pair is held out", hint="name one, such as 'black dog'")
        object.__setattr__(self, "pairs", tuple(sorted({str(Pair.parse(p)) for p in self.pairs})))

    def __str__(self) -> str:
        named = f" by the split file {self.split_file[:12]}..." if self.split_file else ""
        return ", ".join(self.pairs) + named

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"pairs": list(self.pairs), "split_file": self.split_file}

    @classmethod
    def from_json(cls, text: str) -> "HeldOut":
        """Read the JSON text of :meth:`to_json`.

        :raises DataError: the text is something else.
        """
        value = RECORD.parse_json(text.encode(), "held_out")
        return cls(tuple(value["pairs"]), value["split_file"])


def read_split_file(path: Path) -> tuple[HeldOut, frozenset[str]]:
    """Read a published split of MS-COCO: its pairs, and the ids of the images that show them.

    The file is a JSON object. ``heldout_pairs`` lists pairs ("black_cat"); ``val_images_split``
    and ``test_images_split`` list ids of images.

    :raises AnnotationError: the file is something else.
    """
    data = read_bytes(path)
    document = PUBLISHED_SPLIT.parse_json(data, path)
    ids = frozenset(str(image) for name in _LISTS for image in document[name])
    try:
        held = HeldOut(tuple(document["heldout_pairs"]), hashlib.sha256(data).hexdigest())
    except DataError as error:
        raise AnnotationError(error.what, where=path, hint=PUBLISHED_SPLIT.hint) from error
    return held, ids


def shows(captions: Sequence[str], factors: Any, pair: Pair) -> bool:
    """Return whether an image shows a pair.

    The factors of a generated image decide; for other images any caption that names the pair.
    """
    if (things := things_of(factors)) is not None:
        return any(map(pair.is_in, things))
    return any(map(pair.is_named, captions))


def hold_out(
    collection: Collection, held: HeldOut, ids: frozenset[str] | None = None
) -> tuple[Collection, dict[str, dict[str, int]]]:
    """Move the images that show a held-out pair out of training and validation.

    An image may show several pairs. Images of ``ids`` may show none by the rules of
    :mod:`multispace.data.language`.

    :param ids: ids of the images to move; None moves every image that shows a pair
    :returns: the collection, and the images that show each pair (pair -> split -> count)
    """
    pairs = [Pair.parse(text) for text in held.pairs]
    counts: dict[str, dict[str, int]] = {str(pair): {} for pair in pairs}

    def moved(image: CaptionedImage) -> CaptionedImage:
        target = HELD_OUT_SPLITS.get(image.split or "")
        if target is None or (ids is not None and str(image.image_id) not in ids):
            return image
        shown = [str(pair) for pair in pairs if shows(image.captions, image.factors, pair)]
        if ids is None and not shown:
            return image
        for name in shown:
            counts[name][target] = counts[name].get(target, 0) + 1
        return replace(image, split=target)

    return replace(collection, images=tuple(map(moved, collection.images))), counts
