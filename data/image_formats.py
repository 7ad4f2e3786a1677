"""Image formats that need more than Pillow does by itself."""

import ctypes
import importlib
import struct
from functools import cache
from pathlib import Path

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def without_png_text(content: bytes) -> bytes | None:
    """Return a PNG image without its text and its colour profile, which decoding does not use.

    Pillow refuses images with more than 1 MB of them. PNG specification, section 5.

    :returns: None if the content is not a PNG image, or its chunks are damaged
    """
    if not content.startswith(_PNG):
        return None
    parts, start = [_PNG], len(_PNG)
    while start < len(content):
        if start + 12 > len(content):
            return None
        length, kind = struct.unpack_from(">I4s", content, start)
        end = start + 12 + length
        if end > len(content):
            return None
        if kind not in _PNG_TEXT:
            parts.append(content[start:end])
        start = end
    return b"".join(parts)


def is_heif(content: bytes) -> bool:
    """Return whether the content starts as an HEIC or HEIF image does."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS


def register_heif(content: bytes) -> bool:
    """Make Pillow read HEIC images with the package pillow-heif, if it is installed.

    :returns: whether the content is such an image, and can now be read
    """
    if not is_heif(content):
        return False
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


@cache
def quiet_libtiff() -> None:
    """Stop libtiff from writing to stderr; Pillow raises the errors that matter."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:  # not Linux
        return
    libraries = {line.split()[-1] for line in maps.splitlines() if "libtiff" in line}
    for library in libraries:
        loaded = ctypes.CDLL(library)
        for function in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            getattr(loaded, function)(None)
