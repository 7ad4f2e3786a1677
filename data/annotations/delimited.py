"""Tables of captions as text: comma, semicolon, tab or ``|`` between columns, with a header.

Examples are Kaggle's ``captions.txt`` (image,caption), Flickr30k's ``results.csv``
(``image_name| comment_number| comment``), ``metadata.csv`` of Hugging Face (file_name,text), and
tables with an index or a split column.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from multispace.data.annotations.annotation_file import AnnotationFile
from multispace.data.annotations.builder import CollectionBuilder
from multispace.data.annotations.collection import (
    MALFORMED_LINE,
    WRONG_ENCODING,
    Collection,
)
from multispace.data.annotations.split_names import split_name
from multispace.data.cache.format.keys import is_unicode
from multispace.data.images import has_image_suffix
from multispace.errors import AnnotationError, shown

LAYOUT = "a table with a header such as image,caption"

DELIMITERS = ("\t", "|", ";", ",")
IMAGE_COLUMNS = ("file_name", "filename", "image_name", "image_file", "image", "file", "img")
CAPTION_COLUMNS = ("caption", "comment", "text", "sentence", "description")
SPLIT_COLUMN = "split"
MAX_CAPTION_LINES = 50  # of one quoted caption


@dataclass(frozen=True)
class _Columns:
    """The delimiter of a table, its number of columns, and the places of those that are used."""

    format: str
    delimiter: str
    count: int
    image: int
    caption: int
    split: int | None

    @cached_property
    def quoted(self) -> re.Pattern[str]:
        """A field between quotation marks, in which a doubled mark stands for one."""
        return re.compile(rf'"((?:[^"]|"")*)"[ ]*(?={re.escape(self.delimiter)}|\Z)')


@dataclass(frozen=True)
class _Row:
    """The values of a record that are used; ``split`` is empty without such a column."""

    name: str
    caption: str
    split: str


@dataclass(frozen=True)
class _Fields:
    """The fields of a record, and where they are in its text.

    :param open_quote: whether a quotation mark that starts a field has no partner
    """

    values: list[str]
    starts: list[int]
    ends: list[int]
    open_quote: bool


def matches(file: AnnotationFile) -> bool:
    """Return whether the first line of a file is the header of such a table."""
    return not file.is_json and _columns(file.lines[0]) is not None


def read(file: AnnotationFile, split: str | None) -> Collection:
    """Read a table of captions.

    :param split: unused; a split column or split lists name the splits
    :raises AnnotationError: most lines are malformed, or no image has a caption.
    """
    columns = _columns(file.lines[0])
    assert columns is not None, "the header was not checked"
    builder = CollectionBuilder(columns.format, file.path, file.notes)
    malformed = rows = 0
    for number, line, row in _rows(file.lines, columns):
        place = f"line {number}"
        if row is None:
            malformed += 1
            builder.skip(MALFORMED_LINE, place, shown(line))
        elif not is_unicode(line):
            builder.skip(WRONG_ENCODING, place, "not UTF-8; the line was skipped")
        else:
            rows += 1
            label = split_name(file.path, row.split) if row.split else None
            builder.row(row.name, row.caption, place, label)
    if malformed > rows:
        raise AnnotationError(
            f"{malformed} lines do not have the columns of the header, the first is "
            f"{builder.problems[0].subject}",
            where=file.path,
            hint="check the delimiter, and put captions with quotation marks between quotation "
            'marks, with those inside doubled: "a ""b"""',
        )
    return builder.build()


def _columns(header: str) -> _Columns | None:
    for delimiter in DELIMITERS:
        names = [name.strip(' "').lower() for name in header.split(delimiter)]
        image = next((names.index(name) for name in IMAGE_COLUMNS if name in names), None)
        caption = next((names.index(name) for name in CAPTION_COLUMNS if name in names), None)
        if image is not None and caption is not None:
            split = names.index(SPLIT_COLUMN) if SPLIT_COLUMN in names else None
            kaggle = delimiter == "," and names == ["image", "caption"]
            format = "kaggle" if kaggle else "table"
            return _Columns(format, delimiter, len(names), image, caption, split)
    return None


def _rows(lines: list[str], columns: _Columns) -> Iterator[tuple[int, str, _Row | None]]:
    """Yield the number of the last line, the text and the values of each record.

    The values are None if the record is malformed.
    """
    start = 1
    while start < len(lines):
        text, count = _record(lines, start, columns)
        start += count
        if text.strip():
            yield start, text, _row(text, columns)


def _record(lines: list[str], start: int, columns: _Columns) -> tuple[str, int]:
    """Return the text of a record, and its number of lines.

    A quoted caption may have several lines. A quotation mark without its partner costs only its
    own line: a record ends before a line that starts another one.
    """
    text = lines[start]
    if not _fields(text, columns).open_quote:
        return text, 1
    joined = text
    for count, line in enumerate(lines[start + 1 : start + MAX_CAPTION_LINES], start=2):
        values = _fields(line, columns).values
        if len(values) > columns.image and has_image_suffix(values[columns.image].strip()):
            break
        joined += "\n" + line
        if not _fields(joined, columns).open_quote:
            return joined, count
    return text, 1


def _row(text: str, columns: _Columns) -> _Row | None:
    """Return the values of a record.

    A delimiter that was not quoted belongs to the caption.
    """
    fields = _fields(text, columns)
    extra = len(fields.values) - columns.count
    if fields.open_quote or extra < 0:
        return None
    values = list(fields.values)
    last = columns.caption + extra
    if extra:
        caption = text[fields.starts[columns.caption] : fields.ends[last]]
        values[columns.caption : last + 1] = [caption]
    split = "" if columns.split is None else values[columns.split].strip()
    return _Row(values[columns.image].strip(), values[columns.caption], split)


def _fields(text: str, columns: _Columns) -> _Fields:
    """Split a record at its delimiters.

    A field that starts with a quotation mark is a quoted field only if it also ends with one;
    otherwise the mark is part of the text.
    """
    values, starts, ends = [], [], []
    open_quote = False
    start = 0
    while True:
        quoted = columns.quoted.match(text, start)
        if quoted:
            value, end = quoted[1].replace('""', '"'), quoted.end()
        else:
            end = text.find(columns.delimiter, start)
            end = len(text) if end < 0 else end
            value = text[start:end]
            open_quote |= value.startswith('"') and '"' not in text[start + 1 :].replace('""', "")
        values.append(value)
        starts.append(start)
        ends.append(end)
        if end == len(text):
            return _Fields(values, starts, ends, open_quote)
        start = end + len(columns.delimiter)
