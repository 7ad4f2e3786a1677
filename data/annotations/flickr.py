"""Flickr8k and Flickr30k: a token file, ``NAME#N<TAB>caption``, and the split lists beside it."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from multispace.data.annotations.collection import (
    CAPTION_WITHOUT_IMAGE,
    DUPLICATE_CAPTION_ID,
    EMPTY_CAPTION,
    IMAGE_IN_TWO_SPLITS,
    IMAGE_WITHOUT_CAPTIONS,
    SPLITS,
    SYNONYMS,
    UNSAFE_IMAGE_NAME,
    WRONG_ENCODING,
    CaptionedImage,
    Collection,
    Problem,
    read_bytes,
    split_in_name,
    tidy,
)
from multispace.data.cache.keys import is_unicode, safe_key
from multispace.errors import AnnotationError, shown

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
)
LIST_SUFFIXES = frozenset(("", ".txt", ".lst", ".list"))

_LINE = re.compile(r"(?P<id>(?P<name>[^\t]+)#\d+)\t(?P<caption>.*)", re.DOTALL)
_LINE_IN_BYTES = re.compile(rb"^[^\t\r\n]+#\d+\t", re.MULTILINE)


def is_flickr(data: bytes) -> bool:
    """Whether a line near the start of a file is one of a token file."""
    return _LINE_IN_BYTES.search(data, 0, 65536) is not None


def read_flickr(path: Path, data: bytes, split: str | None) -> Collection:
    """Read a token file and the split lists beside it; ``split`` names it all if there are none.

    Raises AnnotationError.
    """
    problems: list[Problem] = []
    return gather("flickr", path, data, _rows(path, data, problems), problems, split)


def lines_of(data: bytes) -> list[str]:
    """Decode UTF-8 line by line; a byte that is not UTF-8 becomes a lone surrogate."""
    text = data.decode("utf-8-sig", "surrogateescape")
    return [line.removesuffix("\r") for line in text.split("\n")]


def wrong_encoding(place: str) -> Problem:
    """Return the problem of a line that is not UTF-8."""
    return Problem(WRONG_ENCODING, place, "not UTF-8; the line was skipped")


def gather(
    format: str,
    path: Path,
    data: bytes,
    rows: Iterable[tuple[int, str, str]],
    problems: list[Problem],
    split: str | None,
) -> Collection:
    """Make a collection of ``(line, name, caption)`` rows and the split lists beside the file.

    Where there are lists, images in none of them are left out and counted in the notes.
    Raises AnnotationError.
    """
    captions: dict[str, list[str]] = {}
    keys: dict[str, str | None] = {}
    for line, name, text in rows:
        if name not in keys:
            keys[name] = _key(line, name, problems)
        if (known := keys[name]) is None:
            continue
        texts = captions.setdefault(known, [])
        if caption := tidy(text):
            texts.append(caption)
        else:
            problems.append(Problem(EMPTY_CAPTION, f"line {line}", f"of image {known}"))

    digest = hashlib.sha256(data)
    notes: list[str] = []
    listed: dict[str, str] = {}
    lists = _split_lists(path, captions, notes)
    for label, source, content in lists:
        digest.update(content)
        _assign(label, source, content, captions, listed, problems)

    images = []
    unlisted = 0
    label_of_all = split or split_in_name(path)  # used where there are no lists
    for key, texts in captions.items():
        if not texts:
            problems.append(Problem(IMAGE_WITHOUT_CAPTIONS, key, "all its captions are empty"))
        elif key not in listed and not _has_image_suffix(key):
            detail = f"{len(texts)} captions of what is no image file name"
            problems.append(Problem(CAPTION_WITHOUT_IMAGE, key, detail))
        elif lists and key not in listed:
            unlisted += 1
        else:
            images.append(CaptionedImage(key, key, tuple(texts), listed.get(key, label_of_all)))
    if unlisted:
        notes.append(f"{unlisted} captioned images are in no split list and were left out")
    return Collection(
        format, path, digest.hexdigest(), tuple(images), tuple(problems), tuple(notes)
    )


def _rows(path: Path, data: bytes, problems: list[Problem]) -> Iterator[tuple[int, str, str]]:
    seen: set[str] = set()
    for number, line in enumerate(lines_of(data), start=1):
        if not line.strip():
            continue
        if not is_unicode(line):
            problems.append(wrong_encoding(f"line {number}"))
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise AnnotationError(
                f"{path}: line {number} is {shown(line)}, expected NAME#N<TAB>caption; "
                "correct the line or take it out"
            )
        if match["id"] in seen:
            detail = f"line {number}; the first was kept"
            problems.append(Problem(DUPLICATE_CAPTION_ID, match["id"], detail))
            continue
        seen.add(match["id"])
        yield number, match["name"], match["caption"]


def _key(line: int, name: str, problems: list[Problem]) -> str | None:
    try:
        return safe_key(name)
    except ValueError as error:
        problems.append(Problem(UNSAFE_IMAGE_NAME, shown(name), f"line {line} {error}"))
        return None


def _has_image_suffix(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _resolve(name: str, captions: dict[str, list[str]], stems: dict[str, str]) -> str | None:
    return name if name in captions else stems.get(name)


def _stems(captions: dict[str, list[str]]) -> dict[str, str]:
    # Flickr30k's lists name images without their extension.
    return {key.rpartition(".")[0]: key for key in reversed(captions) if _has_image_suffix(key)}


def _split_lists(
    path: Path, captions: dict[str, list[str]], notes: list[str]
) -> list[tuple[str, Path, bytes]]:
    """Return ``(split, file, bytes)`` of the lists beside ``path``: train first, test last."""
    lists = []
    stems = _stems(captions)
    try:
        files = sorted(path.parent.iterdir())
    except OSError as error:
        raise AnnotationError(
            f"{path.parent}: cannot be searched for lists ({error.strerror}); check its rights"
        ) from error
    for file in files:
        labels = {SYNONYMS.get(s, s) for s in (*SPLITS, *SYNONYMS) if s in file.name.lower()}
        if not labels or file.suffix.lower() not in LIST_SUFFIXES or not file.is_file():
            continue
        if file.samefile(path):
            continue
        content = read_bytes(file)
        names = [line.strip() for line in lines_of(content) if line.strip()]
        named = sum(
            _resolve(name, captions, stems) is not None
            or (_has_image_suffix(name) and "\t" not in name)
            for name in names
        )
        if 2 * named <= len(names):
            continue
        if len(labels) > 1:
            notes.append(f"{file.name} lists images, but its name tells several splits; not used")
            continue
        lists.append((labels.pop(), file, content))
    return sorted(lists, key=lambda item: (SPLITS.index(item[0]), item[1].name))


def _assign(
    label: str,
    source: Path,
    content: bytes,
    captions: dict[str, list[str]],
    listed: dict[str, str],
    problems: list[Problem],
) -> None:
    stems = _stems(captions)
    for number, line in enumerate(lines_of(content), start=1):
        name = line.strip()
        place = f"{source.name} line {number}"
        if not name:
            continue
        if not is_unicode(name):
            problems.append(wrong_encoding(place))
            continue
        key = _resolve(name, captions, stems)
        if key is None:
            problems.append(Problem(IMAGE_WITHOUT_CAPTIONS, shown(name), place))
        elif listed.setdefault(key, label) != label:
            detail = f"{place}; it stays in {listed[key]}"
            problems.append(Problem(IMAGE_IN_TWO_SPLITS, key, detail))
