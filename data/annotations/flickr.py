"""The token file of Flickr8k and Flickr30k: ``NAME#N<TAB>caption``.

Translations of Flickr8k write ``NAME#LANGUAGE#N caption``.
"""

import re

from multispace.data.annotations.annotation_file import AnnotationFile
from multispace.data.annotations.builder import CollectionBuilder
from multispace.data.annotations.collection import WRONG_ENCODING, Collection
from multispace.data.cache.format.keys import is_unicode
from multispace.errors import AnnotationError, shown

LAYOUT = "a Flickr token file (NAME#N<TAB>caption)"

_NUMBER = r"(?:#[A-Za-z]\w*)?#(?P<id>\d+)"
_TAB = re.compile(rf"(?P<name>[^\t]+?){_NUMBER}\t(?P<caption>.*)", re.DOTALL)
_BLANK = re.compile(rf"(?P<name>[^\t ]+\.\w+){_NUMBER} (?P<caption>.*)", re.DOTALL)
HEAD = 100  # lines at the start that are searched for one of this format


def matches(file: AnnotationFile) -> bool:
    """Return whether a line near the start of a file is one of a token file."""
    if file.is_json:
        return False
    return any(_TAB.fullmatch(line) or _BLANK.fullmatch(line) for line in file.lines[:HEAD])


def read(file: AnnotationFile, split: str | None) -> Collection:
    """Read a token file.

    :param split: unused; split lists name the splits
    :raises AnnotationError: the file as a whole cannot be read.
    """
    builder = CollectionBuilder("flickr", file.path, file.notes)
    for number, line in enumerate(file.lines, start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        if not is_unicode(line):
            builder.skip(WRONG_ENCODING, place, "not UTF-8; the line was skipped")
            continue
        match = _TAB.fullmatch(line) or _BLANK.fullmatch(line)
        if match is None:
            raise AnnotationError(
                f"{place} is {shown(line)}, expected NAME#N<TAB>caption",
                where=file.path,
                hint="correct the line, or remove it",
            )
        builder.row(match["name"], match["caption"], place, caption_id=match["id"])
    return builder.build()
