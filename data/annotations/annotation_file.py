"""The content of an annotation file, decoded once for all readers."""

import codecs
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from multispace.data.annotations.json_members import read_members
from multispace.data.documents import DocumentFormat
from multispace.data.files import read_file
from multispace.errors import AnnotationError, DataError

MAX_BYTES = 2 << 30  # of an annotation file; those of MS-COCO have 50 MB
LONG_LISTS = frozenset(("images", "annotations"))  # of the formats COCO and Karpathy
JSON = DocumentFormat(
    error=AnnotationError,
    hint="the file may be truncated or written by hand: download or export it again",
    max_bytes=MAX_BYTES,
    max_integer=1 << 256,  # ids may be hashes
)


class AnnotationFile:
    """An annotation file.

    :param data: the bytes of the file; they are kept until its document is read
    :raises AnnotationError: the file is UTF-16.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise AnnotationError("is UTF-16, expected UTF-8", where=path, hint="save it as UTF-8")
        self.path = path
        self.sha256 = hashlib.sha256(data)  # of the bytes
        start = data[:1024].removeprefix(codecs.BOM_UTF8).lstrip()
        self.is_json = start.startswith((b"{", b"["))  # as far as its first bytes tell
        self.data = data

    @property
    def is_empty(self) -> bool:
        """Whether the file has nothing but white space."""
        return not self.is_json and not self.data.strip()

    @cached_property
    def document(self) -> Any:
        """The content of a JSON file; a list of the lines' values for JSON lines.

        The lists of the large formats are decoded entry by entry.

        :raises AnnotationError: the file is not UTF-8, not complete JSON, or nested too deeply.
        """
        data, self.data = self.data, b""  # the largest files shall not be in memory twice
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise AnnotationError(
                f"byte {error.start} is not UTF-8", where=self.path, hint="save the file as UTF-8"
            ) from error
        del data
        try:
            members = read_members(text, LONG_LISTS, lambda part: JSON.check(part, self.path))
            return JSON.parse_json(text, self.path) if members is None else members
        except AnnotationError:
            if (values := _json_lines(text)) is not None:
                return values
            raise

    @cached_property
    def encoding(self) -> str:
        """The encoding of a text file: UTF-8, or Windows-1252 if no other line than ASCII is UTF-8.

        Windows-1252 is Latin-1 with quotation marks and dashes in place of control characters.
        """
        special = [line for line in self.data.split(b"\n") if not line.isascii()]
        if any(_decodes(line, "utf-8-sig") for line in special) or not special:
            return "utf-8-sig"
        return "cp1252" if all(_decodes(line, "cp1252") for line in special) else "utf-8-sig"

    @cached_property
    def lines(self) -> list[str]:
        """The lines of a text file; a byte that is not UTF-8 becomes a lone surrogate."""
        text = self.data.decode(self.encoding, "surrogateescape")
        return [line.removesuffix("\r") for line in text.split("\n")]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the encoding of a text file."""
        if self.encoding == "utf-8-sig":
            return ()
        return ("the file is not UTF-8; it was read as Latin-1 (Windows-1252)",)


def read_annotation_file(path: Path) -> AnnotationFile:
    """Read an annotation file.

    :raises AnnotationError: the file cannot be read, or is UTF-16.
    """
    return AnnotationFile(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    :raises AnnotationError: the file cannot be read.
    """
    if path.is_dir():
        raise AnnotationError("is a folder", where=path, hint="name the annotation file in it")
    try:
        return read_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise AnnotationError("no such file", where=path, hint="check the path") from None
    except DataError as error:
        raise AnnotationError(error.what, where=path, hint="check the path") from error
    except OSError as error:
        raise AnnotationError(
            f"cannot be read ({error.strerror})", where=path, hint="check its permissions"
        ) from error


def _json_lines(text: str) -> list[Any] | None:
    """Return the values of JSON lines, or None if a line is not JSON."""
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        return [JSON.parse_json(line, "") for line in lines]
    except AnnotationError:
        return None


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
