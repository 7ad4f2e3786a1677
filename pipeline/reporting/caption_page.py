"""A page with images and their captions, written image by image."""

from collections.abc import Iterable, Sequence
from typing import IO, Any

from multispace.pipeline.reporting.page_template import page_template

SIDE = 320  # longer side of a thumbnail, in pixels


class CaptionPage:
    """Writes one self-contained HTML page, whose images are part of it.

    It holds no more than one entry in memory.

    :param file: a binary file
    """

    def __init__(self, file: IO[bytes], title: str, subtitle: str) -> None:
        self._file = file
        template: Any = page_template("captions.html.j2")
        self._parts = template.module
        self._write(self._parts.head(title, subtitle))

    def add(self, name: str, captions: Sequence[str], thumbnail: str) -> None:
        """Write an image.

        :param captions: one or more
        :param thumbnail: a data URI
        """
        self._write(self._parts.entry(name, captions, thumbnail))

    def finish(self, skipped: Iterable[str]) -> None:
        """Write the end of the page, with a line for each image that could not be read."""
        self._write(self._parts.foot(list(skipped)))

    def _write(self, text: str) -> None:
        # A name of a file can hold bytes that are not UTF-8, and JSON lone surrogates.
        self._file.write(text.lstrip("\n").encode("utf-8", "replace"))
