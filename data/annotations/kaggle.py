"""Kaggle's ``captions.txt``: CSV with the header ``image,caption``."""

import csv
from collections.abc import Iterator
from pathlib import Path

from multispace.data.annotations.collection import Collection, Problem
from multispace.data.annotations.flickr import gather, lines_of, wrong_encoding
from multispace.data.cache.keys import is_unicode
from multispace.errors import AnnotationError, shown

HEADER = ["image", "caption"]


def is_kaggle(data: bytes) -> bool:
    """Whether a file's first line is the header of Kaggle's captions."""
    first = data.split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    return [name.strip(' \r"').lower() for name in first.split(",")] == HEADER


def read_kaggle(path: Path, data: bytes, split: str | None) -> Collection:
    """Read a CSV of captions and the split lists beside it; ``split`` names it all if none are.

    Raises AnnotationError.
    """
    problems: list[Problem] = []
    return gather("kaggle", path, data, _rows(path, data, problems), problems, split)


def _rows(path: Path, data: bytes, problems: list[Problem]) -> Iterator[tuple[int, str, str]]:
    # Strict, so that a quote without its partner is an error instead of one endless caption.
    reader = csv.reader((line + "\n" for line in lines_of(data)), strict=True)
    try:
        next(reader)
        for row in reader:
            if not "".join(row).strip():
                continue
            # A comma that was not quoted belongs to the caption, the last column.
            name, *rest = row
            if not rest:
                raise AnnotationError(
                    f"{path}: line {reader.line_num} is {shown(name)}, expected image,caption; "
                    "correct the line or take it out"
                )
            caption = ",".join(rest)
            if is_unicode(name) and is_unicode(caption):
                yield reader.line_num, name.strip(), caption
            else:
                problems.append(wrong_encoding(f"line {reader.line_num}"))
    except csv.Error as error:
        raise AnnotationError(
            f"{path}: line {reader.line_num} is not CSV ({error}); "
            'put captions that hold a quote between quotes and double those within: "a ""b"""'
        ) from error
