"""Keys of images: what a key may be, and files that list keys, one a line."""

import io
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np

MAX_KEY_BYTES = 4096

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_STARTS, _INNER, _ENDS = (string.ascii_letters + string.digits + "_").encode(), b".-", b"/\n"
# Of each byte: 0 if a part of a plain key may start with it, 1 if it may be inside, 2 if it ends a
# part, 3 if no plain key has it.
_CLASSES = bytes(
    next((n for n, known in enumerate((_STARTS, _INNER, _ENDS)) if byte in known), 3)
    for byte in range(256)
)
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\]")


def safe_key(name: str) -> str:
    """Return the key of an image: its relative name, "/" between folders, no "." or "//".

    :raises ValueError: the name could leave the image folder, or cannot be stored as UTF-8;
        the text of the error is the reason.
    """
    if _FORBIDDEN.search(name):
        raise ValueError("holds a control character or a backslash; write / between folders")
    if not is_unicode(name):
        raise ValueError("cannot be written as UTF-8")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or name[1:2] == ":" or ".." in parts:
        raise ValueError("leaves the image folder")
    if not parts:
        raise ValueError("names no file")
    return "/".join(parts)


def check_key(key: str) -> None:
    """Check that ``key`` is spelled as :func:`safe_key` returns it.

    :raises ValueError: it is not; the text of the error names the key.
    """
    if _PLAIN.fullmatch(key):  # most keys: a cache has very many
        return
    try:
        safe = safe_key(key)
    except ValueError as error:
        raise ValueError(f"key {key!r} {error}") from error
    if safe != key:
        raise ValueError(f"key {key!r} should be written {safe!r}")


def check_keys(keys: Sequence[str]) -> None:
    """Check the keys of one shard or of one import: each is valid, short enough, and unique.

    :raises ValueError: they are not; the text of the error names the first such key.
    """
    content = "".join(f"{key}\n" for key in keys).encode(errors="surrogatepass")
    if content.count(b"\n") != len(keys) or not _is_plain(content):
        for key in keys:
            check_key(key)
    _check_lengths(content)
    check_unique(content)


def is_key(key: str) -> bool:
    """Whether ``key`` is a valid key."""
    try:
        check_key(key)
    except ValueError:
        return False
    return True


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8 (it holds no lone surrogates)."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def format_key_list(keys: Iterable[str]) -> bytes:
    """Return the bytes of a key list: UTF-8, one key a line, each line ended by a newline."""
    return "".join(f"{key}\n" for key in keys).encode()


def parse_key_list(content: bytes) -> list[str]:
    """Return the keys of a key list that :func:`format_key_list` wrote.

    Bytes that are not UTF-8 become U+FFFD, so that no key equals the damaged one.
    """
    return content.decode(errors="replace").split("\n")[:-1]


def check_key_list(content: bytes, rows: int) -> None:
    """Check the bytes of the key list of a shard; whether a key occurs twice is not checked.

    :param rows: the number of keys
    :raises ValueError: they are not a key list of as many keys.
    """
    if not content.endswith(b"\n") or (count := content.count(b"\n")) != rows:
        found = f"{count} keys" if content.endswith(b"\n") else "its last line has no end"
        raise ValueError(f"{found}, the shard has {rows} rows")
    _check_lengths(content)
    if not _is_plain(content):
        for key in content.decode("utf-8").split("\n")[:-1]:
            check_key(key)


def check_unique(content: bytes) -> None:
    """Check that no key of a key list occurs twice.

    :raises ValueError: one does; the text of the error names the one that occurs most often.
    """
    keys = content.split(b"\n")[:-1]
    if len(set(keys)) != len(keys):
        repeated = Counter(keys).most_common(1)[0][0]
        raise ValueError(f"key {repeated.decode(errors='replace')} occurs twice")


def _is_plain(content: bytes) -> bool:
    """Whether all keys of a key list match ``_PLAIN``; fast, as a cache has very many keys."""
    classes = np.frombuffer((b"\n" + content).translate(_CLASSES), np.uint8)
    odd_starts = (classes[:-1] == 2) & (classes[1:] != 0)
    return not (odd_starts.any() or (classes == 3).any())


def _check_lengths(content: bytes) -> None:
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n"))
    longest = int(np.diff(ends, prepend=-1).max(initial=0)) - 1
    if longest > MAX_KEY_BYTES:
        raise ValueError(f"a key has {longest} bytes, at most {MAX_KEY_BYTES} are stored")


def read_key_list(file: BinaryIO) -> Iterator[bytes]:
    """Yield the keys of a key list, UTF-8, without holding more than one in memory.

    :raises ValueError: a line is longer than a key may be, or the last one is not ended.
    """
    lines = io.BufferedReader(file)  # type: ignore[type-var]
    try:
        while line := lines.readline(MAX_KEY_BYTES + 2):
            if not line.endswith(b"\n"):
                raise ValueError(f"a line of more than {MAX_KEY_BYTES} bytes, or without an end")
            yield line[:-1]
    finally:
        lines.detach()


def parse_key_file(content: bytes) -> list[str]:
    """Return the keys of a file that a user wrote: one a line, any line ends, UTF-8.

    :raises UnicodeDecodeError: the file is not UTF-8.
    """
    lines = content.decode("utf-8").removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]
