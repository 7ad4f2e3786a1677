"""Karpathy's JSON: ``{"images": [{"filename", "split", "imgid", "sentences": [{"raw"}]}]}``."""

from pathlib import Path
from typing import Any

from multispace.data.annotations.collection import (
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
    split_name,
    text_field,
    tidy,
)
from multispace.data.cache.keys import is_unicode, safe_key
from multispace.errors import shown


def read_karpathy(path: Path, document: dict[str, Any], digest: str) -> Collection:
    """Read a parsed Karpathy file with its splits; "restval" joins "train".

    Raises AnnotationError.
    """
    problems: list[Problem] = []
    images: list[CaptionedImage] = []
    identifiers: set[int | str] = set()
    keys: set[str] = set()
    sentence_ids: set[int | str] = set()
    rest = 0
    for index, entry in enumerate(document["images"]):
        place = f"images[{index}]"
        name = text_field(path, place, entry, "filename")
        if entry.get("filepath"):
            name = f"{text_field(path, place, entry, 'filepath')}/{name}"
        which = "cocoid" if "cocoid" in entry else "imgid"
        image_id = id_field(path, place, entry, which)
        if images and type(image_id) is not type(images[0].image_id):
            raise fault(path, f"{place}.{which}", image_id, "the type of the first image's id")
        split = split_name(path, text_field(path, place, entry, "split"))
        if image_id in identifiers:
            problems.append(
                Problem(DUPLICATE_IMAGE_ID, shown(image_id), f"{place}; the first was kept")
            )
            continue
        identifiers.add(image_id)
        try:
            key = safe_key(name)
        except ValueError as error:
            problems.append(Problem(UNSAFE_IMAGE_NAME, shown(name), f"{place} {error}"))
            continue
        if key in keys:
            problems.append(Problem(DUPLICATE_IMAGE_NAME, key, f"{place}; the first was kept"))
            continue
        keys.add(key)
        captions = _captions(path, place, entry, sentence_ids, problems)
        if not captions:
            problems.append(Problem(IMAGE_WITHOUT_CAPTIONS, key, place))
            continue
        if split == "restval":
            split = "train"
            rest += 1
        images.append(CaptionedImage(key, image_id, captions, split))
    notes = (f"{rest} restval images joined train",) if rest else ()
    return Collection("karpathy", path, digest, tuple(images), tuple(problems), notes)


def _captions(
    path: Path, place: str, image: Any, seen: set[int | str], problems: list[Problem]
) -> tuple[str, ...]:
    captions = []
    for index, entry in enumerate(field(path, place, image, "sentences", list, "a list")):
        inner = f"{place}.sentences[{index}]"
        text = text_field(path, inner, entry, "raw")
        if "sentid" in entry:
            sentence_id = id_field(path, inner, entry, "sentid")
            if sentence_id in seen:
                problems.append(
                    Problem(
                        DUPLICATE_CAPTION_ID, shown(sentence_id), f"{inner}; the first was kept"
                    )
                )
                continue
            seen.add(sentence_id)
        if not is_unicode(text):
            problems.append(Problem(WRONG_ENCODING, inner, "the caption holds a lone surrogate"))
        elif caption := tidy(text):
            captions.append(caption)
        else:
            problems.append(Problem(EMPTY_CAPTION, inner, "nothing but white space"))
    return tuple(captions)
