"""MS-COCO captions: ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", ...}]}``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multispace.data.annotations.collection import (
    CAPTION_WITHOUT_IMAGE,
    DUPLICATE_CAPTION_ID,
    DUPLICATE_IMAGE_ID,
    DUPLICATE_IMAGE_NAME,
    EMPTY_CAPTION,
    IMAGE_WITHOUT_CAPTIONS,
    UNSAFE_IMAGE_NAME,
    WRONG_ENCODING,
    CaptionedImage,
    Collection,
    Problem,
    fault,
    field,
    id_field,
    split_in_name,
    split_name,
    text_field,
    tidy,
)
from multispace.data.cache.keys import is_unicode, safe_key
from multispace.errors import AnnotationError, shown


def read_coco(path: Path, document: dict[str, Any], digest: str, split: str | None) -> Collection:
    """Read a parsed COCO captions file, which holds one split.

    Its name is ``split``, else ``info.split``, else what the file name tells, else None.
    Raises AnnotationError.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    label = _label(path, document, split, notes)
    # Every id of "images" is in here; None marks an image that was skipped, whose captions go
    # with it instead of being reported one by one.
    keys = _keys(path, document, problems)
    captions = _captions(path, document, keys, problems, notes)
    images = []
    for place, entry in _entries(path, document, "images"):
        key = keys.pop(entry["id"], None)  # popped: a second entry of the same id is passed over
        if key is None:
            continue
        if texts := captions.get(entry["id"]):
            images.append(
                CaptionedImage(key, entry["id"], tuple(texts), label, entry.get("factors"))
            )
        else:
            problems.append(Problem(IMAGE_WITHOUT_CAPTIONS, key, place))
    return Collection(
        "coco",
        path,
        digest,
        tuple(images),
        tuple(problems),
        tuple(notes),
        held_out=_held_out(path, document),
    )


def _held_out(path: Path, document: dict[str, Any]) -> tuple[str, ...]:
    """Return the combinations that `shapes` kept out of training; other files say nothing of it."""
    info = document.get("info")
    pairs = info.get("held_out", []) if isinstance(info, dict) else []
    if not isinstance(pairs, list) or not all(isinstance(pair, str) for pair in pairs):
        raise fault(path, "info.held_out", pairs, "a list of texts")
    return tuple(pairs)


def _label(path: Path, document: dict[str, Any], split: str | None, notes: list[str]) -> str | None:
    info = document.get("info")
    own: str | None = None
    if isinstance(info, dict) and info.get("split") is not None:
        own = split_name(path, text_field(path, "info", info, "split"))
    if split is not None:
        if own not in (None, split):
            notes.append(f"the file calls its split {own}; it was read as {split}, as asked")
        return split
    return own or split_in_name(path)


def _entries(path: Path, document: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    entries = document[name]
    if not isinstance(entries, list):
        raise fault(path, name, entries, "a list")
    return ((f"{name}[{index}]", entry) for index, entry in enumerate(entries))


def _keys(
    path: Path, document: dict[str, Any], problems: list[Problem]
) -> dict[int | str, str | None]:
    keys: dict[int | str, str | None] = {}
    taken: set[str] = set()
    kind: type | None = None
    for place, entry in _entries(path, document, "images"):
        image_id = id_field(path, place, entry, "id")
        name = text_field(path, place, entry, "file_name")
        kind = kind or type(image_id)
        if type(image_id) is not kind:
            raise fault(path, f"{place}.id", image_id, "the type of the first image's id")
        if image_id in keys:
            problems.append(
                Problem(DUPLICATE_IMAGE_ID, shown(image_id), f"{place}; the first was kept")
            )
            continue
        keys[image_id] = None
        try:
            key = safe_key(name)
        except ValueError as error:
            problems.append(Problem(UNSAFE_IMAGE_NAME, shown(name), f"{place} {error}"))
            continue
        if key in taken:
            problems.append(Problem(DUPLICATE_IMAGE_NAME, key, f"{place}; the first was kept"))
            continue
        taken.add(key)
        keys[image_id] = key
    return keys


def _captions(
    path: Path,
    document: dict[str, Any],
    keys: dict[int | str, str | None],
    problems: list[Problem],
    notes: list[str],
) -> dict[int | str, list[str]]:
    captions: dict[int | str, list[str]] = {}
    seen: set[int | str] = set()
    lost = 0
    for place, entry in _entries(path, document, "annotations"):
        image_id = field(path, place, entry, "image_id", object, "")
        if type(image_id) is not int:  # the common case need not be looked at twice
            image_id = id_field(path, place, entry, "image_id")
        if "caption" not in entry:
            raise AnnotationError(
                f"{path}: {place} has no caption; take the captions file of the collection, "
                "not the one of instances or keypoints"
            )
        text = text_field(path, place, entry, "caption")
        if "id" in entry:
            caption_id = id_field(path, place, entry, "id")
            if caption_id in seen:
                problems.append(
                    Problem(DUPLICATE_CAPTION_ID, shown(caption_id), f"{place}; the first was kept")
                )
                continue
            seen.add(caption_id)
        if image_id not in keys:
            problems.append(
                Problem(CAPTION_WITHOUT_IMAGE, place, f"no image has the id {shown(image_id)}")
            )
            continue
        key = keys[image_id]
        if key is None:
            lost += 1
        elif not is_unicode(text):
            problems.append(Problem(WRONG_ENCODING, place, "the caption holds a lone surrogate"))
        elif caption := tidy(text):
            captions.setdefault(image_id, []).append(caption)
        else:
            problems.append(Problem(EMPTY_CAPTION, place, f"of image {key}"))
    if lost:
        notes.append(f"{lost} captions went with the images that were skipped")
    return captions
