"""Split lists: text files that name the images of a split, one on each line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from multispace.data.annotations.annotation_file import AnnotationFile, read_annotation_file
from multispace.data.annotations.collection import (
    CAPTION_WITHOUT_IMAGE,
    IMAGE_IN_TWO_SPLITS,
    IMAGE_WITHOUT_CAPTIONS,
    WRONG_ENCODING,
    CaptionedImage,
    Collection,
    Problem,
)
from multispace.data.annotations.image_index import ImageIndex
from multispace.data.annotations.split_names import SPLITS, split_name, splits_in_name
from multispace.data.cache.format.keys import is_unicode
from multispace.data.images import has_image_suffix
from multispace.errors import AnnotationError, shown

LIST_SUFFIXES = frozenset(("", ".txt", ".lst", ".list"))


@dataclass(frozen=True)
class SplitList:
    """A file that lists the images of a split."""

    split: str
    file: AnnotationFile

    @property
    def names(self) -> list[tuple[int, str]]:
        """The number and the text of each line that is not empty."""
        lines = enumerate(self.file.lines, start=1)
        return [(number, name) for number, line in lines if (name := line.strip())]


def read_split_lists(files: Mapping[str, Path]) -> list[SplitList]:
    """Read the given split lists.

    :param files: split -> file
    :raises AnnotationError: a file cannot be read, or a split has no valid name.
    """
    return [
        SplitList(split_name(Path("--split-list"), split), read_annotation_file(path))
        for split, path in files.items()
    ]


def find_split_lists(collection: Collection) -> tuple[list[SplitList], list[str]]:
    """Find the split lists in the folder of an annotation file.

    These are text files of which most lines name images, and whose names contain "train", "val",
    "dev" or "test" as a word: ``Flickr_8k.devImages.txt``, but not ``devices.txt``.

    :returns: the lists, train first and test last, and notes about files that were not used
    :raises AnnotationError: the folder cannot be searched.
    """
    folder = collection.source.parent
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise AnnotationError(
            f"cannot be searched for split lists ({error.strerror})",
            where=folder,
            hint="check its permissions",
        ) from error
    index = ImageIndex(collection.images)
    found, notes = [], []
    for path in files:
        splits = splits_in_name(path)
        if not splits or path.suffix.lower() not in LIST_SUFFIXES or not path.is_file():
            continue
        if path.samefile(collection.source):
            continue
        split_list = SplitList(min(splits), read_annotation_file(path))
        if not _lists_images(split_list, index):
            continue
        if len(splits) > 1:
            notes.append(f"{path.name} lists images, but names several splits; it was not used")
            continue
        found.append(split_list)
    return sorted(found, key=lambda item: (SPLITS.index(item.split), item.file.path.name)), notes


def apply_split_lists(collection: Collection, lists: Sequence[SplitList]) -> Collection:
    """Return the listed images of a collection with their splits.

    Images that are in no list are left out, and counted in the notes. The notes also say which
    file was used for which split.
    """
    index = ImageIndex(collection.images)
    problems: list[Problem] = []
    notes = []
    assigned: dict[str, str] = {}
    for each in lists:
        count = _assign(each, index, assigned, problems)
        notes.append(f"split {each.split!r}: {count} images, listed in {each.file.path.name}")
    listed = [image for image in collection.images if image.key in assigned]
    others = [image for image in collection.images if image.key not in assigned]
    no_images = _without_image(others)
    problems += no_images
    if unlisted := len(others) - len(no_images):
        notes.append(f"{unlisted} captioned images are in no split list and were left out")
    return replace(
        collection,
        images=tuple(replace(image, split=assigned[image.key]) for image in listed),
        problems=(*collection.problems, *problems),
        notes=(*collection.notes, *notes),
    )


def without_captions_of_no_image(collection: Collection) -> Collection:
    """Leave out the captions of names that are not names of image files, and list them."""
    problems = _without_image(collection.images)
    names = {problem.subject for problem in problems}
    return replace(
        collection,
        images=tuple(image for image in collection.images if image.key not in names),
        problems=(*collection.problems, *problems),
    )


def _without_image(images: Sequence[CaptionedImage]) -> list[Problem]:
    return [
        Problem(
            CAPTION_WITHOUT_IMAGE,
            image.key,
            f"{len(image.captions)} captions of a name that is not an image file's",
        )
        for image in images
        if image.image_id == image.key and not has_image_suffix(image.key)
    ]


def _find(index: ImageIndex, name: str) -> CaptionedImage | None:
    """Return the image that a line names by its file name, in part, or by its id."""
    return index.by_name(name) or index.by_id(name)


def _lists_images(split_list: SplitList, index: ImageIndex) -> bool:
    """Return whether most lines name images."""
    names = split_list.names
    images = sum(
        _find(index, name) is not None or (has_image_suffix(name) and "\t" not in name)
        for _, name in names
    )
    return 2 * images > len(names)


def _assign(
    split_list: SplitList, index: ImageIndex, assigned: dict[str, str], problems: list[Problem]
) -> int:
    """Assign the images of a list to its split, and return their number."""
    count = 0
    for number, name in split_list.names:
        place = f"{split_list.file.path.name} line {number}"
        if not is_unicode(name):
            problems.append(Problem(WRONG_ENCODING, place, "not UTF-8; the line was skipped"))
            continue
        image = _find(index, name)
        if image is None:
            problems.append(Problem(IMAGE_WITHOUT_CAPTIONS, shown(name), place))
        elif assigned.setdefault(image.key, split_list.split) == split_list.split:
            count += 1
        else:
            detail = f"{place}; it stays in {assigned[image.key]}"
            problems.append(Problem(IMAGE_IN_TWO_SPLITS, image.key, detail))
    return count
