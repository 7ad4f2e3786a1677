"""Readers of captioned image collections, one module a format, told apart by content."""

import codecs
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from multispace.data.annotations.coco import read_coco
from multispace.data.annotations.collection import (
    CaptionedImage,
    Collection,
    Problem,
    read_bytes,
    split_name,
)
from multispace.data.annotations.flickr import is_flickr, read_flickr
from multispace.data.annotations.kaggle import is_kaggle, read_kaggle
from multispace.data.annotations.karpathy import read_karpathy
from multispace.errors import AnnotationError

__all__ = ["CaptionedImage", "Collection", "Problem", "read_collection"]

EXPECTED = (
    "expected COCO captions JSON (images, annotations), Karpathy JSON (images with sentences), "
    "a Flickr token file (NAME#N<TAB>caption) or a CSV with the header image,caption"
)


def read_collection(path: Path, split: str | None = None) -> Collection:
    """Read an annotation file of any known format.

    Of a file that carries its splits ``split`` selects one; to a file that does not it gives
    the name of the one split that it is. Single bad entries are skipped and recorded in
    ``problems``. Raises AnnotationError where the file as a whole cannot be read, or has no
    such split.
    """
    if split is not None:
        split = split_name(path, split)
    data = read_bytes(path)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise AnnotationError(f"{path}: is UTF-16, expected UTF-8; save it as UTF-8")
    start = data[:1024].removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith((b"{", b"[")):
        collection = _read_json(path, data, split)
    elif is_kaggle(data):
        collection = read_kaggle(path, data, split)
    elif is_flickr(data):
        collection = read_flickr(path, data, split)
    else:
        content = "unknown format" if data.strip() else "empty file"
        raise AnnotationError(f"{path}: {content}; {EXPECTED}")
    if split is None:
        return collection
    images = collection.split(split)
    if not images:
        raise AnnotationError(
            f"{path}: no split {split!r}; choose from {', '.join(collection.splits)}"
        )
    return replace(collection, images=images)


def _read_json(path: Path, data: bytes, split: str | None) -> Collection:
    document = _parse(path, data)
    digest = hashlib.sha256(data).hexdigest()
    if isinstance(document, dict) and "images" in document:
        images = document["images"]
        if "annotations" in document:
            return read_coco(path, document, digest, split)
        if isinstance(images, list) and any(
            isinstance(image, dict) and "sentences" in image for image in images
        ):
            return read_karpathy(path, document, digest)
    there = ", ".join(list(document)[:5]) if isinstance(document, dict) else "a list"
    raise AnnotationError(f"{path}: unknown JSON layout ({there!r}); {EXPECTED}")


def _parse(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from error
    except RecursionError:
        raise AnnotationError(f"{path}: JSON nested too deeply; {EXPECTED}") from None
    except ValueError as error:
        raise AnnotationError(
            f"{path}: not whole JSON ({error}); the file may be cut short: fetch or export it again"
        ) from error
