"""Names of splits, in annotation files and in the names of files."""

import re
from pathlib import Path

from multispace.errors import AnnotationError, shown

SPLITS = ("train", "val", "test")
SYNONYMS = {
    "training": "train",
    "dev": "val",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SEVERAL = re.compile(rf"(?:{'|'.join((*SPLITS, *SYNONYMS))}){{2,}}")


def canonical_split(name: str) -> str:
    """Return "train", "val" or "test" for a synonym such as "TRAIN" or "dev", else the name."""
    lower = name.lower()
    lower = SYNONYMS.get(lower, lower)
    return lower if lower in SPLITS else name


def split_name(source: Path, name: str) -> str:
    """Return the canonical name of a split.

    The name becomes a file name, so only letters, digits, ".", "_" and "-" are allowed.

    :param source: file or option that gives the name, for errors
    :raises AnnotationError: the name has other characters.
    """
    if not _NAME.fullmatch(name):
        raise AnnotationError(
            f"split name {shown(name)} cannot be a file name",
            where=source,
            hint="use letters, digits, '.', '_' and '-'",
        )
    return canonical_split(name)


def split_in_name(path: Path) -> str | None:
    """Return the split that a file's name contains: "captions_train2014.json" gives "train".

    Only whole words count: "latest.txt" is no test split.

    :returns: None if the name contains no split, or several
    """
    found = splits_in_name(path)
    return found.pop() if len(found) == 1 else None


def splits_in_name(path: Path) -> set[str]:
    """Return all splits that a file's name contains; "trainval.txt" gives "train" and "val"."""
    found: set[str] = set()
    for word in _WORD.findall(path.stem):
        word = word.lower()
        if _SEVERAL.fullmatch(word):
            found.update(split for split in SPLITS if split in word)
        found.add(canonical_split(word))
    return found.intersection(SPLITS)
