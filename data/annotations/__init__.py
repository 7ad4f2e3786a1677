"""Readers of captioned image collections.

Each format has a module that is a :class:`Reader`. To add a format, write such a module and add
it to ``READERS``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from multispace.data.annotations import coco, delimited, flickr, karpathy, records
from multispace.data.annotations.annotation_file import AnnotationFile, read_annotation_file
from multispace.data.annotations.collection import CaptionedImage, Collection, Problem
from multispace.data.annotations.random_splits import with_random_splits
from multispace.data.annotations.split_lists import (
    SplitList,
    apply_split_lists,
    find_split_lists,
    read_split_lists,
    without_captions_of_no_image,
)
from multispace.data.annotations.split_names import split_in_name, split_name
from multispace.errors import AnnotationError

__all__ = ["CaptionedImage", "Collection", "Problem", "read_collection"]


class Reader(Protocol):
    """A module that reads one format."""

    LAYOUT: str  # a short description of the format

    def matches(self, file: AnnotationFile) -> bool:
        """Return whether a file has this format."""

    def read(self, file: AnnotationFile, split: str | None) -> Collection:
        """Read a file.

        :param split: name for the split of a format whose files hold one split
        """


READERS: tuple[Reader, ...] = (coco, karpathy, records, delimited, flickr)


def read_collection(
    path: Path,
    split: str | None = None,
    *,
    split_lists: Mapping[str, Path] | None = None,
    random_splits: Sequence[float] | None = None,
    seed: int = 0,
) -> Collection:
    """Read an annotation file; its format is detected automatically.

    Single entries with errors are skipped and recorded in ``problems``. If neither the file nor
    ``split_lists`` name splits, split lists in the folder of the file are used.

    :param split: the split to select if the images have splits, else the split of all images
    :param split_lists: split -> file that lists its images
    :param random_splits: percentages of train, val and test to assign images at random
    :param seed: of the random splits
    :raises AnnotationError: the file as a whole cannot be read, or has no such split.
    """
    if split is not None:
        split = split_name(Path("--split"), split)
    file = read_annotation_file(path)
    reader = next((reader for reader in READERS if reader.matches(file)), None)
    if reader is None:
        raise _unknown(file)
    collection = reader.read(file, None if split_lists else split)
    collection, lists = _with_lists(collection, split_lists or {}, random_splits is not None)
    digest = file.sha256.copy()
    for each in lists:
        digest.update(each.file.data)
    collection = replace(collection, digest=digest.hexdigest())
    if random_splits is not None:
        collection = with_random_splits(collection, random_splits, seed)
    return _selected(collection, split)


def _with_lists(
    collection: Collection, files: Mapping[str, Path], random_splits: bool
) -> tuple[Collection, list[SplitList]]:
    """Assign splits from lists; return the lists too."""
    lists = read_split_lists(files)
    notes: list[str] = []
    if not collection.splits and not lists and not random_splits:
        lists, notes = find_split_lists(collection)
    collection = replace(collection, notes=(*collection.notes, *notes))
    if lists:
        return apply_split_lists(collection, lists), lists
    return without_captions_of_no_image(collection), lists


def _selected(collection: Collection, split: str | None) -> Collection:
    """Return the images of one split, which images without a split belong to."""
    if any(image.split is None for image in collection.images):
        label = split or split_in_name(collection.source)
        images = tuple(replace(image, split=image.split or label) for image in collection.images)
        collection = replace(collection, images=images)
    if split is None:
        return collection
    images = collection.split(split)
    if not images:
        raise AnnotationError(
            f"no split {split!r}",
            where=collection.source,
            hint=f"choose from {', '.join(collection.splits)}",
        )
    return replace(collection, images=images)


def _unknown(file: AnnotationFile) -> AnnotationError:
    expected = "expected " + ", ".join(reader.LAYOUT for reader in READERS)
    if file.is_empty:
        what = "empty file"
    elif file.is_json:
        document = file.document
        names = ", ".join(list(document)[:5]) if isinstance(document, dict) else "a list"
        what = f"unknown JSON layout ({names!r})"
    else:
        what = "unknown format"
    return AnnotationError(what, where=file.path, hint=expected)
