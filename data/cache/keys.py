"""Keys of images, and the lists of keys that a cache stores beside its shards."""

import re

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\]")


def safe_key(name: str) -> str:
    """Return the key of an image: its relative name, "/" between folders, no "." or "//".

    Raises ValueError, with the reason, for a name that could leave the image folder or
    that cannot be stored as UTF-8.
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
    """Raise ValueError unless ``key`` is as ``safe_key`` returns it."""
    if _PLAIN.fullmatch(key):  # as most are; a cache has very many
        return
    try:
        safe = safe_key(key)
    except ValueError as error:
        raise ValueError(f"key {key!r} {error}") from error
    if safe != key:
        raise ValueError(f"key {key!r} should be written {safe!r}")


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8 (it holds no lone surrogates)."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def parse_key_list(content: bytes) -> list[str]:
    """Return the keys of a key list whose bytes are trusted: one a line, each line ended."""
    return content.decode(errors="replace").split("\n")[:-1]


def is_key(key: str) -> bool:
    """Whether ``key`` can be an image's key."""
    try:
        check_key(key)
    except ValueError:
        return False
    return True
